"""`dg` and `dagster` list, scaffold and check models in a project, and report errors with their place."""

from __future__ import annotations

import json
import os
import shutil
import subprocess
from pathlib import Path

import pytest

from tests.projects import EXAMPLE

ROOT = Path(__file__).resolve().parents[2]
COMPONENT = "mlpipe.PredictionPipeline"

pytestmark = pytest.mark.slow


@pytest.fixture
def project(tmp_path: Path) -> Path:
    """A copy of the example to which tests add models."""
    return shutil.copytree(
        EXAMPLE.root, tmp_path / "project", ignore=shutil.ignore_patterns("__pycache__", ".mlpipe")
    )


def command(project: Path, *words: str, home: Path | None = None) -> subprocess.CompletedProcess[str]:
    """Run a command in a project's folder, with the project's package first on the path."""
    return subprocess.run(
        [str(ROOT / ".venv" / "bin" / words[0]), *words[1:]],
        cwd=project,
        env={
            **os.environ,
            "PYTHONPATH": str(project / "src"),
            "DAGSTER_HOME": str(home or project),
            "COLUMNS": "200",
        },
        stdout=subprocess.PIPE,
        stderr=subprocess.STDOUT,
        text=True,
        timeout=250,
        check=False,
    )


def assets(project: Path) -> set[str]:
    """Return the asset keys that `dg list defs` shows."""
    done = command(project, "dg", "list", "defs", "--json")
    assert done.returncode == 0, done.stdout
    document = json.loads(done.stdout[done.stdout.index("{") :])
    return {each["asset_key"] for each in document["assets"]}


def test_scaffolded_model_passes_checks_and_is_listed(project: Path) -> None:
    """One command adds a model that passes every check and is listed beside the others."""
    declared = {path.parent.name for path in (project / "src" / "flights" / "defs").glob("*/defs.yaml")}
    made = command(project, "dg", "scaffold", "defs", COMPONENT, "new_thing")
    assert made.returncode == 0, made.stdout
    assert (project / "src" / "flights" / "defs" / "new_thing" / "predict.py").is_file()
    for words in (("dg", "check", "yaml"), ("dg", "check", "defs")):
        done = command(project, *words)
        assert done.returncode == 0, done.stdout
    listed = assets(project)
    models = {key.partition("/")[0] for key in listed if key.endswith("/publication")}
    assert models == declared | {"new_thing"}
    assert "new_thing/dynamodb" in listed


def test_code_location_is_valid(tmp_path: Path) -> None:
    """`dagster definitions validate` accepts the workspace."""
    done = command(ROOT, "dagster", "definitions", "validate", home=tmp_path)
    assert done.returncode == 0, done.stdout


def test_check_yaml_reports_schema_errors(project: Path) -> None:
    """A value that the schema refuses is reported with file and line.

    The folder is named, because `dg` looks at one file of each component type only.
    """
    path = project / "src" / "flights" / "defs" / "flight_delay" / "defs.yaml"
    text = path.read_text()
    path.write_text(text.replace('start: "2013-01-01"', 'start: "first of May"'))
    done = command(project, "dg", "check", "yaml", "src/flights/defs/flight_delay")
    assert done.returncode != 0
    line = next(number for number, each in enumerate(text.splitlines(), 1) if 'start: "2013-01-01"' in each)
    assert f"flight_delay/defs.yaml:{line}" in done.stdout
    assert "'first of May' does not match" in done.stdout


def test_check_defs_reports_errors_between_fields(project: Path) -> None:
    """A value that contradicts another field is reported with file, line and field."""
    path = project / "src" / "flights" / "defs" / "flight_delay" / "defs.yaml"
    text = path.read_text()
    path.write_text(text.replace("  lookback: 3", "  lookback: 300"))
    done = command(project, "dg", "check", "defs")
    assert done.returncode != 0
    line = next(number for number, each in enumerate(text.splitlines(), 1) if "  lookback: 3" in each)
    assert f"flight_delay/defs.yaml:{line} attributes.lookback: " in done.stdout


def test_declaration_with_template_is_loaded_by_dagster(project: Path) -> None:
    """Models with templates appear although the fast loader does not read them."""
    path = project / "src" / "flights" / "defs" / "flight_delay" / "defs.yaml"
    text = path.read_text()
    head, _, tail = text.partition("  description: ")
    description = "  description: \"{{ env('FLIGHTS', 'Of flights') }}\"\n"
    path.write_text(head + description + tail.partition("\n")[2])
    assert {"flight_delay/publication", "airport_congestion/publication"} <= assets(project)
