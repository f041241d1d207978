"""Tests run the `mlpipe` command in this process on models that they declare."""

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
    """The exit status, standard output and standard error of a command."""

    status: int
    out: str
    err: str

    @property
    def document(self) -> Any:
        """Return the printed JSON."""
        return json.loads(self.out)


@dataclass(frozen=True, slots=True)
class CommandLine:
    """Runs commands on models declared in a test's own project."""

    project: Project
    capture: pytest.CaptureFixture[str]

    def declare(self, model: str, /, **changes: Any) -> None:
        """Declare a model with `small_model.attributes`, changed as given."""
        self.declare_in(self.project.defs / model, **changes)

    @staticmethod
    def declare_in(place: Path, **changes: Any) -> None:
        """Declare a model in the folder with its name."""
        place.mkdir(parents=True, exist_ok=True)
        with (place / "defs.yaml").open("w", encoding="utf-8") as declared:
            yaml.safe_dump({"type": COMPONENT, "attributes": attributes(**changes)}, declared)

    def __call__(self, *arguments: str) -> Told:
        """Run a command as a person would."""
        self.capture.readouterr()
        status = main(arguments, DeploymentAccess(self.project))
        printed = self.capture.readouterr()
        return Told(status, printed.out, printed.err)

    def json(self, *arguments: str) -> Told:
        """Run a command with JSON output, as a program would."""
        return self(*arguments, "--json")
