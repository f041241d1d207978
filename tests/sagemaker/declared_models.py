"""Both models as their `defs.yaml` declares them: schemas, history and training."""

from __future__ import annotations

from typing import Any

import yaml

from prediction_contract.jobs.metrics import Metric, Metrics
from prediction_contract.rows.schema import PredictionSchema
from tests.projects import EXAMPLE


def _declared(model: str) -> dict[str, Any]:
    document: Any = yaml.safe_load((EXAMPLE.defs / model / "defs.yaml").read_text())
    return document["attributes"]


def _schema(columns: list[dict[str, Any]]) -> PredictionSchema:
    (key,) = [column["name"] for column in columns if column.get("key")]
    return PredictionSchema.from_document(
        {
            "key": key,
            "columns": [
                {"name": column["name"], "type": column["type"], "nullable": column.get("nullable", True)}
                for column in columns
            ],
        }
    )


def _training(training: dict[str, Any]) -> dict[str, str]:
    metrics = Metrics.of(Metric(**metric) for metric in training["metrics"])
    return {**training, "metrics": str(metrics)}


_DECLARED = {model: _declared(model) for model in ("airport_congestion", "flight_delay")}
SCHEMAS = {model: _schema(declared["columns"]) for model, declared in _DECLARED.items()}
HISTORY_DAYS: dict[str, int] = {model: declared["history_days"] for model, declared in _DECLARED.items()}
TRAINING = {model: _training(declared["training"]) for model, declared in _DECLARED.items()}
# The columns of the features that predictions are declared to be made of.
SOURCES: dict[str, set[str]] = {
    model: {source for column in declared["columns"] for source in column.get("derived_from", [])}
    for model, declared in _DECLARED.items()
}
