"""A Dockerfile read as text: no image can be built where tests run."""

from __future__ import annotations

import subprocess
from typing import TYPE_CHECKING

from infra.packaging import PLATFORM

if TYPE_CHECKING:
    from pathlib import Path


def instructions(dockerfile: Path, name: str) -> list[str]:
    """Return the arguments of the instructions of a name."""
    lines = dockerfile.read_text(encoding="utf-8").replace("\\\n", " ").splitlines()
    return [line.split(maxsplit=1)[1] for line in lines if line.startswith(f"{name} ")]


def copied_files(dockerfile: Path) -> dict[str, str]:
    """Return what the image copies of the project: the path there, and the path here."""
    return {line.split()[-1]: line.split()[-2] for line in instructions(dockerfile, "COPY")}


def environment_variables(dockerfile: Path) -> dict[str, str]:
    """Return the variables that the image sets."""
    words = " ".join(instructions(dockerfile, "ENV")).split()
    return dict(word.split("=", 1) for word in words)


def is_tracked(source: str) -> bool:
    """Tell whether a file or folder of the project is in the repository."""
    listed = subprocess.run(
        ["git", "ls-files", "--error-unmatch", source],
        cwd=PLATFORM,
        capture_output=True,
        timeout=30,
        check=False,
    )
    return listed.returncode == 0
