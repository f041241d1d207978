"""The platform as it is installed: where its own folders lie, and whether its version suits a project."""

from __future__ import annotations

from collections.abc import Mapping
from pathlib import Path

from model_declaration.project import MARKER, VARIABLE, Project, ProjectError

VERSION = "0.1.0"
_BESIDE = Path(__file__).resolve().parent
# The folders that are no packages of an installation: jobs, stacks, lock files. An installed wheel keeps them
# inside this package, because a user's repository may well have a folder that is called `infra`.
PLATFORM = _BESIDE / "_platform" if (_BESIDE / "_platform").is_dir() else _BESIDE.parent


# As `infra.environments.environment_cache` reads them.
_CACHE_VARIABLES = ("MLPIPE_CACHE", "XDG_CACHE_HOME")


def program_environment(project: Project, variables: Mapping[str, str]) -> dict[str, str]:
    """Return the environment of a program of the platform, which runs in the platform's folder.

    Args:
        project: Whom it is about.
        variables: Such as `os.environ`; their paths are relative to the present folder.
    """
    absolute = {
        name: str(Path(variables[name]).resolve()) for name in _CACHE_VARIABLES if variables.get(name)
    }
    environment = {**variables, **absolute, VARIABLE: str(project.root)}
    # The program's packages lie in the folder it runs in.
    environment.pop("PYTHONSAFEPATH", None)
    return environment


def require_suitable_platform(project: Project) -> None:
    """Do nothing if the installed platform's version is one that a project works with.

    Raises:
        ProjectError: It is another, or the project's `requires` is no version specifier.
    """
    if project.requires is None:
        return
    # It takes a while to import, and most commands end before that.
    from packaging.specifiers import InvalidSpecifier, SpecifierSet  # noqa: PLC0415

    place = f"{project.root / MARKER} [tool.mlpipe] requires"
    try:
        suitable = SpecifierSet(project.requires)
    except InvalidSpecifier as error:
        raise ProjectError(
            f"{place}: {project.requires!r} is no version specifier", remedy='Write it as ">=1,<2"'
        ) from error
    if not suitable.contains(VERSION, prereleases=True):
        raise ProjectError(
            f"{place}: the project works with mlpipe {project.requires}, and {VERSION} is installed",
            remedy="Install another version of mlpipe, or change `requires` once the project's tests pass",
        )
