"""Declared training: defaults, approval, and errors with file, line and field."""

from __future__ import annotations

from typing import TYPE_CHECKING, Any

import pytest
import yaml

from model_declaration.declaration_files import COMPONENT, DeclarationError, declaration_in
from model_declaration.inputs_document import model_inputs
from tests.dagster.small_model import attributes, declaration

if TYPE_CHECKING:
    from pathlib import Path

METRIC = {"kind": "mae", "predicted": "score", "actual": "real_score"}
REGISTRY = {"from": "registry"}


def test_empty_training_has_defaults() -> None:
    """An empty training has the default window and margin, no schedule, and needs a person to approve."""
    training = declaration("things", training={}).retraining
    assert training is not None
    assert (training.window, training.held_out, training.gap) == (60, 14, 1)
    assert (training.margin, training.cool_down, training.on_drift) == (0.01, 7, True)
    assert training.schedule is None
    assert not training.is_approved_by_rule


@pytest.mark.parametrize(("approval", "by_rule"), [(None, True), ("auto", True), ("manual", False)])
def test_approval_is_automatic_with_metrics(approval: str | None, by_rule: bool) -> None:
    """With metrics, a better candidate is approved by rule unless `approval` is manual."""
    training = declaration("things", training={"metrics": [METRIC], "approval": approval}).retraining
    assert training is not None
    assert training.is_approved_by_rule is by_rule


def test_judging_rules_are_passed_to_jobs() -> None:
    """Jobs get slices, margin and approval, and nothing for a model that was trained elsewhere."""
    training = {"metrics": [METRIC], "slices": ["score"], "margin": 0.05, "approval": "manual"}
    judging = model_inputs(declaration("things", training=training)).judging
    assert judging is not None
    assert (judging.slices, judging.margin, judging.is_approved_by_rule) == (("score",), 0.05, False)
    assert model_inputs(declaration("things", training=None, model=REGISTRY)).judging is None


@pytest.mark.parametrize(
    ("kind", "learned", "judged", "counts"),
    [
        ("daily", ("2013-01-01", "2013-01-31"), ("2013-02-01", "2013-02-26"), (31, 26, 0)),
        ("daily", ("2012-02-28", "2012-03-01"), ("2012-03-04", "2012-03-04"), (3, 1, 2)),
        ("hourly", ("2013-01-01T22", "2013-01-02T03"), ("2013-01-02T05", "2013-01-02T06"), (6, 2, 1)),
        ("weekly", ("2020-W51", "2021-W02"), ("2021-W05", "2021-W07"), (5, 3, 2)),
        ("monthly", ("2012-11", "2013-02"), ("2013-04", "2013-04"), (4, 1, 1)),
    ],
)
def test_named_partitions_are_converted_to_counts(
    kind: str, learned: tuple[str, str], judged: tuple[str, str], counts: tuple[int, int, int]
) -> None:
    """A version 0.1 training with named partitions is read as counts for window, gap and held-out."""
    training = range_of(learned) | {"first_evaluated": judged[0], "last_evaluated": judged[1]}
    declared = declaration(
        "things",
        partitions={"kind": kind, "start": learned[0]},
        training=training | {"metrics": [METRIC]},
    )
    retraining = declared.retraining
    assert retraining is not None
    assert (retraining.window, retraining.held_out, retraining.gap) == counts
    assert [metric.kind for metric in retraining.metrics] == ["mae"]
    assert retraining.is_approved_by_rule
    assert retraining.schedule is None


def test_named_partitions_without_evaluation_need_approval() -> None:
    """Without an evaluation range the defaults are held out, and a person must approve."""
    declared = declaration("things", training=range_of(("2013-01-08", "2013-01-31")))
    retraining = declared.retraining
    assert retraining is not None
    assert (retraining.window, retraining.held_out, retraining.gap) == (24, 14, 1)
    assert not retraining.is_approved_by_rule
    judging = model_inputs(declared).judging
    assert judging is not None
    assert not judging.is_approved_by_rule


def test_models_have_versions_unless_a_file_is_declared() -> None:
    """Every model has versions, unless it declares a model file."""
    file = {"path": "models/churn.ubj", "sha256": "ab" * 32, "codec": "xgboost"}
    with_versions: list[dict[str, Any]] = [
        {},
        {"training": range_of(("2013-01-08", "2013-01-31"))},
        {"training": None, "model": REGISTRY},
        {"training": None, "produced_by": "sagemaker"},
    ]
    assert all(declaration("things", **changes).has_versions for changes in with_versions)
    assert not declaration("things", training=None, model=file).has_versions


