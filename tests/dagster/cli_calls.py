"""The `mlpipe` command as a test calls it: in this process, on a model that the test declares."""

from __future__ import annotations

import json
from dataclasses import dataclass
from pathlib import Path
from typing import Any

import pytest
import yaml

from mlpipe_dagster.cli.deployment_access import DeploymentAccess
from mlpipe_dagster.cli.main import main
from model_declaration.declaration_files import COMPONENT
from model_declaration.project import Project
from tests.dagster.small_model import attributes


@dataclass(frozen=True, slots=True)
class Told:
    """What a command left: its exit status, its standard output and standard error."""

    status: int
    out: str
    err: str

    @property
    def document(self) -> Any:
        """The printed JSON."""
        return json.loads(self.out)


@dataclass(frozen=True, slots=True)
class CommandLine:
    """Runs commands on models declared in a project of the test's own."""

    project: Project
    capture: pytest.CaptureFixture[str]

    def declare(self, model: str, /, **changes: Any) -> None:
        """Declare a model; as `small_model.attributes` unless changed."""
        self.declare_in(self.project.defs / model, **changes)

    @staticmethod
    def declare_in(place: Path, **changes: Any) -> None:
        """Declare a model in the folder that bears its name."""
        place.mkdir(parents=True, exist_ok=True)
        with (place / "defs.yaml").open("w", encoding="utf-8") as declared:
            yaml.safe_dump({"type": COMPONENT, "attributes": attributes(**changes)}, declared)

    def __call__(self, *arguments: str) -> Told:
        """Run a command as a person types it."""
        self.capture.readouterr()
        status = main(arguments, DeploymentAccess(self.project))
        printed = self.capture.readouterr()
        return Told(status, printed.out, printed.err)

    def json(self, *arguments: str) -> Told:
        """Run a command as a program does."""
        return self(*arguments, "--json")
