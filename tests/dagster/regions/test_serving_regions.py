"""A serving region follows home only after its replica of a real global table was verified."""

from __future__ import annotations

import dataclasses
import gzip
import hashlib
from datetime import timedelta
from decimal import Decimal
from typing import TYPE_CHECKING, Any

import dagster as dg
import pytest

from infra.definitions import resource_definitions
from infra.local.provisioning.provisioned_storage import ensure_table
from mlpipe_dagster.pipeline.model_sensors import ModelsUnreadableError, ServedModel
from mlpipe_dagster.regions.region_follower import FollowStep, RegionFollower
from mlpipe_dagster.regions.serving_regions_sensor import (
    ALARM_AFTER,
    FOLLOWED_BATCH_TAG,
    follow_home_job,
    follower,
    serving_regions_tick,
)
from mlpipe_dagster.resources.platform import Platform
from prediction_contract.manifests.load_report import LOADED, LoadReport, StoreReport
from prediction_contract.manifests.manifest import JsonPart
from prediction_contract.naming.s3_layout import json_part_key, report_key
from prediction_contract.registry.load_rules import claim_load, complete_load, verify_load
from prediction_contract.rows.checksums import RowTally
from prediction_contract.rows.prediction_line import prediction_line
from prediction_contract.rows.row_contract import row_contract
from prediction_contract.stores.online_item import OnlineItems
from tests.dagster.publication.test_publication_asset import publisher, request
from tests.dagster.small_model import DAYS, NOTHING, PARTITION, TOKEN, SmallModel, now

if TYPE_CHECKING:
    from collections.abc import Iterator
    from datetime import datetime

pytestmark = pytest.mark.stack
REGION = "eu-west-1"
ROWS = 20


class ReplicatedModel:
    """A model whose online table has a replica in another region and items in DynamoDB."""

    def __init__(self, small: SmallModel, instance: dg.DagsterInstance) -> None:
        self.small = small
        self.instance = instance
        self.platform = small.platform
        self.table = small.platform.settings.deployment.online_table(small.name)
        self.home = small.platform.client("dynamodb")
        self.replica = small.platform.dynamodb_in(REGION)
        definition = resource_definitions.online_table(small.platform.settings.deployment, small.name)
        ensure_table(self.home, definition)
        self.home.update_table(TableName=self.table, ReplicaUpdates=[{"Create": {"RegionName": REGION}}])
        self.items = OnlineItems(small.declaration.prediction_schema)
        contract = row_contract(small.declaration.prediction_schema)
        self.lines = [
            prediction_line(contract, {"entity_id": f"E{number}", "score": Decimal(number)})
            for number in range(ROWS)
        ]
        self.tally = RowTally(rows=ROWS, checksum=sum(line.checksum for line in self.lines))

    def batch(self, partition: str = PARTITION) -> str:
        """Deliver, load and verify a batch, and return its id."""
        small, batch_id = self.small, self.small.batch_id()
        content = gzip.compress(b"".join(line.content for line in self.lines))
        key = json_part_key(small.name, partition, batch_id, 1, share="part", number=0)
        self.platform.bucket.put(key, content)
        part = JsonPart(key, ROWS, len(content), hashlib.sha256(content).hexdigest())
        checksum = str(self.tally.checksum % 2**64)
        small.registered_batch(batch_id=batch_id, json_parts=[part], checksum=checksum, partition=partition)
        self.load(batch_id, now() + DAYS)
        return batch_id

    def load(self, batch_id: str, expire_at: datetime) -> None:
        """Write the batch's items and its report, and verify the load in the registry."""
        small, registry = self.small, self.platform.registry
        for line in self.lines:
            assert line.row is not None
            item = self.items.build(line.row, batch_id, int(expire_at.timestamp()))
            self.home.put_item(TableName=self.table, Item=item)
        confirm_by = now() + timedelta(minutes=5)
        registry.carry_out(
            lambda: claim_load(small.record(batch_id), token=TOKEN, confirm_by=confirm_by, now=now())
        )
        attempt = small.record(batch_id).load_attempts
        stored = StoreReport(table=self.table, rows=self.tally, verified_rows=ROWS)
        report = LoadReport(
            status=LOADED,
            model=small.name,
            batch_id=batch_id,
            attempt=attempt,
            job_run_id="jr",
            manifest_digest=small.record(batch_id).manifest_digest,
            started_at="2026-11-23T01:02:03Z",
            ended_at="2026-11-23T01:02:09Z",
            items_expire_at=int(expire_at.timestamp()),
            dynamodb=stored,
            snowflake=stored,
        )
        self.platform.bucket.put(report_key(small.name, batch_id, attempt), report.to_bytes())
        registry.carry_out(
            lambda: complete_load(
                small.record(batch_id), token=TOKEN, expire_at=expire_at, now=now(), retention=DAYS
            )
        )
        evidence = report.evidence()
        assert evidence is not None
        assert evidence.quarantined == NOTHING
        registry.carry_out(lambda: verify_load(small.record(batch_id), evidence, now=now(), retention=DAYS))

    def publish(self, batch_id: str) -> None:
        """Make a batch live in the home region."""
        publisher(self.small).publish(batch_id, request(), "{}")

    def follower(self, **changes: Any) -> RegionFollower:
        """Return the region's follower, with some attributes changed."""
        made = follower(self.platform, self.small.name, REGION)
        return RegionFollower(
            **{name: getattr(made, name) for name in RegionFollower.__dataclass_fields__} | changes
        )

    def served(self) -> tuple[str | None, int] | None:
        """Return batch and sequence of the region's pointer."""
        pointer = self.platform.registry.pointer(self.small.name, REGION)
        return (pointer.batch_id, pointer.sequence) if pointer else None

    def key(self, batch_id: str, number: int) -> dict[str, Any]:
        """Return an item's key."""
        return {"entity_id": {"S": f"E{number}"}, "batch_id": {"S": batch_id}}

    def requests(self, *, later: timedelta = timedelta(0), beside: str = "") -> list[dg.RunRequest]:
        """Return the sensor's run requests at some time from now, with another model beside if named."""
        models = [
            ServedModel(name=name, partitions=self.small.partitions, items_life=timedelta(days=90))
            for name in (beside, self.small.name)
            if name
        ]
        found = serving_regions_tick(self.instance, self.platform, models, now() + later)
        return list(found.run_requests or ())


