"""Create environments that do not exist, and print the path of each one's Python.

The names are the platform's environments (`cdk-cli` is `cdk` with the CDK's command line), `base` and the
project's own families of packages.
"""

from __future__ import annotations

import argparse
import os
import sys
from pathlib import Path

from infra.environments.environment_cache import MadeEnvironment, cache_folder, make_environment
from infra.environments.platform_environments import (
    LOCKS,
    make_cdk_tools,
    make_platform_environment,
)
from infra.packaging import PLATFORM
from model_declaration.job_requirements import family_files
from model_declaration.project import Project
from prediction_contract.errors import ContractError

_CDK_TOOLS = "cdk-cli"


def main() -> int:
    """Make the named environments; print the Python or the folder of each."""
    parser = argparse.ArgumentParser(prog="python -m infra.environments", description=__doc__)
    parser.add_argument(
        "name", nargs="+", help=f"{', '.join(LOCKS)}, {_CDK_TOOLS} or a family of the project"
    )
    shown = parser.add_mutually_exclusive_group()
    shown.add_argument("--folder", action="store_true", help="print the environment's folder")
    shown.add_argument("--path", action="store_true", help="print the folders of its programs, for PATH")
    options = parser.parse_args()
    try:
        for name in options.name:
            made, programs = _made(name, cache_folder(os.environ))
            path = os.pathsep.join(map(str, programs))
            sys.stdout.write(f"{made.folder if options.folder else path if options.path else made.python}\n")
    except ContractError as error:
        sys.stderr.write(f"mlpipe environment: {error}\n")
        return 1
    except KeyboardInterrupt:
        sys.stderr.write("mlpipe environment: interrupted. Incomplete environments are not used.\n")
        return 130
    return 0


def _made(name: str, cache: Path) -> tuple[MadeEnvironment, list[Path]]:
    """Return an environment and the folders of its programs."""
    if name == _CDK_TOOLS:
        tools = make_cdk_tools(cache, say=_say)
        return tools.environment, [tools.node, tools.program.parent]
    if name in LOCKS:
        made = make_platform_environment(name, cache, say=_say)
    else:
        files = family_files(Project.find(os.environ, Path.cwd()).requirements, PLATFORM, name)
        files.image()
        made = make_environment(files.lock, cache, say=_say)
    return made, [made.python.parent]


def _say(text: str) -> None:
    sys.stderr.write(f"{text}\n")


if __name__ == "__main__":
    sys.exit(main())
