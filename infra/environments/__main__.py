"""Make an environment if it is not there, and print its Python: `python -m infra.environments stack`.

The names are `stack`, `cdk` (with the CDK's command line: `cdk-cli`), `base` and the project's own families.
"""

from __future__ import annotations

import argparse
import os
import sys
from pathlib import Path

from infra.environments.environment_cache import cache_folder, make_environment
from infra.environments.platform_environments import (
    LOCKS,
    PLATFORM,
    make_cdk_tools,
    make_platform_environment,
)
from model_declaration.job_requirements import family_files
from model_declaration.project import Project
from prediction_contract.errors import ContractError

_CDK_TOOLS = "cdk-cli"


def main() -> int:
    """Make the named environments; print the Python, or the folder, of each."""
    parser = argparse.ArgumentParser(prog="python -m infra.environments", description=__doc__)
    parser.add_argument(
        "name", nargs="+", help=f"{', '.join(LOCKS)}, {_CDK_TOOLS} or a family of the project"
    )
    parser.add_argument("--folder", action="store_true", help="print the environment's folder")
    options = parser.parse_args()
    try:
        for name in options.name:
            made = _made(name, cache_folder(os.environ))
            sys.stdout.write(f"{made.parents[1] if options.folder else made}\n")
    except ContractError as error:
        sys.stderr.write(f"{error}\n")
        return 1
    return 0


def _made(name: str, cache: Path) -> Path:
    if name == _CDK_TOOLS:
        return make_cdk_tools(cache, say=_say).environment.python
    if name in LOCKS:
        return make_platform_environment(name, cache, say=_say).python
    files = family_files(Project.find(os.environ, Path.cwd()), PLATFORM, name)
    files.image()
    return make_environment(files.lock, cache, say=_say).python


def _say(text: str) -> None:
    sys.stderr.write(f"{text}\n")


if __name__ == "__main__":
    sys.exit(main())
