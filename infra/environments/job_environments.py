"""The environments that stand in for the images of jobs on this machine, and the list of those that exist."""

from __future__ import annotations

import json
from typing import TYPE_CHECKING

from infra.environments.environment_cache import make_environment
from infra.packaging import PLATFORM
from model_declaration.job_requirements import family_files

if TYPE_CHECKING:
    from collections.abc import Callable, Iterable
    from pathlib import Path

    from model_declaration.project import Project


def make_job_environments(
    project: Project, families: Iterable[str | None], cache: Path, *, say: Callable[[str], None]
) -> dict[str, Path]:
    """Return the environment's folder of each family's image by the image's tag; the base is always there.

    Args:
        project: Whose.
        families: Those that its models name; None for a model without requirements.
        cache: As `cache_folder` gives it.
        say: Is told when packages are installed.

    Raises:
        RequirementsError: A family is not locked, or no longer as it is declared.
        EnvironmentMakingError: An environment cannot be made.
    """
    made = {}
    for family in dict.fromkeys([None, *families]):
        files = family_files(project.requirements, PLATFORM, family)
        # All is judged before anything is installed that the next fault makes useless.
        made[files.image().tag] = files.lock
    return {tag: make_environment(lock, cache, say=say).folder for tag, lock in made.items()}


def images_document(repository: str, environments: dict[str, Path]) -> bytes:
    """Return what tells the job executor which images exist, as a registry of images would.

    Args:
        repository: The address of the jobs' repository.
        environments: As `make_job_environments` gives them.
    """
    images = {
        f"{repository}:{tag}": {"packages": tag, "environment": str(folder)}
        for tag, folder in environments.items()
    }
    return json.dumps({"images": images}, indent=1, sort_keys=True).encode()
