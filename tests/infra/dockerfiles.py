"""Read a Dockerfile as text, because no image can be built where the tests run."""

from __future__ import annotations

from typing import TYPE_CHECKING

if TYPE_CHECKING:
    from pathlib import Path


def instructions(dockerfile: Path, name: str) -> list[str]:
    """Return the arguments of all instructions of this name."""
    lines = dockerfile.read_text(encoding="utf-8").replace("\\\n", " ").splitlines()
    return [line.split(maxsplit=1)[1] for line in lines if line.startswith(f"{name} ")]


def environment_variables(dockerfile: Path) -> dict[str, str]:
    """Return the variables that the image sets."""
    words = " ".join(instructions(dockerfile, "ENV")).split()
    return dict(word.split("=", 1) for word in words)
