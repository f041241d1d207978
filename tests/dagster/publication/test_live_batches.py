"""Live batches are reloaded before they expire, and overdue partitions fail a check."""

from __future__ import annotations

import re
import uuid
from dataclasses import replace
from datetime import UTC, datetime, timedelta
from typing import TYPE_CHECKING

import dagster as dg
import pytest

from mlpipe_dagster.cli.load import named_done_file
from mlpipe_dagster.cli.main import parser
from mlpipe_dagster.pipeline.asset_names import BATCH_TAG, LIVE_BATCH_LASTS, PARTITION_IS_FRESH
from mlpipe_dagster.pipeline.model_partitions import time_partitions
from mlpipe_dagster.pipeline.model_sensors import ModelsUnreadableError, ServedModel
from mlpipe_dagster.publication.live_batch_checks import live_batch_checks
from mlpipe_dagster.publication.live_batch_rules import due_partition, reload_margin
from mlpipe_dagster.publication.live_batches_sensor import live_batches_tick, reload_request
from mlpipe_dagster.resources.platform import Platform
from mlpipe_dagster.settings import SettingsError
from prediction_contract.naming.batch import Partition
from prediction_contract.registry.automatic_publication import record_checks
from prediction_contract.registry.records import BatchRecord
from tests.dagster.publication.test_publication_asset import publisher, request
from tests.dagster.small_model import DAYS, SmallModel, now

if TYPE_CHECKING:
    from collections.abc import Callable, Iterator

LIFE = timedelta(days=30)
WEEKLY = time_partitions(Partition("2013-W01"), None)
MONTHLY = time_partitions(Partition("2013-01"), None)
HOURLY = dg.HourlyPartitionsDefinition(start_date=datetime(2013, 1, 1, tzinfo=UTC))
DAILY = dg.DailyPartitionsDefinition(
    start_date=datetime(2013, 1, 1, tzinfo=UTC), end_date=datetime(2013, 2, 1, tzinfo=UTC)
)


@pytest.mark.parametrize(
    ("partitions", "moment", "due"),
    [
        (DAILY, datetime(2013, 1, 5, 5, 59, tzinfo=UTC), "2013-01-03"),
        (DAILY, datetime(2013, 1, 5, 6, 0, tzinfo=UTC), "2013-01-04"),
        (DAILY, datetime(2013, 1, 2, 5, 59, tzinfo=UTC), None),
        (DAILY, datetime(2014, 6, 1, tzinfo=UTC), "2013-01-31"),
        (WEEKLY, datetime(2013, 2, 4, 5, 59, tzinfo=UTC), "2013-W04"),
        (WEEKLY, datetime(2013, 2, 4, 6, 0, tzinfo=UTC), "2013-W05"),
        (MONTHLY, datetime(2013, 3, 1, 5, 59, tzinfo=UTC), "2013-01"),
        (MONTHLY, datetime(2013, 3, 1, 6, 0, tzinfo=UTC), "2013-02"),
        (HOURLY, datetime(2013, 1, 5, 6, 30, tzinfo=UTC), "2013-01-04T23"),
    ],
)
def test_partition_is_due_some_hours_after_its_end(
    partitions: dg.PartitionsDefinition[str], moment: datetime, due: str | None
) -> None:
    """With six hours: none before the first partition ends, and never one after the last."""
    assert due_partition(partitions, timedelta(hours=6), moment) == due


def served(small: SmallModel, due_after: timedelta | None = None) -> ServedModel:
    """Return the model as sensors see it, with the partitions of 2013."""
    return ServedModel(name=small.name, partitions=small.partitions, items_life=LIFE, due_after=due_after)


@pytest.fixture
def instance() -> Iterator[dg.DagsterInstance]:
    """Make an empty instance."""
    with dg.DagsterInstance.ephemeral() as made:
        yield made


