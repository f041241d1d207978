"""A folder of models appears as the package that a project keeps them in."""

from __future__ import annotations

from types import ModuleType
from typing import TYPE_CHECKING

if TYPE_CHECKING:
    from pathlib import Path


def package_of(folder: Path) -> ModuleType:
    """Return a package whose modules are in a folder."""
    package = ModuleType("models")
    package.__path__ = [str(folder)]
    package.__file__ = None
    return package
