"""Write lock files of one small package each, copied from the project's own lock files."""

from __future__ import annotations

import re
from pathlib import Path
from typing import TYPE_CHECKING

from model_declaration.job_requirements import family_files

if TYPE_CHECKING:
    from model_declaration.project import Project

ROOT = Path(__file__).resolve().parents[3]


def locked(package: str, lock: str = "dev") -> str:
    """Return a package's entry, with its hashes, from a lock file of the repository."""
    text = (ROOT / "requirements" / f"{lock}.lock").read_text(encoding="utf-8")
    found = re.search(rf"^{re.escape(package)}==.*(?:\n    .*)*\n", text, re.MULTILINE)
    assert found is not None, f"{package} is not in {lock}.lock"
    return found[0]


def write_lock(folder: Path, package: str) -> Path:
    """Write a lock file of one package."""
    path = folder / f"{package}.lock"
    path.write_text(locked(package), encoding="utf-8")
    return path


def write_stale_lock(project: Project, family: str) -> None:
    """Write a family's requirements and lock, then change the requirements without locking them again."""
    files = family_files(project.requirements, ROOT, family)
    files.declared.parent.mkdir(exist_ok=True)
    files.declared.write_text("sortedcontainers\n", encoding="utf-8")
    files.lock.write_text(f"{files.head()}{locked('sortedcontainers')}", encoding="utf-8")
    assert files.image()
    files.declared.write_text("sortedcontainers\nsix\n", encoding="utf-8")
