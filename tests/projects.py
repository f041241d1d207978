"""This repository's example project, and new projects that tests make."""

from __future__ import annotations

from pathlib import Path

from model_declaration.project import Project

EXAMPLE = Project.at(Path(__file__).resolve().parents[1])
_MARKER = """[project]
name = "{package}"

[tool.dg]
directory_type = "project"

[tool.dg.project]
root_module = "{package}"

[tool.mlpipe]
"""


def new_project(root: Path, package: str = "acme") -> Project:
    """Write a project without models and return it."""
    defs = root / "src" / package / "defs"
    defs.mkdir(parents=True)
    (root / "pyproject.toml").write_text(_MARKER.format(package=package))
    for folder in (defs, defs.parent):
        (folder / "__init__.py").write_text("")
    (defs.parent / "definitions.py").write_text(
        "from mlpipe import definitions\n\ndefs = definitions(__file__)\n"
    )
    return Project.at(root)
