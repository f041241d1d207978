"""The retraining sensor starts one execution when batches drift, and then waits for the cool-down."""

from __future__ import annotations

from dataclasses import dataclass, replace
from datetime import UTC, datetime
from typing import TYPE_CHECKING, Any

import dagster as dg
import pytest

from mlpipe_dagster.pipeline.asset_names import DRIFT, SNOWFLAKE, asset_key
from mlpipe_dagster.versions.followed_packages import follow_packages
from mlpipe_dagster.versions.promotion_by_rule import promote_by_rule
from mlpipe_dagster.versions.retraining_sensor import retraining_tick
from prediction_contract.jobs.verdict import APPROVED, PENDING, REJECTED
from tests.dagster.accuracy.test_accuracy import measured, publish, put
from tests.dagster.small_model import SmallModel, declaration
from tests.dagster.versions.small_retraining import SmallRetraining

if TYPE_CHECKING:
    from pathlib import Path

    from tests.dagster.versions.registered_packages import RegisteredPackages

pytestmark = pytest.mark.stack
TRAINING = {"window": 30, "held_out": 14, "approval": "manual", "cool_down": 7}


@dataclass
class Daemon:
    """A stand-in for Dagster's daemon and for the checks of batches.

    Attributes:
        small: The model's retraining pipeline.
        instance: Holds the events.
        cursor: The sensor's cursor.
    """

    small: SmallRetraining
    instance: dg.DagsterInstance
    cursor: str | None = None

    def check(self, day: int, version: str, *, passed: bool, live: str | None = None) -> None:
        """Report the drift check of a day's batch."""
        partition = f"2013-02-{day:02d}"
        told = {"batch_id": f"{partition}-1", "partition": partition, "model_version": version}
        self.instance.report_runless_asset_event(
            dg.AssetCheckEvaluation(
                asset_key=asset_key(self.small.registered.model, SNOWFLAKE),
                check_name=DRIFT,
                passed=passed,
                metadata={**told, **({"live_model_version": live} if live else {})},
            )
        )

    def tick(self, **changes: Any) -> tuple[str, list[str]]:
        """Evaluate the sensor once; return its reason and the causes of the executions it started.

        Args:
            changes: Changes of the model's declaration beyond its file.
        """
        training = {**TRAINING, **changes.pop("training", {})}
        declared = declaration(self.small.registered.model, training=training).model_copy(update=changes)
        assert declared.retraining is not None
        context = dg.build_sensor_context(instance=self.instance, cursor=self.cursor)
        result = retraining_tick(context, self.small.platform, declared, declared.retraining)
        self.cursor = result.cursor
        assert result.skip_reason is not None
        started = [
            str(event.metadata["cause"].value)
            for event in result.asset_events
            if isinstance(event, dg.AssetObservation)
        ]
        return str(result.skip_reason.skip_message), started


@pytest.fixture
def daemon(registered: RegisteredPackages, instance: dg.DagsterInstance) -> Daemon:
    """Return the daemon of a model whose pipeline does nothing."""
    return Daemon(SmallRetraining(registered, is_bare=True), instance)


def champion(registered: RegisteredPackages, execution: str, last_held_out: str) -> str:
    """Register a version, make it the champion, and return its digest."""
    pointer = registered.registry.champion(registered.model)
    number = pointer.version if pointer else None
    version = registered.register(execution, last_held_out=last_held_out, champion_version=number or 0)
    followed = follow_packages(registered.packages, registered.registry, registered.model)
    promote_by_rule(
        registered.registry,
        registered.model,
        followed.versions.values(),
        actor="sensor",
        now=datetime.now(UTC),
    )
    return registered.record(version).digest