@pytest.fixture
def replicated(small_model: SmallModel, monkeypatch: pytest.MonkeyPatch) -> Iterator[ReplicatedModel]:
    """Yield a model with a replica, in a deployment that serves from two regions."""
    monkeypatch.setenv("MLPIPE_SERVING_REGIONS", f"us-east-1 {REGION}")
    platform = Platform()
    with dg.DagsterInstance.ephemeral() as instance:
        yield ReplicatedModel(SmallModel(platform, small_model.declaration), instance)


def test_region_follows_once_its_replica_is_complete(replicated: ReplicatedModel) -> None:
    """The replica is verified, the pointer moves to home's sequence, and no further run is requested."""
    batch_id = replicated.batch()
    replicated.publish(batch_id)
    assert replicated.served() is None
    assert len(replicated.requests()) == 1
    assert replicated.follower().follow().step is FollowStep.FOLLOWED
    assert replicated.served() == (batch_id, 1)
    assert replicated.small.record(batch_id).verified_regions == {REGION}
    assert replicated.requests() == []
    assert replicated.follower().follow().step is FollowStep.IN_STEP


@pytest.mark.parametrize("spoil", ["missing", "altered"])
def test_incomplete_replica_does_not_become_live(replicated: ReplicatedModel, spoil: str) -> None:
    """Home keeps serving, the delay grows beyond the alarm, and the region follows once it is repaired."""
    batch_id = replicated.batch()
    if spoil == "missing":
        replicated.replica.delete_item(TableName=replicated.table, Key=replicated.key(batch_id, 7))
    else:
        replicated.replica.update_item(
            TableName=replicated.table,
            Key=replicated.key(batch_id, 7),
            UpdateExpression="SET score = :other",
            ExpressionAttributeValues={":other": {"N": "99"}},
        )
    replicated.publish(batch_id)
    found = replicated.follower().follow()
    assert found.step is FollowStep.INCOMPLETE
    assert REGION in found.faults[0]
    assert (replicated.served(), found.home_batch_id) == (None, batch_id)
    late = replicated.follower(clock=lambda: now() + ALARM_AFTER * 2).follow()
    assert late.behind > ALARM_AFTER
    replicated.load(batch_id, now() + DAYS)
    assert replicated.follower().follow().step is FollowStep.FOLLOWED


def test_region_is_verified_again_after_a_reload(replicated: ReplicatedModel) -> None:
    """An item of the earlier load makes the replica incomplete."""
    batch_id = replicated.batch()
    replicated.publish(batch_id)
    replicated.follower().follow()
    item = replicated.replica.get_item(TableName=replicated.table, Key=replicated.key(batch_id, 3))["Item"]
    replicated.load(batch_id, now() + 2 * DAYS)
    assert replicated.small.record(batch_id).verified_regions == frozenset()
    assert len(replicated.requests()) == 1
    replicated.replica.put_item(TableName=replicated.table, Item=item)
    assert replicated.follower().follow().step is FollowStep.INCOMPLETE
    replicated.load(batch_id, now() + 2 * DAYS)
    assert replicated.follower().follow().step is FollowStep.IN_STEP
    assert replicated.small.record(batch_id).verified_regions == {REGION}


