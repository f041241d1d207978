"""What a project's demo shows: its `demo.yaml`, beside `pyproject.toml`."""

from __future__ import annotations

from typing import TYPE_CHECKING, Annotated, NamedTuple, Self

import yaml
from pydantic import Field, ValidationError, model_validator

from infra.local.supervision.stack_state import StackError
from model_declaration.declaration_files import declaration_of
from model_declaration.declared_models import UndeclaredModelError
from model_declaration.located_yaml import document_in, line_of
from model_declaration.validation import DeclarationPart, PartitionText, inconsistency

if TYPE_CHECKING:
    from pathlib import Path

    from model_declaration.project import Project

FILE_NAME = "demo.yaml"
_REMEDY = "Correct the file; docs/local-stack.md describes its fields"


class DemoTexts(DeclarationPart):
    """Words for the steps' lines.

    Attributes:
        sample_data: What the sample data are.
        features: What the features that the models learn from cover.
        entity: What an entity is, in the singular.
    """

    sample_data: str = "sample data"
    features: str = "features"
    entity: str = "entity"


class DemoPlan(DeclarationPart):
    """What the demo shows.

    Attributes:
        model: The model that is scored, loaded, published, asked for, rolled back and published again.
        partitions: What is scored, earliest first.
        entity_id: Whose prediction is asked for; each of the batches has it.
        unknown_entity_id: One that no batch has.
        prepared: The first and the last partition that features are prepared for before the training; those
            of the declaration's training unless given.
        also_trained: Further models that are trained and evaluated.
        texts: Words for the steps' lines.
    """

    model: str
    partitions: Annotated[list[PartitionText], Field(min_length=2)]
    entity_id: str
    unknown_entity_id: str
    prepared: tuple[PartitionText, PartitionText] | None = None
    also_trained: list[str] = Field(default_factory=list)
    texts: DemoTexts = Field(default_factory=DemoTexts)

    @model_validator(mode="after")
    def _is_ordered(self) -> Self:
        """Refuse partitions out of order: a later batch must take the place of an earlier one."""
        if sorted(set(self.partitions)) != self.partitions:
            raise inconsistency("the partitions are not in order, or one is there twice", "partitions")
        return self


def demo_plan(project: Project) -> DemoPlan:
    """Return what a project's demo shows.

    Raises:
        StackError: There is no such file, or it is wrong: file, line and field of each fault are told.
    """
    path = project.root / FILE_NAME
    try:
        text = path.read_text(encoding="utf-8")
    except FileNotFoundError as error:
        raise StackError(
            f"The project {project.root} has no {FILE_NAME}",
            remedy="Write one; docs/local-stack.md describes its fields",
        ) from error
    try:
        return DemoPlan.model_validate(document_in(text))
    except yaml.YAMLError as error:
        raise StackError(f"{path} is no YAML: {error}", remedy=_REMEDY) from error
    except ValidationError as error:
        raise StackError(_faults(error, path, text), remedy=_REMEDY) from error


class PlannedTraining(NamedTuple):
    """A training that the demo shows.

    Attributes:
        first: The first partition that features are prepared for.
        last: The last.
        is_evaluated: Whether the declaration has an evaluation, which must beat naive baselines.
    """

    first: str
    last: str
    is_evaluated: bool


def planned_trainings(project: Project, plan: DemoPlan) -> dict[str, PlannedTraining]:
    """Return the trainings by model; none of a model that declares no training.

    Raises:
        StackError: A model that is only to be trained has no training.
        ContractError: A model is not declared, or its declaration is wrong.
    """
    planned = {}
    for name in (plan.model, *plan.also_trained):
        try:
            training = declaration_of(name, project.defs).training_range
        except UndeclaredModelError as error:
            raise StackError(
                f"{project.root / FILE_NAME} names a model that is not there: {str(error).rstrip('.')}",
                remedy=_REMEDY,
            ) from error
        if training is not None:
            learned = training.first_partition, training.last_evaluated or training.last_partition
            planned[name] = PlannedTraining(*(plan.prepared or learned), bool(training.metrics))
        elif name != plan.model:
            raise StackError(
                f"{project.root / FILE_NAME} also_trained: {name} declares no training",
                remedy="Leave it out, or give its declaration a training",
            )
    return planned


def _faults(error: ValidationError, path: Path, text: str) -> str:
    causes = error.errors(include_url=False, include_context=False)
    return "; ".join(
        f"{path}:{line_of(text, list(cause['loc']))} {'.'.join(map(str, cause['loc']))}: {cause['msg']}"
        for cause in causes
    )
