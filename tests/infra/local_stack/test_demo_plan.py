"""A project says in `demo.yaml` what its demo shows; faults are told with file, line and field."""

from __future__ import annotations

from typing import TYPE_CHECKING

import pytest

from infra.local.demo.demo_plan import demo_plan, planned_versions
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
DECLARED = """type: mlpipe.PredictionPipeline

attributes:
  description: Who leaves.
  owners: ["team:predictions"]
  partitions: {start: "2026-01-01"}
  sources:
    customers: {format: csv, path: "raw/{partition}.csv", history: 7, columns: {entity_id: string}}
  columns:
    - {name: entity_id, type: string, nullable: false, key: true}
    - {name: p, type: double}
"""


def project_with(root: Path, plan: str | None) -> Project:
    """Return a project with this demo.yaml."""
    if plan is not None:
        (root / "demo.yaml").write_text(plan)
    return Project(root, "acme", root / "src" / "acme", "acme")


def declare(project: Project, model: str, training: str) -> None:
    """Declare a model of days with this `training`; without one its versions are trained elsewhere."""
    folder = project.defs / model
    folder.mkdir(parents=True)
    (folder / "outcomes.py").write_text("")
    trained = f"training: {training}" if training else "model: {from: registry}"
    (folder / "defs.yaml").write_text(f"{DECLARED}  {trained}\n")


def test_four_fields_make_a_demo(tmp_path: Path) -> None:
    """Texts, further models and retrainings may be left out."""
    plan = demo_plan(project_with(tmp_path, GOOD))
    assert (plan.model, plan.partitions) == ("churn", ["2026-01-05", "2026-01-06"])
    assert (plan.retrained, plan.also_trained, plan.texts.entity) == ([], [], "entity")


@pytest.mark.parametrize(
    ("changed", "message"),
    [
        ("entity_ids: a\n", "demo.yaml:5 entity_ids: Extra inputs"),
        ('retrained: ["2026-01-02", "2026-01-03", "2026-01-04"]\n', "demo.yaml:5 retrained"),
        ('retrained: ["2026-01-04", "2026-01-03"]\n', "demo.yaml:5 retrained"),
        ("texts: {entities: flights}\n", "demo.yaml:5 texts.entities"),
        ("also_trained: 5\n", "demo.yaml:5 also_trained"),
    ],
)
def test_a_fault_is_told_with_line_and_field(tmp_path: Path, changed: str, message: str) -> None:
    """Whoever wrote the file finds the place."""
    with pytest.raises(StackError, match=message):
        demo_plan(project_with(tmp_path, GOOD + changed))


@pytest.mark.parametrize("partitions", ['["2026-01-06", "2026-01-05"]', '["2026-01-05"]', '["monday", "x"]'])
def test_partitions_are_at_least_two_in_order(tmp_path: Path, partitions: str) -> None:
    """There is something to roll back to."""
    text = GOOD.replace('["2026-01-05", "2026-01-06"]', partitions)
    with pytest.raises(StackError, match=r"demo\.yaml:2 partitions"):
        demo_plan(project_with(tmp_path, text))


@pytest.mark.parametrize(
    ("plan", "message"), [(None, "has no demo.yaml"), ("a: [", "is not valid YAML"), ("- 1\n", "demo.yaml:1")]
)
def test_a_file_that_is_missing_or_no_plan_is_told(tmp_path: Path, plan: str | None, message: str) -> None:
    """The message names the project or the file."""
    with pytest.raises(StackError, match=message):
        demo_plan(project_with(tmp_path, plan))


def test_the_example_makes_two_versions_of_one_model_and_one_of_the_other() -> None:
    """The second version is judged on days that neither of the two has learned from."""
    planned = planned_versions(EXAMPLE, demo_plan(EXAMPLE))
    first, second = planned["flight_delay"].ranges
    assert [each.last_held_out for each in (first, second)] == ["2013-01-14", "2013-01-29"]
    assert second.first_held_out is not None
    assert first.last < second.last < second.first_held_out
    assert [each.last_held_out for each in planned["airport_congestion"].ranges] == ["2013-01-29"]
    assert all(versions.has_metrics and versions.is_approved_by_rule for versions in planned.values())


def test_a_training_without_metrics_holds_nothing_out(tmp_path: Path) -> None:
    """A project may declare no metrics: a person promotes what nothing was compared with."""
    project = project_with(tmp_path, GOOD + 'retrained: ["2026-01-04"]\n')
    declare(project, "churn", "{window: 3}")
    planned = planned_versions(project, demo_plan(project))["churn"]
    assert [(each.first, each.last, each.first_held_out) for each in planned.ranges] == [
        ("2026-01-02", "2026-01-04", None)
    ]
    assert (planned.has_metrics, planned.is_approved_by_rule) == (False, False)


def test_a_model_that_is_gone_is_told_with_the_file_that_names_it(tmp_path: Path) -> None:
    """Whoever removed a model finds what else names it."""
    project = project_with(tmp_path, GOOD)
    project.defs.mkdir(parents=True)
    with pytest.raises(StackError, match=r"demo\.yaml: No model churn is declared"):
        planned_versions(project, demo_plan(project))


def test_what_is_retrained_declares_a_training(tmp_path: Path) -> None:
    """Otherwise the demo would have nothing to do with it; a model that is served needs none."""
    project = project_with(tmp_path, GOOD)
    declare(project, "churn", "")
    declare(project, "tides", "")
    assert planned_versions(project, demo_plan(project)) == {}
    project = project_with(tmp_path, f"{GOOD}also_trained: [tides]\n")
    with pytest.raises(StackError, match="also_trained: tides declares no `training`"):
        planned_versions(project, demo_plan(project))
    project = project_with(tmp_path, f'{GOOD}retrained: ["2026-01-04"]\n')
    with pytest.raises(StackError, match="retrained: churn declares no `training`"):
        planned_versions(project, demo_plan(project))


def test_a_model_with_a_training_needs_to_know_up_to_where(tmp_path: Path) -> None:
    """On a new stack nothing is prepared, so no partition is the newest one."""
    project = project_with(tmp_path, GOOD)
    declare(project, "churn", "{window: 3}")
    with pytest.raises(StackError, match="retrained is missing, but churn declares `training`"):
        planned_versions(project, demo_plan(project))
