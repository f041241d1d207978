"""The sensor of model versions follows events, lists what they missed, and shows each change once."""

from __future__ import annotations

import json
import time
from dataclasses import dataclass, field
from datetime import UTC, datetime, timedelta
from typing import TYPE_CHECKING, Any

import dagster as dg
import pytest

from mlpipe_dagster.pipeline.asset_names import MODEL_VERSIONS, TRAINED_MODEL, asset_key
from mlpipe_dagster.pipeline.model_sensors import ModelsUnreadableError
from mlpipe_dagster.resources.platform import Platform
from mlpipe_dagster.versions.followed_packages import follow_packages
from mlpipe_dagster.versions.model_events_queue import event_target
from mlpipe_dagster.versions.model_versions_sensor import LIST_EVERY, model_versions_tick
from mlpipe_dagster.versions.version_events import version_partitions
from prediction_contract.jobs.verdict import APPROVED, PENDING
from prediction_contract.registry.records import ChangeRequest
from prediction_contract.registry.version_records import VersionState
from prediction_contract.registry.version_rules import demote, hold_versions
from prediction_contract.registry.version_rules import promote as promote_version
from tests.dagster.versions.registered_packages import EWR, JFK, RegisteredPackages

if TYPE_CHECKING:
    from collections.abc import Callable

pytestmark = pytest.mark.stack


@dataclass
class Daemon:
    """A stand-in for Dagster's daemon that stores a tick's results as the real one does.

    Attributes:
        registered: The model's packages.
        instance: Holds the events.
        url: The queue's address.
        models: The models that the sensor watches.
        now: The moment of the next tick.
        cursor: The sensor's cursor.
    """

    registered: RegisteredPackages
    instance: dg.DagsterInstance
    url: str
    models: list[str] = field(default_factory=list)
    now: datetime = field(default_factory=lambda: datetime.now(UTC))
    cursor: str | None = None

    def tick(
        self,
        *,
        lists: bool = True,
        is_kept: bool = True,
        clock: Callable[[], float] = time.monotonic,
    ) -> dg.SensorResult:
        """Evaluate the sensor once.

        Args:
            lists: Whether enough time has passed for a listing.
            is_kept: Whether the daemon lives long enough to store the tick's results.
            clock: Measures the tick.
        """
        self.now += LIST_EVERY if lists else timedelta(seconds=10)
        context = dg.build_sensor_context(instance=self.instance, cursor=self.cursor)
        models = self.models or [self.registered.model]
        result = model_versions_tick(context, self.registered.platform, models, self.now, clock)
        if is_kept:
            self.cursor = result.cursor
            for event in result.asset_events:
                self.instance.report_runless_asset_event(event)
            for request in result.dynamic_partitions_requests or ():
                self.instance.add_dynamic_partitions(
                    request.partitions_def_name, list(request.partition_keys)
                )
        return result

    def send(self, version: int, **changes: Any) -> None:
        """Send EventBridge's event about a package."""
        detail = {"ModelPackageGroupName": self.registered.group, "ModelPackageVersion": version}
        event = {
            "source": "aws.sagemaker",
            "detail-type": "SageMaker Model Package State Change",
            "detail": detail,
            **changes,
        }
        self.registered.platform.client("sqs").send_message(QueueUrl=self.url, MessageBody=json.dumps(event))

    def hidden(self) -> int:
        """Return how many messages were received but not deleted."""
        found = self.registered.platform.client("sqs").get_queue_attributes(
            QueueUrl=self.url, AttributeNames=["ApproximateNumberOfMessagesNotVisible"]
        )
        return int(found["Attributes"]["ApproximateNumberOfMessagesNotVisible"])

    def states(self) -> list[tuple[str, str]]:
        """Return the versions and states that Dagster shows, oldest event first."""
        key = asset_key(self.registered.model, MODEL_VERSIONS)
        found = self.instance.fetch_materializations(key, limit=100, ascending=True)
        return [
            (str(record.partition_key), str(event.metadata["state"].value))
            for record in found.records
            if (event := record.asset_materialization)
        ]

    def champions(self) -> list[tuple[int, str]]:
        """Return the champions that Dagster shows with their data versions, oldest event first."""
        key = asset_key(self.registered.model, TRAINED_MODEL)
        found = self.instance.fetch_materializations(key, limit=100, ascending=True)
        return [
            (int(str(event.metadata["version"].value)), (event.tags or {})["dagster/data_version"])
            for record in found.records
            if (event := record.asset_materialization)
        ]


