"""The declared models, read from their files without loading Dagster's whole code location."""

from __future__ import annotations

from pathlib import Path

import yaml
from pydantic import ValidationError

from mlpipe_dagster.declaration import ModelDeclaration
from prediction_contract.errors import ContractError
from prediction_contract.resource_names import require_model_name

DEFS = Path(__file__).resolve().parents[1] / "defs"


class UnknownModelError(ContractError):
    """No model of this name is declared, or its declaration is wrong."""


def declared_model(name: str, folder: Path = DEFS) -> ModelDeclaration:
    """Return a model's declaration.

    Raises:
        InvalidNameError: The name has another form.
        UnknownModelError: There is none, or it is wrong.
    """
    path = folder / require_model_name(name) / "defs.yaml"
    if not path.is_file():
        known = ", ".join(sorted(found.parent.name for found in folder.glob("*/defs.yaml")))
        raise UnknownModelError(f"No model {name} is declared", remedy=f"The models are {known}", model=name)
    try:
        attributes = yaml.safe_load(path.read_text(encoding="utf-8"))["attributes"]
        return ModelDeclaration.model_validate({"name": name, **attributes})
    except (yaml.YAMLError, KeyError, TypeError, ValidationError) as error:
        raise UnknownModelError(
            f"{path} cannot be read: {error}",
            remedy="Correct it; `dg check yaml` names each fault",
            model=name,
        ) from error