@pytest.fixture
def tick(small_model: SmallModel, instance: dg.DagsterInstance) -> Callable[..., dg.SensorResult]:
    """Return a function that runs the sensor at some time from now."""

    def look(
        after: timedelta = timedelta(0), cursor: str | None = None, **changes: timedelta
    ) -> dg.SensorResult:
        context = dg.build_sensor_context(instance=instance, cursor=cursor)
        return live_batches_tick(
            context, small_model.platform, [served(small_model, **changes)], now() + after
        )

    return look


def test_tick_with_missing_setting_fails(
    instance: dg.DagsterInstance, monkeypatch: pytest.MonkeyPatch
) -> None:
    """The error names the setting instead of a model."""
    monkeypatch.delenv("MLPIPE_STAGE", raising=False)
    model = ServedModel(name="things", partitions=DAILY, items_life=LIFE)
    with pytest.raises(SettingsError, match="MLPIPE_STAGE"):
        live_batches_tick(dg.build_sensor_context(instance=instance), Platform(), [model], now())


@pytest.mark.stack
def test_live_batch_is_reloaded_before_it_expires(
    small_model: SmallModel, tick: Callable[..., dg.SensorResult]
) -> None:
    """One run is requested per turn within the margin before expiry; batches not live are not reloaded."""
    batch_id = small_model.verified_batch()
    margin = reload_margin(LIFE)
    assert list(tick(DAYS).run_requests or ()) == []
    publisher(small_model).publish(batch_id, request(), "{}")
    assert list(tick(DAYS - margin - timedelta(hours=1)).run_requests or ()) == []
    (wanted,) = list(tick(DAYS - margin + timedelta(hours=1)).run_requests or ())
    load = wanted.run_config["ops"][f"{small_model.name}__load"]["config"]
    assert load == {"batch_id": batch_id, "above_attempt": 1}
    assert wanted.job_name == f"{small_model.name}_load"
    assert wanted.partition_key == "2013-02-01"
    (later,) = list(tick(DAYS - margin + timedelta(hours=9)).run_requests or ())
    assert later.run_key != wanted.run_key


@pytest.mark.parametrize(
    ("claim", "surpassed"),
    [(None, 3), ("held", 2)],
)
def test_reload_must_exceed_every_finished_attempt(claim: str | None, surpassed: int) -> None:
    """Attempts that ended, verified or not, do not count as the reload; one that holds its claim may."""
    record = BatchRecord(
        model="m",
        batch_id="20130201T060000Z-0123abcd",
        partition="2013-02-01",
        load_attempts=3,
        verified_attempt=1,
        unverified_attempt=3 if claim is None else 2,
        claim_token=claim,
    )
    config = reload_request(record, datetime(2013, 2, 20, 3, 59, tzinfo=UTC)).run_config["ops"]["m__load"]
    assert config["config"]["above_attempt"] == surpassed
    # A run that the next four-hour turn requests before a load begins takes the same load.
    later = reload_request(record, datetime(2013, 2, 20, 4, 1, tzinfo=UTC))
    assert later.run_config["ops"]["m__load"] == config


@pytest.mark.stack
def test_reload_under_way_is_not_requested_again(
    small_model: SmallModel, tick: Callable[..., dg.SensorResult], instance: dg.DagsterInstance
) -> None:
    """However long it runs, it is not repeated; a failed reload is."""
    publisher(small_model).publish(small_model.verified_batch(), request(), "{}")
    soon = DAYS - reload_margin(LIFE) + timedelta(hours=1)
    (wanted,) = list(tick(soon).run_requests or ())
    run = dg.DagsterRun(
        job_name=str(wanted.job_name),
        run_id=str(uuid.uuid4()),
        tags=dict(wanted.tags),
        status=dg.DagsterRunStatus.STARTED,
    )
    instance.add_run(run)
    assert tick(soon + timedelta(hours=9)).run_requests == []
    instance.report_run_failed(run)
    assert len(tick(soon + timedelta(hours=9)).run_requests or ()) == 1


