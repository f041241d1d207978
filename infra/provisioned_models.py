"""The declared models, and what of a declaration decides what is provisioned for them."""

from __future__ import annotations

from dataclasses import dataclass
from typing import TYPE_CHECKING

from model_declaration.declaration_files import declaration_of, declarations_in, written_attributes
from model_declaration.declared_models import FILE_NAME, deployable_names
from model_declaration.inputs_document import model_inputs
from prediction_contract.jobs.model_inputs import ModelInputs

if TYPE_CHECKING:
    from pathlib import Path

    from model_declaration.declaration import ModelDeclaration
    from model_declaration.project import Project

_SAGEMAKER = "sagemaker"
# Of what they hold, roles are made.
_READ_BY_JOBS = ("sources", "model")


@dataclass(frozen=True, slots=True)
class ProvisionedModel:
    """A model that gets tables, rights and alarms.

    Attributes:
        name: The folder's.
        file: Its declaration's.
        inputs: What its jobs read.
        scheduled: Its declaration, if SageMaker scores it on a schedule, by a pipeline of its own.
    """

    name: str
    file: Path
    inputs: ModelInputs
    scheduled: ModelDeclaration | None = None


def provisioned_models(project: Project) -> tuple[ProvisionedModel, ...]:
    """Return a project's declared models, sorted by name.

    Raises:
        InvalidNameError: A folder's name is no model name, or AWS could not tell two of them apart.
        DeclarationError: Declarations are wrong; or one that holds templates, which only Dagster fills in,
            has sources or is of a model that SageMaker scores.
    """
    deployable_names(project.defs)
    return tuple(
        _provisioned(name, declared, project) for name, declared in declarations_in(project.defs).items()
    )


def _provisioned(name: str, declared: ModelDeclaration | None, project: Project) -> ProvisionedModel:
    file = project.defs / name / FILE_NAME
    if declared is None:
        written = written_attributes(name, project.defs)
        if written.get("produced_by") == _SAGEMAKER or any(written.get(each) for each in _READ_BY_JOBS):
            # It says what the file holds that keeps it from being read.
            declared = declaration_of(name, project.defs)
    if declared is None:
        return ProvisionedModel(
            name, file, ModelInputs(model=name, functions=project.functions_package(name))
        )
    scheduled = declared if declared.produced_by == _SAGEMAKER else None
    return ProvisionedModel(name, file, model_inputs(declared), scheduled)
