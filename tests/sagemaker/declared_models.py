"""Schemas, inputs and training of both example models, as their `defs.yaml` declares them."""

from __future__ import annotations

from typing import TYPE_CHECKING, Any

import yaml

from model_declaration.declaration_files import declaration_in
from model_declaration.inputs_document import model_inputs
from prediction_contract.rows.schema import PredictionSchema
from tests.projects import EXAMPLE

if TYPE_CHECKING:
    from model_declaration.declaration import ModelDeclaration
    from model_declaration.partitions import Training
    from prediction_contract.jobs.model_inputs import ModelInputs


def _declared(model: str) -> dict[str, Any]:
    document: Any = yaml.safe_load((EXAMPLE.defs / model / "defs.yaml").read_text())
    return document["attributes"]


def _declaration(model: str) -> ModelDeclaration:
    declaration = declaration_in(EXAMPLE.defs / model / "defs.yaml")
    assert declaration is not None
    return declaration


def _training(declaration: ModelDeclaration) -> Training:
    assert declaration.retraining is not None
    return declaration.retraining


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


_DECLARED = {model: _declared(model) for model in ("airport_congestion", "flight_delay")}
_DECLARATIONS = {model: _declaration(model) for model in _DECLARED}
SCHEMAS = {model: _schema(declared["columns"]) for model, declared in _DECLARED.items()}
INPUTS: dict[str, ModelInputs] = {model: model_inputs(each) for model, each in _DECLARATIONS.items()}
TRAINING: dict[str, Training] = {model: _training(each) for model, each in _DECLARATIONS.items()}
# The feature columns that `derived_from` names.
SOURCES: dict[str, set[str]] = {
    model: {source for column in declared["columns"] for source in column.get("derived_from", [])}
    for model, declared in _DECLARED.items()
}
