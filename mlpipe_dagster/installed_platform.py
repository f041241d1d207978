"""The installed platform: its folders, and whether its version suits a project."""

from __future__ import annotations

from collections.abc import Mapping
from pathlib import Path

from model_declaration.project import MARKER, VARIABLE, Project, ProjectError

VERSION = "0.2.0"
_BESIDE = Path(__file__).resolve().parent
# The folder of parts that are not installed as packages: jobs, stacks, lock files. A wheel keeps them inside
# this package, because a user's repository may also have a folder named `infra`.
PLATFORM = _BESIDE / "_platform" if (_BESIDE / "_platform").is_dir() else _BESIDE.parent


# The variables that `infra.environments.environment_cache` reads.
_CACHE_VARIABLES = ("MLPIPE_CACHE", "XDG_CACHE_HOME")


def program_environment(project: Project, variables: Mapping[str, str]) -> dict[str, str]:
    """Return the environment for a program of the platform, which runs in the platform's folder.

    Args:
        project: The project that the program works on.
        variables: The current environment; the relative paths of caches in it become absolute.
    """
    absolute = {
        name: str(Path(variables[name]).resolve()) for name in _CACHE_VARIABLES if variables.get(name)
    }
    environment = {**variables, **absolute, VARIABLE: str(project.root)}
    # Python must find the program's packages in the folder in which it runs.
    environment.pop("PYTHONSAFEPATH", None)
    return environment


def require_suitable_platform(project: Project) -> None:
    """Check that the installed platform's version suits a project.

    Raises:
        ProjectError: The version does not suit, or the project's `requires` is not a version specifier.
    """
    if project.requires is None:
        return
    # Imported here, because the import is slow and most calls return before.
    from packaging.specifiers import InvalidSpecifier, SpecifierSet  # noqa: PLC0415

    place = f"{project.root / MARKER} [tool.mlpipe] requires"
    try:
        suitable = SpecifierSet(project.requires)
    except InvalidSpecifier as error:
        raise ProjectError(
            f"{place}: {project.requires!r} is not a version specifier", remedy='Write it as ">=1,<2"'
        ) from error
    if not suitable.contains(VERSION, prereleases=True):
        raise ProjectError(
            f"{place}: the project needs mlpipe {project.requires}, but {VERSION} is installed",
            remedy="Install another version of mlpipe, or change `requires` once the project's tests pass",
        )
