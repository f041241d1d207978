"""Both models as their `defs.yaml` declares them: schemas, inputs and training."""

from __future__ import annotations

from typing import Any

import yaml

from model_declaration.declaration_files import declaration_in
from model_declaration.inputs_document import model_inputs
from prediction_contract.jobs.model_inputs import ModelInputs
from prediction_contract.rows.schema import PredictionSchema
from tests.projects import EXAMPLE


def _declared(model: str) -> dict[str, Any]:
    document: Any = yaml.safe_load((EXAMPLE.defs / model / "defs.yaml").read_text())
    return document["attributes"]


def _inputs(model: str) -> ModelInputs:
    declaration = declaration_in(EXAMPLE.defs / model / "defs.yaml")
    assert declaration is not None
    return model_inputs(declaration)


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
    return {name: value for name, value in training.items() if name != "metrics"}


_DECLARED = {model: _declared(model) for model in ("airport_congestion", "flight_delay")}
SCHEMAS = {model: _schema(declared["columns"]) for model, declared in _DECLARED.items()}
INPUTS: dict[str, ModelInputs] = {model: _inputs(model) for model in _DECLARED}
TRAINING = {model: _training(declared["training"]) for model, declared in _DECLARED.items()}
# The columns of the features that predictions are declared to be made of.
SOURCES: dict[str, set[str]] = {
    model: {source for column in declared["columns"] for source in column.get("derived_from", [])}
    for model, declared in _DECLARED.items()
}
