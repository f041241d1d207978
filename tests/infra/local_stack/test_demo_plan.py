"""`demo.yaml` declares what a project's demo shows; errors name file, line and field."""

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
    """Declare a daily model with this `training`; without one its versions come from the registry."""
    folder = project.defs / model
    folder.mkdir(parents=True)
    (folder / "outcomes.py").write_text("")
    trained = f"training: {training}" if training else "model: {from: registry}"
    (folder / "defs.yaml").write_text(f"{DECLARED}  {trained}\n")


def test_four_fields_suffice_for_a_plan(tmp_path: Path) -> None:
    """Texts, further models and retrainings are optional."""
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
def test_error_names_line_and_field(tmp_path: Path, changed: str, message: str) -> None:
    """An invalid field is reported with its line in `demo.yaml` and its name."""
    with pytest.raises(StackError, match=message):
        demo_plan(project_with(tmp_path, GOOD + changed))


@pytest.mark.parametrize("partitions", ['["2026-01-06", "2026-01-05"]', '["2026-01-05"]', '["monday", "x"]'])
def test_fewer_than_two_ordered_partitions_are_refused(tmp_path: Path, partitions: str) -> None:
    """A demo needs two partitions in order, so that it can roll back to the first."""
    text = GOOD.replace('["2026-01-05", "2026-01-06"]', partitions)
    with pytest.raises(StackError, match=r"demo\.yaml:2 partitions"):
        demo_plan(project_with(tmp_path, text))


@pytest.mark.parametrize(
    ("plan", "message"), [(None, "has no demo.yaml"), ("a: [", "is not valid YAML"), ("- 1\n", "demo.yaml:1")]
)
def test_missing_or_malformed_plan_is_refused(tmp_path: Path, plan: str | None, message: str) -> None:
    """The message says that `demo.yaml` is missing, or where it is invalid."""
    with pytest.raises(StackError, match=message):
        demo_plan(project_with(tmp_path, plan))


def test_example_plans_two_flight_delay_versions_and_one_congestion_version() -> None:
    """Neither flight_delay version is trained on the days that the second one is judged on."""
    planned = planned_versions(EXAMPLE, demo_plan(EXAMPLE))
    first, second = planned["flight_delay"].ranges
    assert [each.last_held_out for each in (first, second)] == ["2013-01-14", "2013-01-29"]
    assert second.first_held_out is not None
    assert first.last < second.last < second.first_held_out
    assert [each.last_held_out for each in planned["airport_congestion"].ranges] == ["2013-01-29"]
    assert all(versions.has_metrics and versions.is_approved_by_rule for versions in planned.values())


def test_training_without_metrics_has_no_held_out_days(tmp_path: Path) -> None:
    """A model without metrics is not judged, so its versions are not approved by rule."""
    project = project_with(tmp_path, GOOD + 'retrained: ["2026-01-04"]\n')
    declare(project, "churn", "{window: 3}")
    planned = planned_versions(project, demo_plan(project))["churn"]
    assert [(each.first, each.last, each.first_held_out) for each in planned.ranges] == [
        ("2026-01-02", "2026-01-04", None)
    ]
    assert (planned.has_metrics, planned.is_approved_by_rule) == (False, False)


def test_undeclared_model_is_reported_with_demo_yaml(tmp_path: Path) -> None:
    """A plan that still names a removed model is refused with the file that names it."""
    project = project_with(tmp_path, GOOD)
    project.defs.mkdir(parents=True)
    with pytest.raises(StackError, match=r"demo\.yaml: No model churn is declared"):
        planned_versions(project, demo_plan(project))


def test_retrained_model_without_training_is_refused(tmp_path: Path) -> None:
    """Only models that the demo trains need a `training`; the served model alone needs none."""
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


def test_model_with_training_needs_retrained_dates(tmp_path: Path) -> None:
    """On a new stack no partition is prepared, so the plan must say up to which one to train."""
    project = project_with(tmp_path, GOOD)
    declare(project, "churn", "{window: 3}")
    with pytest.raises(StackError, match="retrained is missing, but churn declares `training`"):
        planned_versions(project, demo_plan(project))
