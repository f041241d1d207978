"""Environments that replace the images of jobs on this machine, and the document that lists them."""

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
    """Return the environment folders of the families' images by image tag, the base family's included.

    Args:
        project: The project.
        families: The families of its models; None for a model without requirements.
        cache: The folder returned by `cache_folder`.
        say: Receives a message when packages are installed.

    Raises:
        RequirementsError: A family is not locked, or its lock file is outdated.
        EnvironmentCreationError: An environment cannot be made.
    """
    made = {}
    for family in dict.fromkeys([None, *families]):
        files = family_files(project.requirements, PLATFORM, family)
        # Checks all lock files before anything is installed.
        made[files.image().tag] = files.lock
    return {tag: make_environment(lock, cache, say=say).folder for tag, lock in made.items()}


def images_document(repository: str, environments: dict[str, Path]) -> bytes:
    """Return the document that tells the job executor which images exist.

    Args:
        repository: The address of the jobs' repository.
        environments: The result of `make_job_environments`.
    """
    images = {
        f"{repository}:{tag}": {"packages": tag, "environment": str(folder)}
        for tag, folder in environments.items()
    }
    return json.dumps({"images": images}, indent=1, sort_keys=True).encode()