def test_publication_during_the_count_is_noticed(replicated: ReplicatedModel) -> None:
    """The region does not move to the batch that home served when the count began."""
    first, second = replicated.batch("2013-01-31"), replicated.batch()
    replicated.publish(first)

    class Meanwhile:
        """Publish another batch at home while the replica is counted."""

        def __getattr__(self, name: str) -> Any:
            if replicated.platform.registry.publications(replicated.small.name, after=1) == []:
                replicated.publish(second)
            return getattr(replicated.replica, name)

    assert replicated.follower(replica=Meanwhile()).follow().step is FollowStep.OVERTAKEN
    assert replicated.served() is None
    assert replicated.follower().follow().step is FollowStep.FOLLOWED
    assert replicated.served() == (second, 2)


def test_requested_run_moves_the_region(replicated: ReplicatedModel) -> None:
    """The job moves the pointer and reports the outcome as an observation of the publication."""
    batch_id = replicated.batch()
    replicated.publish(batch_id)
    (wanted,) = replicated.requests()
    result = follow_home_job.execute_in_process(
        run_config=wanted.run_config, resources={"platform": replicated.platform}
    )
    (observed,) = [event for event in result.all_events if event.event_type_value == "ASSET_OBSERVATION"]
    metadata = observed.asset_observation_data.asset_observation.metadata
    assert (metadata["step"].value, metadata["region_serves"].value) == ("followed", batch_id)
    assert replicated.served() == (batch_id, 1)


@pytest.mark.parametrize("is_late", [False, True], ids=["at_first", "late"])
def test_run_for_a_late_region_fails(replicated: ReplicatedModel, *, is_late: bool) -> None:
    """The run reports missing rows and succeeds at first; once the region is too late, it fails."""
    batch_id = replicated.batch()
    replicated.replica.delete_item(TableName=replicated.table, Key=replicated.key(batch_id, 7))
    since = ALARM_AFTER * 2 if is_late else timedelta(0)
    dataclasses.replace(publisher(replicated.small), clock=lambda: now() - since).publish(
        batch_id, request(), "{}"
    )
    (wanted,) = replicated.requests()
    result = follow_home_job.execute_in_process(
        run_config=wanted.run_config, resources={"platform": replicated.platform}, raise_on_error=False
    )
    if is_late:
        (failed,) = [event for event in result.all_events if event.is_step_failure]
        failure = failed.step_failure_data.user_failure_data
        assert failure is not None
        assert f"{REGION} has been behind home for" in str(failure.description)
        assert f"home serves {batch_id}" in str(failure.description)
        metadata = failure.metadata
    else:
        (observed,) = [event for event in result.all_events if event.event_type_value == "ASSET_OBSERVATION"]
        metadata = observed.asset_observation_data.asset_observation.metadata
    assert result.success is not is_late
    assert metadata["step"].value == "incomplete"
    assert REGION in str(metadata["faults"].value)
    assert replicated.served() is None
    # The sensor requests runs until the region has followed.
    assert len(replicated.requests()) == 1


def test_region_gets_no_second_run_for_the_same_batch(replicated: ReplicatedModel) -> None:
    """A run in progress is not repeated; a failed one is, and a newer batch gets its own run."""
    replicated.publish(replicated.batch("2013-01-31"))
    (wanted,) = replicated.requests()
    run = replicated.instance.add_run(
        dg.DagsterRun(job_name=wanted.job_name or "", status=dg.DagsterRunStatus.STARTED, tags=wanted.tags)
    )
    assert replicated.requests(later=timedelta(hours=1)) == []
    newer = replicated.batch()
    replicated.publish(newer)
    (other,) = replicated.requests(later=timedelta(hours=1))
    assert other.tags[FOLLOWED_BATCH_TAG] == newer
    replicated.instance.add_run(
        dg.DagsterRun(job_name=wanted.job_name or "", status=dg.DagsterRunStatus.FAILURE, tags=other.tags)
    )
    replicated.instance.report_run_failed(run)
    (again,) = replicated.requests(later=timedelta(hours=2))
    assert again.run_key != other.run_key


def test_unreadable_model_does_not_block_other_regions(replicated: ReplicatedModel) -> None:
    """The tick fails and names it only when no other model needs a run."""
    replicated.publish(replicated.batch())
    broken = replicated.small.unreadable_model()
    assert len(replicated.requests(beside=broken)) == 1
    replicated.follower().follow()
    with pytest.raises(ModelsUnreadableError, match=broken):
        replicated.requests(beside=broken)


def test_hold_does_not_make_a_region_late(replicated: ReplicatedModel) -> None:
    """The region still serves home's batch, so only its sequence has to follow."""
    replicated.publish(replicated.batch())
    replicated.follower().follow()
    pointer = replicated.platform.registry.pointer(replicated.small.name, REGION)
    assert pointer is not None
    publisher(replicated.small).hold(request(), held=True)
    later = replicated.follower(clock=lambda: now() + ALARM_AFTER * 2)
    assert later._result(FollowStep.INCOMPLETE, later._live_pointers()).behind == timedelta(0)
    assert later.follow().step is FollowStep.FOLLOWED
    followed = replicated.platform.registry.pointer(replicated.small.name, REGION)
    assert followed == dataclasses.replace(pointer, sequence=2)
