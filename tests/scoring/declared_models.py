"""Both models as their `defs.yaml` declares them: schemas of predictions and days of training."""

from __future__ import annotations

from typing import Any

import yaml

from prediction_contract.schema import PredictionSchema
from tests.stack_runs import PROJECT_ROOT


def _declared(model: str) -> dict[str, Any]:
    path = PROJECT_ROOT / "mlpipe_dagster" / "defs" / model / "defs.yaml"
    return yaml.safe_load(path.read_text())["attributes"]


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


_MODELS = ("airport_congestion", "flight_delay")
SCHEMAS = {model: _schema(_declared(model)["columns"]) for model in _MODELS}
TRAINING: dict[str, dict[str, str]] = {model: _declared(model)["training"] for model in _MODELS}
