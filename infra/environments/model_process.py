"""Run a module of the platform in the environment of a model's jobs, with the project's own package.

    python -m infra.environments.model_process base sagemaker_scripts.try_model request.json answer.json

The family is `base` or one of the project's. The environment is made if it does not exist. The project's
folder is on Python's path, so edited code runs at once.
"""

from __future__ import annotations

import os
import sys
from pathlib import Path
from typing import NoReturn

from infra.environments.environment_cache import cache_folder, make_environment
from infra.environments.platform_environments import PLATFORM, import_path
from model_declaration.job_requirements import family_files
from model_declaration.project import Project
from prediction_contract.errors import ContractError


def main(arguments: list[str]) -> NoReturn:
    """Replace this process by the requested module; exit with 1 if its environment cannot be made."""
    family, module, *others = arguments
    try:
        project = Project.find(os.environ, Path.cwd())
        files = family_files(project.requirements, PLATFORM, family)
        # Refuses an outdated lock file before its packages are installed.
        files.image()
        cache = cache_folder(os.environ)
        python = make_environment(files.lock, cache, say=_say).python
        path = os.pathsep.join([import_path(cache), str(project.source_folder)])
    except ContractError as error:
        sys.exit(str(error))
    environment = {**os.environ, "PYTHONPATH": path}
    os.execve(python, [str(python), "-m", module, *others], environment)  # noqa: S606  # no shell is wanted


def _say(text: str) -> None:
    sys.stderr.write(f"{text}\n")


if __name__ == "__main__":
    main(sys.argv[1:])
