"""Write the lock files of a project's requirements, each a complete environment for jobs: `mlpipe lock`.

uv receives the platform's lock file as a requirement, so a family cannot change the platform's pins.
"""

from __future__ import annotations

import argparse
import os
import shutil
import sys
import tempfile
from pathlib import Path
from typing import TYPE_CHECKING

import uv

from infra.environments.environment_cache import run_installer
from infra.packaging import PLATFORM
from model_declaration.job_requirements import declared_families, family_files, refuse_platform_family
from model_declaration.project import Project
from prediction_contract.errors import ContractError
from prediction_contract.jobs.code_digest import PYTHON_VERSION

if TYPE_CHECKING:
    from collections.abc import Sequence

    from model_declaration.job_requirements import FamilyFiles

_COMPILING_SECONDS = 300
_REMEDY = "Resolve conflicting requirements, check that the package registry answers, then run this again"


def lock_family(files: FamilyFiles, *, upgrade: bool = False) -> bool:
    """Make a family's lock file from its declared packages and the platform's lock file.

    Args:
        files: The family's files.
        upgrade: Whether its pins move to the newest releases. Otherwise pins stay if they still fit.

    Returns:
        Whether the lock file changed.

    Raises:
        RequirementsError: The family is the platform's own, or has no declared packages.
        EnvironmentCreationError: The packages conflict, or the registry does not answer.
    """
    refuse_platform_family(files.family)
    head = files.head()
    with tempfile.TemporaryDirectory(dir=files.lock.parent, prefix=f".{files.family}-") as scratch:
        draft = Path(scratch) / files.lock.name
        if files.lock.is_file() and not upgrade:
            # uv keeps the pins of an existing output file if they still fit.
            shutil.copy(files.lock, draft)
        command = [uv.find_uv_bin(), "pip", "compile", "--quiet", "--universal"]
        command += ["--python-version", PYTHON_VERSION, "--generate-hashes"]
        # The lock file must not depend on the package index.
        command += ["--no-emit-index-url", "--no-header", "--no-annotate"]
        command += [str(files.platform_lock), str(files.declared), "--output-file", str(draft)]
        what = f"The packages of {files.declared} cannot be locked"
        run_installer(command, what, folder=files.declared.parent, seconds=_COMPILING_SECONDS, remedy=_REMEDY)
        content = head.encode() + draft.read_bytes()
        if files.lock.is_file() and files.lock.read_bytes() == content:
            return False
        draft.write_bytes(content)
        draft.replace(files.lock)
    return True


def main(arguments: Sequence[str] | None = None) -> int:
    """Lock the named families, or all of the project's."""
    parser = argparse.ArgumentParser(prog="mlpipe lock", description=(__doc__ or "").partition("\n")[0])
    parser.add_argument("family", nargs="*", help="name of a file requirements/<family>.in; default: all")
    parser.add_argument("--upgrade", action="store_true", help="move pins to the newest allowed releases")
    options = parser.parse_args(arguments)
    try:
        project = Project.find(os.environ, Path.cwd())
        families = options.family or declared_families(project)
        if not families:
            sys.stdout.write(f"{project.requirements} has no .in file, so there is nothing to lock.\n")
        for family in families:
            files = family_files(project.requirements, PLATFORM, family)
            changed = lock_family(files, upgrade=options.upgrade)
            sys.stdout.write(f"{files.lock}: {'updated' if changed else 'unchanged'}\n")
    except ContractError as error:
        sys.stderr.write(f"mlpipe lock: {error}\n")
        return 1
    except OSError as error:
        sys.stderr.write(
            f"mlpipe lock: {error}. Free disk space or make the folder writable, then run this again.\n"
        )
        return 1
    except KeyboardInterrupt:
        sys.stderr.write("mlpipe lock: interrupted. Every lock file is complete.\n")
        return 130
    return 0


if __name__ == "__main__":
    sys.exit(main())
