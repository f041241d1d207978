"""The frozen project `first` still works: it stands for all projects of docs/project.md as of version 0.1.

A failure here breaks every project. See tests/projects/first/README.md before you edit anything.
"""

from __future__ import annotations

import hashlib
import json
import os
import subprocess
import sys
from typing import TYPE_CHECKING

import pytest

from infra.provisioned_models import provisioned_models
from model_declaration.declaration_files import declaration_of
from tests.dagster.cli.documented_answers import agree, documented
from tests.development.copied_projects import PROJECTS, CopiedProject

if TYPE_CHECKING:
    from pathlib import Path

MODELS = ["churn", "demand", "dock_load", "revenue"]
# Window, held_out and gap of each training; a file without evaluated partitions has the defaults.
RETRAINED = {"demand": (7, 3, 0), "dock_load": (6, 14, 1), "revenue": (3, 14, 1)}
_FOLDER = PROJECTS / "first"
# Of the names and contents of its files. Do not update it: the project stands for those of all users.
_SHA256 = "46cccccd5180f56ab1b317a4548deb4a5b87e3872d9df84c5650d181770f4de9"


@pytest.fixture(scope="module")
def project(tmp_path_factory: pytest.TempPathFactory) -> CopiedProject:
    """One copy for all tests, which none of them changes."""
    return CopiedProject.of("first", tmp_path_factory.mktemp("first"))


def digest_of(folder: Path) -> str:
    """Return a digest of the names and contents of a folder's files."""
    digest = hashlib.sha256()
    for path in sorted(folder.rglob("*")):
        if path.is_file() and not any(part.startswith(".") or part == "__pycache__" for part in path.parts):
            digest.update(f"{path.relative_to(folder).as_posix()}\0".encode() + path.read_bytes() + b"\0")
    return digest.hexdigest()


def test_first_project_is_unchanged() -> None:
    """A failure points to the README that says why this project must not be edited."""
    assert digest_of(_FOLDER) == _SHA256, "Read tests/projects/first/README.md and take the change back."


def test_check_finds_no_faults(project: CopiedProject, capfd: pytest.CaptureFixture[str]) -> None:
    """`mlpipe check` accepts declarations, functions, readers, codecs and sample data."""
    status, document = project.json(capfd, "check")
    assert (status, document["faults"]) == (0, [])
    assert document["models"] == MODELS


@pytest.mark.parametrize(
    ("model", "rows", "version"),
    [("churn", 50, "ba19f842f8b22d42"), ("demand", 4, None), ("dock_load", 4, None), ("revenue", 4, None)],
)
def test_each_model_can_be_tried(
    project: CopiedProject, capfd: pytest.CaptureFixture[str], model: str, rows: int, version: str | None
) -> None:
    """Every kind of partition, table, source and codec works, and no row would be quarantined."""
    status, document = project.json(capfd, "try", model)
    assert (status, document["rows"], document["quarantined"]) == (0, rows, [])
    assert version in {None, document["model_version"]}
    assert document["previous_partition"] is not None


def test_metrics_of_all_kinds_are_computed(project: CopiedProject, capfd: pytest.CaptureFixture[str]) -> None:
    """Every declared metric has a value beside its baselines."""
    _, document = project.json(capfd, "try", "demand", "--partition", "2026-03-19", "--rows", "1")
    assert [metric["name"] for metric in document["metrics"]] == [
        *("mae", "rmse", "mape", "r2", "pinball_0.9", "roc_auc", "log_loss", "cost")
    ]
    assert all(isinstance(metric["value"], float) for metric in document["metrics"])
    baselines = {metric["name"]: set(metric["baselines"]) for metric in document["metrics"]}
    constants = {"train_mean", "train_median"}
    assert baselines == dict.fromkeys(("mae", "rmse", "mape", "r2", "cost"), constants) | {
        "pinball_0.9": {"train_quantile", "train_median"},
        "roc_auc": {"train_mean"},
        "log_loss": {"train_mean"},
    }
    plain = {**document, "metrics": document["metrics"][:1]}
    agree(
        {**documented()["try"], "quarantined": [], "reasons": {}}, {**plain, "quarantined": [], "reasons": {}}
    )


def test_stored_rows_are_shown_after_cleaning(
    project: CopiedProject, capfd: pytest.CaptureFixture[str]
) -> None:
    """Columns are dropped and renamed as in the stores, with Snowflake's types."""
    _, document = project.json(capfd, "try", "demand", "--partition", "2026-03-19", "--rows", "1")
    [row] = map(json.loads, document["stored"])
    assert {"station", "day", "dock_count", "starts_at", "correction"} <= row.keys()
    assert row.keys().isdisjoint({"docks", "details"})
    assert {each["column"]: each["snowflake"] for each in document["columns"]}["revenue"] == "NUMBER(10,2)"


def test_no_model_leaks_future_data(project: CopiedProject, capfd: pytest.CaptureFixture[str]) -> None:
    """The features do not change when later data is removed."""
    status, document = project.json(capfd, "check", "--leaks")
    assert (status, [each["leaks"] for each in document["leaks"]]) == (0, [[], [], [], []])
    assert all(each["taken_away"]["files"] for each in document["leaks"])


def test_dagster_loads_the_project(project: CopiedProject) -> None:
    """The two lines of `definitions.py` define the assets, jobs and schedules of all models."""
    program = (
        "import json; from first.definitions import defs; repository = defs.get_repository_def(); "
        "assets = [spec.key.to_user_string() for spec in defs.resolve_all_asset_specs()]; "
        "schedules = {each.name: each.cron_schedule for each in repository.schedule_defs}; "
        "print(json.dumps([assets, repository.job_names, schedules]))"
    )
    done = subprocess.run(
        [sys.executable, "-c", program],
        cwd=project.project.root,
        env={**os.environ, "PYTHONPATH": str(project.project.source_folder)},
        capture_output=True,
        text=True,
        timeout=120,
        check=False,
    )
    assert done.returncode == 0, done.stderr
    assets, jobs, schedules = json.loads(done.stdout.splitlines()[-1])
    made = {f"{model}/{name}" for model in MODELS for name in ("features", "predictions", "publication")}
    made |= {f"{model}/{name}" for model in RETRAINED for name in ("model_versions", "trained_model")}
    assert made | {"bikes/trips"} <= set(assets)
    expected = {f"{model}_{name}" for model in MODELS for name in ("load", "score")}
    assert expected | {f"{model}_train" for model in RETRAINED} <= set(jobs)
    assert schedules.keys() == {"churn_score", "dock_load_score", "revenue_score"}
    assert schedules["dock_load_score"] == "5 * * * *"


@pytest.mark.parametrize(("model", "counts"), RETRAINED.items())
def test_training_by_partitions_becomes_counts(
    project: CopiedProject, model: str, counts: tuple[int, int, int]
) -> None:
    """A training declared by partitions is repeated on as many partitions, without an edit."""
    training = declaration_of(model, project.project.defs).retraining
    assert training is not None
    assert (training.window, training.held_out, training.gap) == counts


def test_each_model_with_training_gets_a_pipeline(project: CopiedProject) -> None:
    """A deployment provisions a retraining pipeline for exactly these models."""
    provisioned = provisioned_models(project.project)
    assert [each.name for each in provisioned if each.retrained is not None] == list(RETRAINED)
