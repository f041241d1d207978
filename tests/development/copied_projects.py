"""Copies of the test projects, so that tests write nothing into the originals."""

from __future__ import annotations

import json
import shutil
from dataclasses import dataclass
from pathlib import Path
from typing import TYPE_CHECKING, Any

from mlpipe_dagster.cli.deployment_access import DeploymentAccess
from mlpipe_dagster.cli.main import main
from model_declaration.project import Project

if TYPE_CHECKING:
    import pytest

ROOT = Path(__file__).resolve().parents[2]
PROJECTS = ROOT / "tests" / "projects"


@dataclass(frozen=True, slots=True)
class CopiedProject:
    """A copy of one of the projects, which a test may change.

    Attributes:
        project: The copy.
    """

    project: Project

    @classmethod
    def of(cls, name: str, folder: Path) -> CopiedProject:
        """Copy a project into a folder."""
        copied = shutil.copytree(
            PROJECTS / name, folder / name, ignore=shutil.ignore_patterns(".*", "__pycache__")
        )
        return cls(Project.at(copied))

    def write(self, path: str, content: str) -> None:
        """Write a file in the project's package."""
        target = self.project.package_folder / path
        target.parent.mkdir(parents=True, exist_ok=True)
        target.write_text(content, encoding="utf-8")

    def change(self, path: str, old: str, new: str) -> None:
        """Replace a text that must occur in a file of the package."""
        content = (self.project.package_folder / path).read_text(encoding="utf-8")
        assert old in content
        self.write(path, content.replace(old, new))

    def json(self, capture: pytest.CaptureFixture[str], *arguments: str) -> tuple[int, Any]:
        """Run an `mlpipe` command with `--json` and return its exit status and its parsed output."""
        capture.readouterr()
        status = main([*arguments, "--json"], DeploymentAccess(self.project))
        printed = capture.readouterr()
        assert printed.out, printed.err
        return status, json.loads(printed.out)
