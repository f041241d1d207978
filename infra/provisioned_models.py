"""The declared models, and what of a declaration decides what is provisioned for them."""

from __future__ import annotations

from dataclasses import dataclass
from typing import TYPE_CHECKING

from model_declaration.declaration_files import declaration_of, declarations_in, written_attributes
from model_declaration.declared_models import deployable_names

if TYPE_CHECKING:
    from pathlib import Path

    from model_declaration.declaration import ModelDeclaration

_SAGEMAKER = "sagemaker"


@dataclass(frozen=True, slots=True)
class ProvisionedModel:
    """A model that gets tables, roles and alarms.

    Attributes:
        name: The folder's.
        scheduled: Its declaration, if SageMaker scores it on a schedule, by a pipeline of its own.
    """

    name: str
    scheduled: ModelDeclaration | None = None


def provisioned_models(defs: Path) -> tuple[ProvisionedModel, ...]:
    """Return the declared models, sorted by name.

    Raises:
        InvalidNameError: A folder's name is no model name, or AWS could not tell two of them apart.
        DeclarationError: Declarations are wrong; or one that holds templates, which only Dagster fills in, is
            of a model that SageMaker scores.
    """
    deployable_names(defs)
    return tuple(
        ProvisionedModel(name, _scheduled(name, declared, defs))
        for name, declared in declarations_in(defs).items()
    )


def _scheduled(name: str, declared: ModelDeclaration | None, defs: Path) -> ModelDeclaration | None:
    if declared is None and written_attributes(name, defs).get("produced_by") == _SAGEMAKER:
        # It says what the file holds that keeps it from being read.
        declared = declaration_of(name, defs)
    return declared if declared is not None and declared.produced_by == _SAGEMAKER else None
