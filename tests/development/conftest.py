"""Fixtures: copies of the test projects."""

from __future__ import annotations

from typing import TYPE_CHECKING

import pytest

from tests.development.copied_projects import CopiedProject

if TYPE_CHECKING:
    from pathlib import Path


@pytest.fixture
def first(tmp_path: Path) -> CopiedProject:
    """A copy of the frozen project `first`, which a test may change."""
    return CopiedProject.of("first", tmp_path)
