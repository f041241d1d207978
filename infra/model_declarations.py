"""Which models are declared, and what of a declaration decides what is provisioned; without Dagster."""

from __future__ import annotations

from dataclasses import dataclass
from pathlib import Path
from typing import Any

import yaml

from infra.definitions.scheduled_scoring import ScheduledScoring, scheduled_scoring
from prediction_contract.naming.batch import ModelName
from prediction_contract.naming.resource_names import require_distinct_model_names

DEFS = Path(__file__).resolve().parents[1] / "mlpipe_dagster" / "defs"
_DEFAULT_PRODUCER = "dagster"


@dataclass(frozen=True, slots=True)
class DeclaredModel:
    """What a model's declaration says about its resources.

    Attributes:
        name: The folder's.
        produced_by: `dagster` or `sagemaker`.
        scoring: How SageMaker scores it by itself, if it does.
    """

    name: str
    produced_by: str = _DEFAULT_PRODUCER
    scoring: ScheduledScoring | None = None


def declared_models(defs: Path = DEFS) -> tuple[str, ...]:
    """Return the names of the models that are declared, one folder with a `defs.yaml` each, sorted.

    Raises:
        InvalidNameError: A folder's name is no model name, or AWS could not tell two of them apart.
    """
    files: dict[str, Path] = {ModelName(path.parent.name): path for path in defs.glob("*/defs.yaml")}
    require_distinct_model_names(files)
    return tuple(sorted(files))


def model_declarations(defs: Path = DEFS) -> tuple[DeclaredModel, ...]:
    """Return the declared models with what is provisioned for them.

    Raises:
        InvalidNameError: As `declared_models`.
        ContractError: What SageMaker is to do by a file is wrong; `make check` tells where.
        yaml.YAMLError: A file is no YAML.
    """
    found = []
    for name in declared_models(defs):
        document: Any = yaml.safe_load((defs / name / "defs.yaml").read_text(encoding="utf-8"))
        attributes = document.get("attributes") or {}
        producer = str(attributes.get("produced_by", _DEFAULT_PRODUCER))
        scoring = scheduled_scoring(attributes) if producer == "sagemaker" else None
        found.append(DeclaredModel(name, producer, scoring))
    return tuple(found)