@pytest.mark.stack
def test_unreadable_model_does_not_block_other_reloads(
    small_model: SmallModel, instance: dg.DagsterInstance
) -> None:
    """It is named in the skip reason, and the tick fails only when no other model has news."""
    batch_id = small_model.verified_batch()
    publisher(small_model).publish(batch_id, request(), "{}")
    broken = small_model.unreadable_model()
    models = [replace(served(small_model), name=broken), served(small_model)]
    late = now() + DAYS - reload_margin(LIFE) + timedelta(hours=1)
    context = dg.build_sensor_context(instance=instance)
    looked = live_batches_tick(context, small_model.platform, models, late)
    assert [wanted.tags[BATCH_TAG] for wanted in looked.run_requests or ()] == [batch_id]
    first = live_batches_tick(context, small_model.platform, models, now())
    assert len(first.asset_events) == 1
    assert f"{broken} cannot be examined" in str(first.skip_reason)
    context = dg.build_sensor_context(instance=instance, cursor=first.cursor)
    with pytest.raises(ModelsUnreadableError, match=broken):
        live_batches_tick(context, small_model.platform, models, now())


@pytest.mark.stack
def test_overdue_reload_fails_a_check(small_model: SmallModel, tick: Callable[..., dg.SensorResult]) -> None:
    """The verdict is reported only when it changes, with the command that reloads the batch."""
    batch_id = small_model.verified_batch()
    publisher(small_model).publish(batch_id, request(), "{}")
    first = tick()
    (told,) = first.asset_events
    assert isinstance(told, dg.AssetCheckEvaluation)
    assert (told.check_name, told.passed) == (LIVE_BATCH_LASTS, True)
    assert tick(cursor=first.cursor).asset_events == []
    (told,) = tick(DAYS - timedelta(days=2), cursor=first.cursor).asset_events
    assert isinstance(told, dg.AssetCheckEvaluation)
    assert not told.passed
    command = re.search(r"`mlpipe (load .+)`", str(told.description))
    assert command
    typed = parser().parse_args(command[1].split())
    assert (named_done_file(typed.manifest, "bucket").batch_id, typed.again) == (batch_id, True)


@pytest.mark.stack
def test_due_partition_without_usable_batch_is_late(
    small_model: SmallModel, tick: Callable[..., dg.SensorResult]
) -> None:
    """Batches of other partitions, unverified ones and those that failed their checks do not count."""
    due = timedelta(hours=6)

    def is_fresh() -> tuple[bool, str]:
        events = tick(due_after=due).asset_events
        told = {event.check_name: event for event in events if isinstance(event, dg.AssetCheckEvaluation)}
        return told[PARTITION_IS_FRESH].passed, str(told[PARTITION_IS_FRESH].description)

    live = small_model.verified_batch()
    publisher(small_model).publish(live, request(), "{}")
    assert is_fresh() == (False, "2013-12-31 is due but has no batch that may be served: it has none")
    batch_id = small_model.registered_batch(partition="2013-12-31")
    assert f"{batch_id} is done" in is_fresh()[1]
    failed = small_model.verified_batch(partition="2013-12-31")
    small_model.platform.registry.carry_out(
        lambda: record_checks(small_model.record(failed), attempt=1, faults=["too few rows"])
    )
    assert is_fresh()[0] is False
    small_model.verified_batch(partition="2013-12-31")
    assert is_fresh()[0] is True


@pytest.mark.stack
def test_check_can_run_in_a_job(small_model: SmallModel) -> None:
    """A run of the check without a live batch passes and says so."""
    check = live_batch_checks(small_model.declaration, small_model.partitions)
    result = (
        dg.Definitions(
            asset_checks=[check],
            jobs=[dg.define_asset_job("check", selection=dg.AssetSelection.all_asset_checks())],
            resources={"platform": small_model.platform},
        )
        .resolve_job_def("check")
        .execute_in_process()
    )
    found = {
        each.check_name: (each.passed, each.description) for each in result.get_asset_check_evaluations()
    }
    assert found[LIVE_BATCH_LASTS] == (True, "No batch is live")
