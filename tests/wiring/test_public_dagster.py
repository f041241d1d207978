"""The product imports only Dagster's public names."""

from __future__ import annotations

import ast
from pathlib import Path

import pytest

PACKAGE = Path(__file__).resolve().parents[2] / "mlpipe_dagster"
MODULES = sorted(PACKAGE.rglob("*.py"))


def imported(module: Path) -> set[str]:
    """Return the full names of everything that a module imports, also within functions."""
    names = set()
    for node in ast.walk(ast.parse(module.read_text(encoding="utf-8"))):
        if isinstance(node, ast.Import):
            names |= {alias.name for alias in node.names}
        elif isinstance(node, ast.ImportFrom):
            names |= {f"{node.module}.{alias.name}" for alias in node.names}
    return names


@pytest.mark.parametrize("module", MODULES, ids=lambda module: str(module.relative_to(PACKAGE)))
def test_no_private_dagster_name_is_imported(module: Path) -> None:
    """A minor release of Dagster may change names that begin with an underscore."""
    private = {
        name
        for name in imported(module)
        if name.startswith("dagster") and any(part.startswith("_") for part in name.split("."))
    }
    assert private == set()
