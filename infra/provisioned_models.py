"""The declared models, with the parts of declarations that provisioning needs."""

from __future__ import annotations

import json
from dataclasses import dataclass
from typing import TYPE_CHECKING, Any

from pydantic import BaseModel, Field, ValidationError

from model_declaration.declaration_files import (
    DeclarationError,
    declarations_in,
    field_location,
    holds_template,
    validated,
    written_attributes,
)
from model_declaration.declared_models import FILE_NAME, deployable_names
from model_declaration.inputs.origins import DeclaredModel, ModelFile
from model_declaration.inputs.sources import Sources
from model_declaration.inputs_document import model_inputs
from prediction_contract.jobs.model_inputs import ModelInputs

if TYPE_CHECKING:
    from collections.abc import Mapping
    from pathlib import Path

    from model_declaration.declaration import ModelDeclaration
    from model_declaration.project import Project

_SAGEMAKER = "sagemaker"
_DESCRIPTIVE_FIELDS = frozenset({"description", "owners", "group", "tags"})


class _InputFields(BaseModel):
    """The parts of a declaration that determine what its jobs read, for the jobs' role."""

    sources: Sources = Field(default_factory=dict)
    model: DeclaredModel | None = None


@dataclass(frozen=True, slots=True)
class ProvisionedModel:
    """A model for which tables, rights and alarms are provisioned.

    Attributes:
        name: The name of the model and of its folder.
        file: The file of its declaration.
        inputs: The inputs of its jobs.
        scheduled: Its declaration if a scheduled SageMaker pipeline scores it, else None.
        retrained: Its declaration if a SageMaker pipeline retrains it, else None.
    """

    name: str
    file: Path
    inputs: ModelInputs
    scheduled: ModelDeclaration | None = None
    retrained: ModelDeclaration | None = None


def provisioned_models(project: Project) -> tuple[ProvisionedModel, ...]:
    """Return a project's declared models, sorted by name.

    Raises:
        InvalidNameError: A folder's name is not a model name, or two names would be the same on AWS.
        DeclarationError: A declaration is wrong, or has a template in a field that is read without Dagster.
            These are the jobs' inputs and, for a model with a SageMaker pipeline, all fields other than
            those meant for people.
    """
    deployable_names(project.defs)
    return tuple(
        _provisioned(name, declared, project) for name, declared in declarations_in(project.defs).items()
    )


def _provisioned(name: str, declared: ModelDeclaration | None, project: Project) -> ProvisionedModel:
    file = project.defs / name / FILE_NAME
    if declared is None:
        written = written_attributes(name, project.defs)
        if written.get("produced_by") != _SAGEMAKER and written.get("training") is None:
            read = _input_fields(written, file)
            inputs = ModelInputs(
                model=name,
                functions=project.functions_package(name),
                sources=tuple(source.as_input(each) for each, source in read.sources.items()),
                trained_elsewhere=read.model.as_input if isinstance(read.model, ModelFile) else None,
            )
            return ProvisionedModel(name, file, inputs)
        declared = _pipeline_declaration(written, file)
    scheduled = declared if declared.produced_by == _SAGEMAKER else None
    retrained = declared if declared.retraining is not None else None
    return ProvisionedModel(name, file, model_inputs(declared), scheduled, retrained)


def _pipeline_declaration(written: Mapping[str, Any], file: Path) -> ModelDeclaration:
    """Return a declaration; templates are allowed only in fields meant for people."""
    read = {name: value for name, value in written.items() if name not in _DESCRIPTIVE_FIELDS}
    for name, value in read.items():
        if holds_template(json.dumps(value, default=str)):
            raise DeclarationError(
                f"{field_location(file, name)}: a template is not allowed here, because SageMaker's "
                "pipelines are built from this field without Dagster",
                remedy="Write the value itself; templates are allowed in "
                f"{', '.join(sorted(_DESCRIPTIVE_FIELDS))}",
            )
    return validated({**read, "description": ""}, file)


def _input_fields(written: Mapping[str, Any], file: Path) -> _InputFields:
    """Return the inputs in a declaration that only Dagster can read as a whole."""
    parts = {name: written[name] for name in _InputFields.model_fields if name in written}
    for name, part in parts.items():
        if holds_template(json.dumps(part, default=str)):
            raise DeclarationError(
                f"{field_location(file, name)}: a template is not allowed here, because the jobs' "
                "permissions are built from this field without Dagster",
                remedy="Write the value itself",
            )
    try:
        return _InputFields.model_validate(parts)
    except ValidationError as error:
        faults = (
            f"{field_location(file, *cause['loc'])}: {cause['msg']}"
            for cause in error.errors(include_url=False, include_context=False)
        )
        raise DeclarationError("; ".join(faults), remedy="Correct the file") from error
