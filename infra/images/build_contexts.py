"""Write a build context for each of a project's images: `mlpipe images`.

Each folder has a Dockerfile and all files that it copies, so building needs no checkout of the platform. The
folders of job images have the image's tag as their name.
"""

from __future__ import annotations

import argparse
import importlib.util
import os
import shutil
import sys
from pathlib import Path
from typing import TYPE_CHECKING

from infra.packaging import PLATFORM
from model_declaration.declaration_files import declarations_in
from model_declaration.job_requirements import family_files, needed_families
from model_declaration.project import Project
from prediction_contract.errors import ContractError

if TYPE_CHECKING:
    from collections.abc import Sequence

    from prediction_contract.jobs.job_image import JobImage

_DOCKERFILES = PLATFORM / "infra" / "images"
# The packages in Dagster's image. An installed `mlpipe_dagster` contains the others, which are not copied.
_PACKAGES = ("mlpipe", "mlpipe_dagster", "model_declaration", "prediction_contract")
_NOT_COPIED = shutil.ignore_patterns(
    *(
        "_platform",
        "__pycache__",
        ".git",
        ".mlpipe",
        # Accounts and networks, needed only for deployments.
        "stages.yaml",
        ".env*",
        ".venv*",
        "*.egg-info",
        ".*_cache",
        "node_modules",
    )
)
_INSTANCE = Path("instances") / "production.yaml"


class BuildContextError(ContractError):
    """An image's build context cannot be written."""


def write_build_contexts(project: Project, folder: Path) -> list[Path]:
    """Write the build contexts of all of a project's images, replacing old ones, and return their folders.

    Args:
        project: The project.
        folder: The folder to write them to.

    Raises:
        RequirementsError: A family is not locked, its lock file is outdated, or its name is reserved.
        BuildContextError: A file cannot be copied.
    """
    images = {}
    for family in dict.fromkeys([None, *needed_families(project, declarations_in(project.defs).values())]):
        files = family_files(project.requirements, PLATFORM, family)
        images[files.image()] = files.lock
    shutil.rmtree(folder, ignore_errors=True)
    try:
        return [
            _write_dagster(project, folder / "dagster"),
            *(
                _write_jobs(project, image, lock, folder / "jobs" / image.tag)
                for image, lock in images.items()
            ),
        ]
    except (OSError, shutil.Error) as error:
        raise BuildContextError(
            f"{folder} cannot be written: {error}", remedy="Fix the cause, then run `mlpipe images` again"
        ) from error


def _write_jobs(project: Project, image: JobImage, lock: Path, folder: Path) -> Path:
    folder.mkdir(parents=True)
    shutil.copy(lock, folder / "requirements.lock")
    text = _dockerfile(project, "jobs").read_text(encoding="utf-8")
    # Built without arguments, this gives the image whose tag is the folder's name.
    (folder / "Dockerfile").write_text(text.replace("ARG PACKAGES\n", f"ARG PACKAGES={image.tag}\n"))
    return folder


def _write_dagster(project: Project, folder: Path) -> Path:
    platform, home = folder / "platform", folder / "home"
    for name in _PACKAGES:
        shutil.copytree(_package(name), platform / name, ignore=_NOT_COPIED)
    (platform / "requirements").mkdir()
    shutil.copy(PLATFORM / "requirements" / "scoring.lock", platform / "requirements")
    shutil.copytree(project.root, folder / "project", ignore=_NOT_COPIED)
    shutil.copy(PLATFORM / "requirements" / "runtime.lock", folder / "requirements.lock")
    home.mkdir()
    shutil.copy(_package("mlpipe_dagster") / _INSTANCE, home / "dagster.yaml")
    for name in ("workspace.yaml", "aws_config"):
        shutil.copy(_DOCKERFILES / "dagster" / name, home)
    text = _dockerfile(project, "dagster").read_text(encoding="utf-8")
    if project.source_folder == project.root:
        text = text.replace("/opt/mlpipe/project/src", "/opt/mlpipe/project")
    (folder / "Dockerfile").write_text(text, encoding="utf-8")
    return folder


def _dockerfile(project: Project, kind: str) -> Path:
    """Return the project's own Dockerfile of a kind, or the platform's."""
    own = project.root / "images" / f"{kind}.Dockerfile"
    return own if own.is_file() else _DOCKERFILES / kind / "Dockerfile"


def _package(name: str) -> Path:
    found = importlib.util.find_spec(name)
    if found is None or found.origin is None:
        raise BuildContextError(f"The package {name} is not installed", remedy="Install mlpipe again")
    return Path(found.origin).parent


def main(arguments: Sequence[str] | None = None) -> int:
    """Write the folders and print their paths."""
    parser = argparse.ArgumentParser(prog="mlpipe images", description=(__doc__ or "").partition("\n")[0])
    parser.parse_args(arguments)
    try:
        project = Project.find(os.environ, Path.cwd())
        for folder in write_build_contexts(project, project.make_state_folder() / "images"):
            sys.stdout.write(f"{folder}\n")
    except ContractError as error:
        sys.stderr.write(f"mlpipe images: {error}\n")
        return 1
    return 0


if __name__ == "__main__":
    sys.exit(main())