def test_drift_starts_one_execution_per_cool_down(daemon: Daemon, registered: RegisteredPackages) -> None:
    """The next drifted batches start another execution only after seven partitions."""
    assert daemon.tick() == ("No version is the champion", [])
    first = champion(registered, "exec1", "2013-01-31")
    assert daemon.tick() == ("No batch of version 1 has been checked yet", [])
    # The first batch of a version drifts by design.
    daemon.check(10, first, passed=False, live="0" * 16)
    daemon.check(11, first, passed=False)
    assert "No reason to retrain" in daemon.tick()[0]
    daemon.check(12, first, passed=False)
    why, started = daemon.tick()
    assert started == ["drift"]
    assert "2 of the champion's last 3 batches have drifted: 2013-02-12" in why
    (name,) = daemon.small.executions()
    described = daemon.small.sagemaker.list_pipeline_executions(PipelineName=daemon.small.pipeline)
    arn = described["PipelineExecutionSummaries"][0]["PipelineExecutionArn"]
    assert arn in why
    parameters = daemon.small.sagemaker.list_pipeline_parameters_for_execution(PipelineExecutionArn=arn)
    given = {each["Name"]: each["Value"] for each in parameters["PipelineParameters"]}
    assert given == {
        "LastPartition": "newest",
        "Attempt": "1",
        "Cause": "drift",
        "RequestedBy": "dagster:retraining-sensor",
    }
    daemon.check(18, first, passed=False)
    assert "may start 7 partitions later" in daemon.tick()[0]
    assert list(daemon.small.executions()) == [name]
    daemon.check(20, first, passed=False)
    assert daemon.tick()[1] == ["drift"]
    assert len(daemon.small.executions()) == 2


@pytest.mark.parametrize("approval", [APPROVED, PENDING, REJECTED])
def test_registered_retraining_starts_the_cool_down(
    daemon: Daemon, registered: RegisteredPackages, approval: str
) -> None:
    """It counts although the sensor did not start it, whatever became of its version."""
    first = champion(registered, "exec1", "2013-01-31")
    registered.register("exec2", approval=approval, last_held_out="2013-02-12")
    follow_packages(registered.packages, registered.registry, registered.model)
    for day in (12, 13, 14):
        daemon.check(day, first, passed=False)
    assert "The last retraining was on 2013-02-12" in daemon.tick()[0]
    assert daemon.small.executions() == {}


def test_decayed_accuracy_starts_the_same_execution_as_drift(
    daemon: Daemon, registered: RegisteredPackages, tmp_path: Path
) -> None:
    """Drift of the same day does not start a second execution."""
    digest = champion(registered, "exec1", "2013-01-31")
    (tmp_path / "outcomes.py").write_text("")
    metric = {"kind": "mae", "predicted": "score", "actual": "spent"}
    judged = {"folder": tmp_path, "training": {"metrics": [metric], "approval": "auto"}}
    delivered = SmallModel(registered.platform, declaration(registered.model))
    for day in (12, 13):
        daemon.check(day, digest, passed=True)
        partition = f"2013-02-{day}"
        batch_id = publish(delivered, partition)
        found = measured(partition, 99.0, batch_id=batch_id, version=1, digest=digest)
        put(delivered, replace(found, metrics=(replace(found.metrics[0], name="mae"),)))
    why, started = daemon.tick(**judged)
    assert started == ["accuracy"]
    assert "worse than promised: mae is 99" in why
    for day in (12, 13):
        daemon.check(day, digest, passed=False)
    daemon.cursor = None
    assert daemon.tick()[1] == ["drift"]
    assert len(daemon.small.executions()) == 1


def test_ticks_without_cursor_start_the_same_execution(
    daemon: Daemon, registered: RegisteredPackages
) -> None:
    """Both ticks report drift, but SageMaker has one execution."""
    first = champion(registered, "exec1", "2013-01-31")
    for day in (12, 13):
        daemon.check(day, first, passed=False)
    started = []
    for _ in range(2):
        daemon.cursor = None
        started += daemon.tick()[1]
    assert started == ["drift", "drift"]
    assert len(daemon.small.executions()) == 1
