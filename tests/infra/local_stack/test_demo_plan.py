"""A project says in `demo.yaml` what its demo shows; faults are told with file, line and field."""

from __future__ import annotations

from types import SimpleNamespace
from typing import TYPE_CHECKING

import pytest

from infra.local.demo.demo_plan import PlannedTraining, demo_plan, planned_trainings
from infra.local.supervision.stack_state import StackError
from model_declaration.project import Project
from tests.projects import EXAMPLE

if TYPE_CHECKING:
    from pathlib import Path

GOOD = """model: churn
partitions: ["2026-01-05", "2026-01-06"]
entity_id: customer-1
unknown_entity_id: nobody
"""


def project_with(root: Path, plan: str | None) -> Project:
    """Return a project with this demo.yaml."""
    if plan is not None:
        (root / "demo.yaml").write_text(plan)
    return Project(root, "acme", root / "src" / "acme", "acme")


def test_four_fields_make_a_demo(tmp_path: Path) -> None:
    """Texts, further models and the prepared range may be left out."""
    plan = demo_plan(project_with(tmp_path, GOOD))
    assert (plan.model, plan.partitions) == ("churn", ["2026-01-05", "2026-01-06"])
    assert (plan.prepared, plan.also_trained, plan.texts.entity) == (None, [], "entity")


@pytest.mark.parametrize(
    ("changed", "told"),
    [
        ("entity_ids: a\n", "demo.yaml:5 entity_ids: Extra inputs"),
        ("prepared: [2026-01-05]\n", "demo.yaml:5 prepared"),
        ("texts: {entities: flights}\n", "demo.yaml:5 texts.entities"),
        ("also_trained: 5\n", "demo.yaml:5 also_trained"),
    ],
)
def test_a_fault_is_told_with_line_and_field(tmp_path: Path, changed: str, told: str) -> None:
    """Whoever wrote the file finds the place."""
    with pytest.raises(StackError, match=told):
        demo_plan(project_with(tmp_path, GOOD + changed))


@pytest.mark.parametrize("partitions", ['["2026-01-06", "2026-01-05"]', '["2026-01-05"]', '["monday", "x"]'])
def test_partitions_are_at_least_two_in_order(tmp_path: Path, partitions: str) -> None:
    """There is something to roll back to."""
    text = GOOD.replace('["2026-01-05", "2026-01-06"]', partitions)
    with pytest.raises(StackError, match=r"demo\.yaml:2 partitions"):
        demo_plan(project_with(tmp_path, text))


@pytest.mark.parametrize(
    ("plan", "told"), [(None, "has no demo.yaml"), ("a: [", "is no YAML"), ("- 1\n", "demo.yaml:1")]
)
def test_a_file_that_is_missing_or_no_plan_is_told(tmp_path: Path, plan: str | None, told: str) -> None:
    """The message names the project or the file."""
    with pytest.raises(StackError, match=told):
        demo_plan(project_with(tmp_path, plan))


def test_the_example_trains_what_its_plan_names() -> None:
    """Both models are trained on the prepared range."""
    planned = planned_trainings(EXAMPLE, demo_plan(EXAMPLE))
    training = PlannedTraining("2013-01-08", "2013-02-28", is_evaluated=True)
    assert planned == dict.fromkeys(("flight_delay", "airport_congestion"), training)


def test_without_a_prepared_range_the_declaration_tells_it() -> None:
    """What the model learns from and is evaluated on is prepared."""
    plan = demo_plan(EXAMPLE).model_copy(update={"prepared": None})
    assert planned_trainings(EXAMPLE, plan)["flight_delay"][:2] == ("2013-01-08", "2013-02-26")


def test_a_training_without_metrics_is_not_held_against_baselines(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    """A project may train a model and declare no evaluation."""
    training = SimpleNamespace(
        first_partition="2026-01-01", last_partition="2026-01-04", last_evaluated=None, metrics=[]
    )
    declared = SimpleNamespace(training_range=training)
    monkeypatch.setattr("infra.local.demo.demo_plan.declaration_of", lambda *_: declared)
    project = project_with(tmp_path, GOOD)
    expected = {"churn": PlannedTraining("2026-01-01", "2026-01-04", is_evaluated=False)}
    assert planned_trainings(project, demo_plan(project)) == expected


def test_a_model_that_is_gone_is_told_with_the_file_that_names_it(tmp_path: Path) -> None:
    """Whoever removed a model finds what else names it."""
    project = project_with(tmp_path, GOOD)
    project.defs.mkdir(parents=True)
    with pytest.raises(StackError, match=r"demo\.yaml names a model that is not there: churn"):
        planned_trainings(project, demo_plan(project))


def test_a_model_that_is_only_trained_declares_a_training(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    """Otherwise the demo would have nothing to do with it; a model that is served needs none."""
    untrained = SimpleNamespace(training_range=None)
    monkeypatch.setattr("infra.local.demo.demo_plan.declaration_of", lambda *_: untrained)
    project = project_with(tmp_path, GOOD)
    assert planned_trainings(project, demo_plan(project)) == {}
    project = project_with(tmp_path, f"{GOOD}also_trained: [tides]\n")
    with pytest.raises(StackError, match="tides declares no training"):
        planned_trainings(project, demo_plan(project))
