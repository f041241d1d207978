"""Errors in declared metrics are reported with file, line and field before any training."""

from __future__ import annotations

from typing import TYPE_CHECKING, Any

import pytest
import yaml

from model_declaration.declaration_files import COMPONENT, DeclarationError, declaration_in
from prediction_contract.jobs.metrics import Metric
from tests.dagster.small_model import attributes, declaration

if TYPE_CHECKING:
    from pathlib import Path

RANGE = {
    "first_partition": "2013-01-01",
    "last_partition": "2013-01-31",
    "first_evaluated": "2013-02-01",
    "last_evaluated": "2013-02-26",
}
MAE = {"kind": "mae", "predicted": "score", "actual": "real_score"}
PINBALL = MAE | {"kind": "pinball", "quantile": 0.9}
COST = MAE | {"kind": "function", "function": "acme.metrics:cost", "better": "lower"}


def test_metrics_are_passed_to_jobs_completely() -> None:
    """A job gets a metric's columns, quantile, function and direction."""
    training = declaration("things", training=RANGE | {"metrics": [MAE, PINBALL, COST]}).training
    assert training is not None
    assert [each.as_metric for each in training.metrics] == [
        Metric("mae", "score", "real_score"),
        Metric("pinball", "score", "real_score", 0.9),
        Metric("function", "score", "real_score", None, "acme.metrics:cost", "lower"),
    ]


def without(metric: dict[str, Any], *names: str) -> dict[str, Any]:
    """Return a metric without some of its fields."""
    return {name: value for name, value in metric.items() if name not in names}


@pytest.mark.parametrize(
    ("metrics", "line", "complaint"),
    [
        ([MAE | {"kind": "gain"}], "kind: gain", "Input should be 'mae', 'rmse', 'mape', 'r2'"),
        ([without(MAE, "actual")], "- kind", "training.metrics.0.actual: Field required"),
        ([MAE | {"predicted": "tide"}], "predicted: tide", "tide, which is not a column"),
        ([MAE | {"predicted": "name"}], "predicted: name", "name, which is a string, not a number"),
        ([MAE | {"quantile": 0.5}], "quantile: 0.5", "mae has no quantile, only pinball does"),
        ([PINBALL | {"quantile": 1.5}], "quantile: 1.5", "less than 1"),
        ([without(PINBALL, "quantile")], "- kind", "quantile: it is missing: pinball needs it, say 0.9"),
        ([without(COST, "better")], "- kind", "better: it is missing: function needs it, lower or higher"),
        ([COST | {"function": "cost"}], "function: cost", "it is not written as"),
        ([COST | {"better": "more"}], "better: more", "Input should be 'lower' or 'higher'"),
        ([MAE, PINBALL, dict(MAE)], "- kind", "training.metrics.2: mae:score is declared twice"),
    ],
)
def test_metric_error_names_its_line(
    tmp_path: Path, metrics: list[dict[str, Any]], line: str, complaint: str
) -> None:
    """An error in a metric names the line to correct."""
    columns = [
        {"name": "name", "type": "string", "key": True, "nullable": False},
        {"name": "score", "type": "double"},
    ]
    declared = attributes(columns=columns, training=RANGE | {"metrics": metrics})
    file = tmp_path / "things" / "defs.yaml"
    file.parent.mkdir()
    text = str(yaml.safe_dump({"type": COMPONENT, "attributes": declared}, sort_keys=False))
    file.write_text(text)
    with pytest.raises(DeclarationError) as refused:
        declaration_in(file)
    told = str(refused.value)
    assert complaint in told
    number = int(told.partition("defs.yaml:")[2].split()[0])
    assert line in text.splitlines()[number - 1]


def test_metrics_require_outcomes(tmp_path: Path) -> None:
    """A model with metrics but without outcomes.py is refused, since its training would fail."""
    file = tmp_path / "things" / "defs.yaml"
    file.parent.mkdir()
    declared = attributes(training=RANGE | {"metrics": [MAE]}, lookback=0)
    file.write_text(str(yaml.safe_dump({"type": COMPONENT, "attributes": declared}, sort_keys=False)))
    with pytest.raises(DeclarationError, match=r"training\.metrics: .*write outcomes\.py beside this file"):
        declaration_in(file)
    (file.parent / "outcomes.py").touch()
    assert declaration_in(file) is not None