@pytest.fixture
def daemon(
    registered: RegisteredPackages, instance: dg.DagsterInstance, monkeypatch: pytest.MonkeyPatch
) -> Daemon:
    """Return the sensor's daemon with a new queue."""
    platform = registered.platform
    queue = platform.settings.deployment.model_events_queue
    url = platform.client("sqs").create_queue(QueueName=queue)["QueueUrl"]
    monkeypatch.setenv("MLPIPE_MODEL_EVENTS_QUEUE_URL", url)
    # A platform reads its settings once, so the new queue needs a new platform.
    registered.platform = Platform()
    return Daemon(registered, instance, url)


def test_event_leads_to_a_champion_in_dagster(daemon: Daemon, registered: RegisteredPackages) -> None:
    """State, champion, partition and the checks of the verdict are shown."""
    daemon.tick()
    version = registered.register("exec1", slices=(JFK, EWR), worse_slices=1)
    daemon.send(version)
    result = daemon.tick(lists=False)
    assert daemon.states() == [("000001", "champion")]
    digest = registered.record(version).digest
    assert daemon.champions() == [(version, digest)]
    keys = daemon.instance.get_dynamic_partitions(str(version_partitions(registered.model).name))
    assert list(keys) == ["000001"]
    checks = {
        event.check_name: (event.passed, event.description)
        for event in result.asset_events
        if isinstance(event, dg.AssetCheckEvaluation)
    }
    assert {name: passed for name, (passed, _) in checks.items()} == {
        "better_than_champion": True,
        "no_slice_worse": False,
        "artifact_loads": True,
    }
    assert "origin JFK" in str(checks["no_slice_worse"][1])
    (shown,) = [
        event
        for event in result.asset_events
        if isinstance(event, dg.AssetMaterialization) and event.partition == "000001"
    ]
    figures = {name: shown.metadata[name].value for name in ("mae", "mae_champion", "mae_train_mean")}
    assert figures == {"mae": 20.0, "mae_champion": 22.0, "mae_train_mean": 25.0}
    assert shown.metadata["approved_by"].value == "rule"
    assert daemon.hidden() == 0


def test_lost_duplicate_and_old_events_change_nothing(daemon: Daemon, registered: RegisteredPackages) -> None:
    """The listing finds versions without an event, and later events add nothing."""
    first = registered.register("exec1")
    daemon.tick()
    second = registered.register("exec2", champion_version=first)
    for version in (second, first, second, first):
        daemon.send(version)
    daemon.tick(lists=False)
    shown = [("000001", "champion"), ("000001", "superseded"), ("000002", "champion")]
    assert daemon.states() == shown
    for version in (first, second):
        daemon.send(version)
    result = daemon.tick()
    assert (list(result.asset_events), daemon.states(), daemon.hidden()) == ([], shown, 0)
    assert [version for version, _ in daemon.champions()] == [first, second]


def test_lost_tick_is_repaired_by_the_next_listing(daemon: Daemon, registered: RegisteredPackages) -> None:
    """The message is gone, but the listing shows what Dagster lacks."""
    daemon.tick()
    version = registered.register("exec1")
    daemon.send(version)
    assert daemon.tick(lists=False, is_kept=False).asset_events
    assert (daemon.hidden(), daemon.states()) == (0, [])
    daemon.tick()
    assert daemon.states() == [("000001", "champion")]
    assert [found for found, _ in daemon.champions()] == [version]


def test_lost_cursor_shows_nothing_twice(daemon: Daemon, registered: RegisteredPackages) -> None:
    """The sensor asks Dagster what is already shown."""
    registered.register("exec1")
    registered.register("exec2", approval=PENDING)
    daemon.tick()
    daemon.cursor = "nonsense"
    assert list(daemon.tick().asset_events) == []


def test_demotion_and_hold_by_a_person_are_shown(daemon: Daemon, registered: RegisteredPackages) -> None:
    """The earlier champion is shown again; a hold is an observation, shown once."""
    registry, model = registered.registry, registered.model
    first = registered.register("exec1")
    daemon.tick()
    second = registered.register("exec2", champion_version=first)
    daemon.tick()
    pointer = registry.champion(model)
    assert pointer is not None
    registry.carry_out(
        lambda: demote(
            registered.record(first),
            pointer,
            ChangeRequest(request_id="d1", actor="ann", reason="wrong on Sundays"),
            now=datetime.now(UTC),
        )
    )
    registry.carry_out(
        lambda: hold_versions(
            registry.champion(model),
            ChangeRequest(request_id="h1", actor="ann"),
            model=model,
            held=True,
            now=datetime.now(UTC),
        )
    )
    result = daemon.tick()
    assert [version for version, _ in daemon.champions()] == [first, second, first]
    assert daemon.states()[-2:] == [("000001", "champion"), ("000002", "withdrawn")]
    (held,) = [event for event in result.asset_events if isinstance(event, dg.AssetObservation)]
    assert "stopped" in str(held.description)
    assert "`ann`" in str(held.description)
    assert list(daemon.tick().asset_events) == []


