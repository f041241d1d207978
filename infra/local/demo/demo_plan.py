"""The plan of a project's demo: the file `demo.yaml` next to `pyproject.toml`."""

from __future__ import annotations

from typing import TYPE_CHECKING, Annotated, NamedTuple, Self

import yaml
from pydantic import Field, ValidationError, model_validator

from infra.local.supervision.stack_state import StackError
from model_declaration.declaration_files import declaration_of
from model_declaration.declared_models import UndeclaredModelError
from model_declaration.located_yaml import document_in, line_of
from model_declaration.validation import DeclarationPart, PartitionText, inconsistency
from prediction_contract.jobs.retraining_range import RetrainingRange
from prediction_contract.naming.batch import Partition

if TYPE_CHECKING:
    from pathlib import Path

    from model_declaration.declaration import ModelDeclaration
    from model_declaration.partitions import Training
    from model_declaration.project import Project

FILE_NAME = "demo.yaml"
_REMEDY = "Correct the file; docs/local-stack.md describes its fields"


class DemoTexts(DeclarationPart):
    """Words that the demo prints for the project's data.

    Attributes:
        sample_data: A description of the sample data.
        entity: The word for an entity, in the singular.
    """

    sample_data: str = "sample data"
    entity: str = "entity"


class DemoPlan(DeclarationPart):
    """The plan of a demo.

    Attributes:
        model: The model that is scored, loaded, published, served, rolled back and published again.
        partitions: The partitions to score, earliest first.
        entity_id: The entity whose prediction is requested; every batch has it.
        unknown_entity_id: An entity that no batch has.
        retrained: For a model with `training`, the last partition on which each new version is judged. The
            second version replaces the first and is then demoted.
        also_trained: Other models to retrain, judged up to the last partition of `retrained`.
        texts: Words that the demo prints for the project's data.
    """

    model: str
    partitions: Annotated[list[PartitionText], Field(min_length=2)]
    entity_id: str
    unknown_entity_id: str
    retrained: Annotated[list[PartitionText], Field(max_length=2)] = Field(default_factory=list)
    also_trained: list[str] = Field(default_factory=list)
    texts: DemoTexts = Field(default_factory=DemoTexts)

    @model_validator(mode="after")
    def _is_ordered(self) -> Self:
        """Refuse partitions out of order, because later batches and versions must replace earlier ones."""
        for name in ("partitions", "retrained"):
            given = getattr(self, name)
            if sorted(set(given)) != given:
                raise inconsistency("the partitions must be in ascending order, each listed once", name)
        return self


def demo_plan(project: Project) -> DemoPlan:
    """Return the plan of a project's demo.

    Raises:
        StackError: The file is missing or wrong. The message has each fault's file, line and field.
    """
    path = project.root / FILE_NAME
    try:
        text = path.read_text(encoding="utf-8")
    except FileNotFoundError as error:
        raise StackError(
            f"The project {project.root} has no {FILE_NAME}",
            remedy="Create it; docs/local-stack.md describes its fields",
        ) from error
    try:
        return DemoPlan.model_validate(document_in(text))
    except yaml.YAMLError as error:
        raise StackError(f"{path} is not valid YAML: {error}", remedy=_REMEDY) from error
    except ValidationError as error:
        raise StackError(_faults(error, path, text), remedy=_REMEDY) from error


class PlannedVersions(NamedTuple):
    """The versions of a model that the demo trains.

    Attributes:
        ranges: The partitions to learn from and to be judged on, for each version in order.
        has_metrics: Whether each version must be better than naive baselines.
        is_approved_by_rule: Whether each version becomes the champion without a person's approval.
    """

    ranges: tuple[RetrainingRange, ...]
    has_metrics: bool
    is_approved_by_rule: bool


def planned_versions(project: Project, plan: DemoPlan) -> dict[str, PlannedVersions]:
    """Return the planned versions by model, without models that declare no training.

    Raises:
        StackError: `retrained` does not fit the declaration, or a model of `also_trained` has no `training`.
        ContractError: A model is not declared, its declaration is wrong, or no partition is left to learn
            from.
    """
    planned = {}
    for name in (plan.model, *plan.also_trained):
        try:
            declared = declaration_of(name, project.defs)
        except UndeclaredModelError as error:
            raise _misfit(project, error.what) from error
        if declared.retraining is None:
            if name != plan.model:
                raise _misfit(project, f"also_trained: {name} declares no `training`")
            if plan.retrained and not plan.also_trained:
                raise _misfit(project, f"retrained: {name} declares no `training`")
            continue
        if not plan.retrained:
            raise _misfit(project, f"retrained is missing, but {name} declares `training`")
        ends = plan.retrained if name == plan.model else plan.retrained[-1:]
        planned[name] = _versions(declared, declared.retraining, ends)
    return planned


def _versions(declared: ModelDeclaration, training: Training, ends: list[str]) -> PlannedVersions:
    ranges = (
        RetrainingRange.up_to(
            Partition(end),
            model=declared.name,
            start=declared.partition_schedule.start,
            window=training.window,
            held_out=training.held_out,
            gap=training.gap,
            is_judged=bool(training.metrics),
        )
        for end in ends
    )
    return PlannedVersions(tuple(ranges), bool(training.metrics), training.is_approved_by_rule)


def _misfit(project: Project, what: str) -> StackError:
    return StackError(f"{project.root / FILE_NAME}: {what}", remedy=_REMEDY)


def _faults(error: ValidationError, path: Path, text: str) -> str:
    causes = error.errors(include_url=False, include_context=False)
    return "; ".join(
        f"{path}:{line_of(text, list(cause['loc']))} {'.'.join(map(str, cause['loc']))}: {cause['msg']}"
        for cause in causes
    )
