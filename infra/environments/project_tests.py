"""`mlpipe test`: runs a project's tests, a model's tests in the environment of its jobs.

`tests/test_<model>.py` runs with the packages of the model's `requirements`. All other files run with the
packages installed with the platform and the project. Neither environment needs pytest, which has a separate
environment. The project's sample data are first written to `.mlpipe/sample_data`.
"""

from __future__ import annotations

import os
import subprocess
import sys
from dataclasses import dataclass
from pathlib import Path
from typing import TYPE_CHECKING

from infra.environments.environment_cache import cache_folder, make_environment
from infra.environments.platform_environments import import_path, make_platform_environment
from infra.packaging import PLATFORM
from model_declaration.declaration_files import written_attributes
from model_declaration.declared_models import declared_names
from model_declaration.job_requirements import family_files
from model_declaration.project import MARKER, VARIABLE, Project
from model_declaration.sample_data import sample_data_folder
from prediction_contract.errors import ContractError
from prediction_contract.jobs.job_image import BASE_FAMILY

if TYPE_CHECKING:
    from collections.abc import Sequence

# pytest's exit status if options such as `-k` select no test.
_NOTHING_SELECTED = 5
_INTERRUPTED = 130


class NoTestsError(ContractError):
    """A project has no tests to run."""


@dataclass(frozen=True, slots=True)
class GroupOfTests:
    """Tests that run in one environment.

    Attributes:
        family: The requirements of the tested models; None for tests that belong to no model.
        selected: Files, or tests in pytest's notation.
    """

    family: str | None
    selected: tuple[str, ...]


def groups_of_tests(project: Project, selected: Sequence[str]) -> list[GroupOfTests]:
    """Return the tests by environment, first those that belong to no model.

    Args:
        project: The project.
        selected: Files, folders, or tests in pytest's notation; none for all of the project's tests.

    Raises:
        NoTestsError: There are no tests.
    """
    names = selected or [str(project.root / "tests")]
    found: dict[str | None, list[str]] = {}
    for name in names:
        path, separator, rest = name.partition("::")
        files = sorted(Path(path).rglob("test_*.py")) if Path(path).is_dir() else [Path(path)]
        for file in files:
            found.setdefault(_family(project, file), []).append(f"{file}{separator}{rest}")
    if not found:
        raise NoTestsError(
            f"There are no tests in {', '.join(names)}", remedy="Create tests/test_<model>.py for a model"
        )
    return [
        GroupOfTests(family, tuple(found[family])) for family in sorted(found, key=lambda name: name or "")
    ]


def _family(project: Project, file: Path) -> str | None:
    model = file.stem.removeprefix("test_")
    if model not in declared_names(project.defs):
        return None
    return str(written_attributes(model, project.defs).get("requirements") or BASE_FAMILY)


def run_group(project: Project, group: GroupOfTests, options: Sequence[str]) -> int:
    """Run tests and return pytest's exit status.

    Args:
        project: The project.
        group: The tests.
        options: Further arguments for pytest.

    Raises:
        ContractError: The environment cannot be made, or its lock file is outdated.
    """
    cache = cache_folder(os.environ)
    path = [str(project.source_folder), str(make_platform_environment("pytest", cache, say=_say).packages)]
    python = sys.executable
    if group.family is not None:
        files = family_files(project.requirements, PLATFORM, group.family)
        files.image()
        python = str(make_environment(files.lock, cache, say=_say).python)
        path.append(import_path(cache))
    environment = {**os.environ, VARIABLE: str(project.root), "PYTHONPATH": os.pathsep.join(path)}
    environment.pop("PYTHONSAFEPATH", None)
    command = [python, "-m", "pytest", "-c", str(project.root / MARKER)]
    command += ["-o", f"cache_dir={project.state_folder / 'pytest_cache'}", *options, *group.selected]
    return subprocess.run(command, cwd=project.root, env=environment, check=False).returncode


def main(arguments: Sequence[str]) -> int:
    """Run the selected tests, or all; return 0 if all pass.

    Args:
        arguments: Files, folders or tests, and options of pytest.
    """
    # Files are absolute paths, because this process runs in another folder than the user's command.
    selected = [each for each in arguments if _is_file_or_folder(each.partition("::")[0])]
    options = [each for each in arguments if each not in selected]
    statuses = []
    try:
        project = Project.find(os.environ, Path.cwd())
        project.make_state_folder()
        if project.sample_data is not None:
            # Make them here, since the environment of jobs may lack the packages for it.
            sample_data_folder(project)
        for group in groups_of_tests(project, selected):
            place = "the platform's environment" if group.family is None else f"environment {group.family}"
            sys.stdout.write(f"Tests in {place}:\n")
            sys.stdout.flush()
            statuses.append(run_group(project, group, options))
    except ContractError as error:
        sys.stderr.write(f"mlpipe test: {error}\n")
        return 1
    except KeyboardInterrupt:
        return _INTERRUPTED
    return next((status for status in statuses if status not in (0, _NOTHING_SELECTED)), min(statuses))


def _is_file_or_folder(text: str) -> bool:
    path = Path(text)
    return path.is_absolute() and path.exists()


def _say(text: str) -> None:
    sys.stderr.write(f"{text}\n")


if __name__ == "__main__":
    sys.exit(main(sys.argv[1:]))