def test_promotion_by_a_run_is_left_to_the_run(daemon: Daemon, registered: RegisteredPackages) -> None:
    """The sensor shows it only after the run has failed."""
    registry, model = registered.registry, registered.model
    version = registered.register("exec1", approval=PENDING)
    daemon.tick()
    registered.decide(version, APPROVED)
    run = dg.DagsterRun(
        job_name="x_train", run_id="2f7b9a52-3d0a-4b7e-9d38-111111111111", status=dg.DagsterRunStatus.STARTED
    )
    daemon.instance.add_run(run)
    follow_packages(registered.packages, registry, model)
    registry.carry_out(
        lambda: promote_version(
            registered.record(version),
            registry.champion(model),
            ChangeRequest(request_id="r1", actor=f"dagster run {run.run_id}"),
            now=datetime.now(UTC),
        )
    )
    daemon.tick()
    assert daemon.champions() == []
    daemon.instance.report_run_failed(run)
    daemon.tick()
    assert [found for found, _ in daemon.champions()] == [version]


def test_unusable_package_is_observed_once(daemon: Daemon, registered: RegisteredPackages) -> None:
    """Later ticks only name it in the skip reason, and the other package becomes champion."""
    registered.register("exec1", said={"digest": ""})
    good = registered.register("exec2")
    result = daemon.tick()
    (told,) = [event for event in result.asset_events if isinstance(event, dg.AssetObservation)]
    assert "digest" in str(told.description)
    assert registered.record(good).state == VersionState.CHAMPION
    again = daemon.tick()
    assert list(again.asset_events) == []
    assert again.skip_reason is not None
    assert "cannot be used" in str(again.skip_reason.skip_message)


def test_unreadable_model_does_not_block_others(daemon: Daemon, registered: RegisteredPackages) -> None:
    """Its message stays in the queue, and the tick fails only when there is nothing else to report."""
    missing = f"a{registered.model}"[:41]
    daemon.models = [missing, registered.model]
    version = registered.register("exec1")
    deployment = registered.platform.settings.deployment
    detail = {"ModelPackageGroupName": deployment.model_package_group(missing), "ModelPackageVersion": 1}
    daemon.send(1, detail=detail)
    result = daemon.tick()
    assert registered.record(version).state == VersionState.CHAMPION
    assert result.skip_reason is not None
    assert missing in str(result.skip_reason.skip_message)
    assert daemon.hidden() == 1
    with pytest.raises(ModelsUnreadableError, match=missing):
        daemon.tick(lists=False)


def test_tick_without_time_is_continued_by_the_next(daemon: Daemon, registered: RegisteredPackages) -> None:
    """A tick that runs out of time examines no model."""
    registered.register("exec1")
    moments = iter([0.0, *[100.0] * 50])
    daemon.tick(clock=lambda: next(moments))
    assert daemon.states() == []
    daemon.tick(lists=False)
    assert daemon.states() == [("000001", "champion")]


@pytest.mark.parametrize(
    ("body", "target"),
    [
        ("{", (None, None)),
        ("[]", (None, None)),
        ('{"source": "aws.s3", "detail-type": "x", "detail": {}}', (None, None)),
        (
            json.dumps(
                {
                    "source": "aws.sagemaker",
                    "detail-type": "SageMaker Model Package State Change",
                    "detail": {"ModelPackageGroupName": "mlpipe-t-m", "ModelPackageVersion": "1"},
                }
            ),
            (None, None),
        ),
        (
            json.dumps(
                {
                    "source": "aws.sagemaker",
                    "detail-type": "SageMaker Model Building Pipeline Execution Status Change",
                    "detail": {
                        "pipelineArn": "arn:aws:sagemaker:us-east-1:000000000000:pipeline/mlpipe-t-0retrain-m"
                    },
                }
            ),
            ("mlpipe-t-0retrain-m", None),
        ),
    ],
)
def test_event_target_is_pipeline_or_nothing(body: str, target: tuple[str | None, int | None]) -> None:
    """Messages that are malformed or about something else have no target."""
    assert event_target(body) == target