def range_of(learned: tuple[str, str]) -> dict[str, str]:
    """Return a training as version 0.1 files declare it."""
    return {"first_partition": learned[0], "last_partition": learned[1]}


def refusal_of(tmp_path: Path, declared: dict[str, Any]) -> tuple[str, str]:
    """Return the error for an invalid declaration, and the line that it names."""
    file = tmp_path / "things" / "defs.yaml"
    file.parent.mkdir()
    text = str(yaml.safe_dump({"type": COMPONENT, "attributes": declared}, sort_keys=False))
    file.write_text(text)
    with pytest.raises(DeclarationError) as refused:
        declaration_in(file)
    message = str(refused.value)
    number = int(message.partition("defs.yaml:")[2].split()[0])
    return message, text.splitlines()[number - 1]


@pytest.mark.parametrize(
    ("training", "line", "complaint"),
    [
        ({"window": 0}, "window: 0", "training.window: Input should be greater than or equal to 1"),
        ({"held_out": 0}, "held_out: 0", "greater than or equal to 1"),
        ({"windows": 3}, "windows: 3", "did you mean window?"),
        ({"margin": 1}, "margin: 1", "less than 1"),
        ({"approval": "auto"}, "approval: auto", "declare `metrics`, or `approval: manual`"),
        ({"slices": ["score"]}, "slices:", "judged by the first of `metrics`"),
        ({"metrics": [METRIC], "slices": ["tide"]}, "- tide", "tide, which is not a column"),
        ({"metrics": [METRIC], "slices": ["entity_id"]}, "- entity_id", "make each entity a slice"),
        ({"metrics": [METRIC], "slices": ["score", "score"]}, "- score", "slices.1: score is declared twice"),
        ({"metrics": [METRIC, dict(METRIC)]}, "- kind", "training.metrics.1: mae:score is declared twice"),
        ({"metrics": [METRIC | {"predicted": "tide"}]}, "predicted: tide", "not a column"),
        ({"schedule": "0 2 1 * 1"}, "schedule: 0 2 1 * 1", "it names both days of the month and days of"),
        ({"schedule": "daily"}, "schedule: daily", "it has 1 fields instead of 5"),
        ({"window": 3, "first_partition": "2013-01-01"}, "training:", "training.window: Extra inputs"),
    ],
)
def test_training_error_names_its_line(
    tmp_path: Path, training: dict[str, Any], line: str, complaint: str
) -> None:
    """An error in a training names the line to correct."""
    message, place = refusal_of(tmp_path, attributes(training=training))
    assert complaint in message
    assert line in place


@pytest.mark.parametrize(
    ("changes", "line", "complaint"),
    [
        ({"model": {"from": "registri"}}, "from: registri", "Input should be 'registry'"),
        ({"model": REGISTRY | {"codec": "onnx"}}, "codec: onnx", "model.codec: Extra inputs"),
        ({"model": {"path": "models/churn.ubj"}}, "model:", "model.sha256: Field required"),
        (
            {"model": REGISTRY, "training": {"window": 3}},
            "model:",
            "the model is trained here: remove `model` or `training`",
        ),
        (
            {"training": {}, "quality": {"accuracy": {"metrics": [METRIC]}}},
            "metrics:",
            "declare them as `training.metrics`",
        ),
        (
            {"model": REGISTRY, "quality": {"accuracy": {"metrics": [METRIC | {"predicted": "tide"}]}}},
            "predicted: tide",
            "quality.accuracy.metrics.0.predicted: a metric names tide",
        ),
        (
            {"quality": {"accuracy": {"warn": 0.3, "block": 0.2}}},
            "accuracy:",
            "block 0.2 is less than warn 0.3",
        ),
    ],
)
def test_external_model_error_names_its_line(
    tmp_path: Path, changes: dict[str, Any], line: str, complaint: str
) -> None:
    """An error in the declaration of a model that is trained elsewhere names the line to correct."""
    declared = attributes(**changes)
    if "training" not in changes:
        del declared["training"]
    message, place = refusal_of(tmp_path, declared)
    assert complaint in message
    assert line in place


def test_registry_model_passes_its_accuracy_metrics() -> None:
    """Jobs of a registry model get the metrics of `quality.accuracy` and no model file."""
    declared = declaration(
        "things", training=None, model=REGISTRY, quality={"accuracy": {"metrics": [METRIC], "block": 0.5}}
    )
    assert declared.model_file is None
    assert [metric.kind for metric in declared.metrics] == ["mae"]
    inputs = model_inputs(declared)
    assert inputs.trained_elsewhere is None
    assert [metric.label for metric in inputs.metrics] == ["mae:score"]
