"""The sensor on a real bucket and registry: every done file once, in effect, and bad ones refused once."""

from __future__ import annotations

import json
from collections.abc import Callable, Iterator
from datetime import date, timedelta
from typing import Any

import dagster as dg
import pytest

from mlpipe_dagster.data_bucket import DataBucket, ObjectUnreadableError
from mlpipe_dagster.sensors.done_file_marks import Cursor
from mlpipe_dagster.sensors.done_files import MOST_RUNS, WINDOW_DAYS, done_files_tick
from prediction_contract.registry.load_rules import begin_writing, claim_load
from prediction_contract.registry.records import LoadState
from tests.pipeline.small_model import TOKEN, SmallModel, now

pytestmark = pytest.mark.stack
TODAY = date(2026, 11, 23)


def tick(small: SmallModel, cursor: str | None = None, today: date = TODAY) -> dg.SensorResult:
    """Let the sensor look once."""
    context = dg.build_sensor_context(cursor=cursor)
    return done_files_tick(context, small.platform, {small.name: small.partitions}, today)


def requests(result: dg.SensorResult) -> list[dg.RunRequest]:
    """Return the runs that a tick asks for."""
    return list(result.run_requests or ())


def batches(result: dg.SensorResult) -> list[str]:
    """Return the batches that runs were requested for."""
    return [request.tags["mlpipe/batch_id"] for request in result.run_requests or ()]


def test_files_of_the_same_second_each_start_one_run(small_model: SmallModel) -> None:
    """Two done files written at once are both seen, the older batch first, and neither again."""
    first, second = small_model.manifest(), small_model.manifest()
    for manifest in (second, first):
        small_model.deliver(manifest)
    result = tick(small_model)
    assert batches(result) == [first.batch_id, second.batch_id]
    assert tick(small_model, result.cursor).run_requests == []


def test_a_run_names_its_batch_everywhere(small_model: SmallModel) -> None:
    """Partition, run key, tags and config tell Dagster and a person what is loaded."""
    manifest = small_model.deliver(small_model.manifest())
    (request,) = requests(tick(small_model))
    named = {"config": {"batch_id": manifest.batch_id}}
    assert request.run_key == f"{manifest.batch_id}:{manifest.digest}"
    assert (request.partition_key, request.job_name) == ("2013-02-01", f"{small_model.name}_load")
    assert request.run_config == {
        "ops": {f"{small_model.name}__load": named, f"{small_model.name}__publication": named}
    }
    assert request.tags["mlpipe/partition"] == "2013-02-01"
    assert small_model.record(manifest.batch_id).load_state == LoadState.DONE


def test_a_redelivery_of_the_same_bytes_starts_nothing(small_model: SmallModel) -> None:
    """The same done file written again is the same file."""
    manifest = small_model.deliver(small_model.manifest())
    cursor = tick(small_model).cursor
    small_model.deliver(manifest)
    assert tick(small_model, cursor).run_requests == []


def test_a_lost_cursor_asks_for_the_same_runs(small_model: SmallModel) -> None:
    """The run keys are the same again, by which Dagster knows the runs it already has."""
    small_model.deliver(small_model.manifest())
    first, again = tick(small_model), tick(small_model, "not a cursor")
    assert [request.run_key for request in first.run_requests or ()] == [
        request.run_key for request in again.run_requests or ()
    ]


def test_a_manifest_replaced_before_its_load_is_loaded(small_model: SmallModel) -> None:
    """A correction that comes in time is another run of the same batch."""
    batch_id = small_model.batch_id()
    small_model.deliver(small_model.manifest(batch_id))
    cursor = tick(small_model).cursor
    corrected = small_model.deliver(small_model.manifest(batch_id, model_version="v2"))
    (request,) = requests(tick(small_model, cursor))
    assert request.run_key == f"{batch_id}:{corrected.digest}"
    assert small_model.record(batch_id).manifest_digest == corrected.digest


def test_a_manifest_replaced_after_rows_were_written_is_refused(small_model: SmallModel) -> None:
    """The batch stays what its load has begun with; the file is refused, and the reason shown."""
    original = small_model.deliver(small_model.manifest())
    cursor = tick(small_model).cursor
    registry = small_model.platform.registry
    record = small_model.record(original.batch_id)
    claim = claim_load(record, token=TOKEN, confirm_by=now() + timedelta(minutes=5), now=now())
    registry.carry_out(lambda: claim)
    registry.carry_out(
        lambda: begin_writing(
            small_model.record(original.batch_id),
            token=TOKEN,
            manifest_digest=original.digest,
            cleaning="{}",
            now=now(),
        )
    )
    small_model.deliver(small_model.manifest(original.batch_id, model_version="v2"))
    result = tick(small_model, cursor)
    assert result.run_requests == []
    assert "new batch" in refusals(result)[0]
    kept = small_model.record(original.batch_id)
    assert (kept.load_state, kept.manifest_digest) == (LoadState.LOADING, original.digest)


def test_a_redelivery_after_the_missing_part_was_brought_is_loaded(small_model: SmallModel) -> None:
    """The same done file, put again once its batch was refused, is one more run, and only one."""
    manifest = small_model.deliver(small_model.manifest())
    first = tick(small_model)
    small_model.refuse(manifest.batch_id)
    assert tick(small_model, first.cursor).run_requests == []

    small_model.deliver(manifest)
    result = tick(small_model, first.cursor)
    assert batches(result) == [manifest.batch_id]
    (request,) = requests(result)
    assert request.run_key != requests(first)[0].run_key
    assert small_model.record(manifest.batch_id).load_state == LoadState.DONE
    # A tick that was lost before its cursor was kept asks for the same run.
    assert [again.run_key for again in requests(tick(small_model, first.cursor))] == [request.run_key]
    assert tick(small_model, result.cursor).run_requests == []


def test_a_lost_cursor_does_not_try_refused_batches_again(small_model: SmallModel) -> None:
    """Nobody has delivered them anew: the refusal stands."""
    manifest = small_model.deliver(small_model.manifest())
    tick(small_model)
    small_model.refuse(manifest.batch_id)
    assert tick(small_model).run_requests == []
    assert small_model.record(manifest.batch_id).load_state == LoadState.REFUSED


@pytest.fixture
def locked_key(monkeypatch: pytest.MonkeyPatch) -> Iterator[list[str]]:
    """Keys that S3 refuses to give, whatever else it gives."""
    locked: list[str] = []
    read = DataBucket.read

    def guarded(bucket: DataBucket, key: str, **options: Any) -> bytes:
        if key in locked:
            raise ObjectUnreadableError("AccessDenied", remedy="Ask its owner")
        return read(bucket, key, **options)

    monkeypatch.setattr(DataBucket, "read", guarded)
    yield locked
    locked.clear()


def test_a_file_that_cannot_be_read_stops_no_other_and_loads_when_it_can(
    small_model: SmallModel, locked_key: list[str]
) -> None:
    """It stays new; a tick that has nothing else to show fails, so that somebody looks."""
    locked, other = (small_model.deliver(small_model.manifest()) for _ in range(2))
    locked_key.append(locked.key)
    result = tick(small_model)
    assert batches(result) == [other.batch_id]
    with pytest.raises(ObjectUnreadableError):
        tick(small_model, result.cursor)
    locked_key.clear()
    assert batches(tick(small_model, result.cursor)) == [locked.batch_id]


def test_a_slow_tick_ends_in_time_and_the_next_goes_on(small_model: SmallModel) -> None:
    """Dagster would forget all of a tick that takes a minute."""
    first, second = (small_model.deliver(small_model.manifest()) for _ in range(2))
    times = iter([0.0, 1.0, 31.0])
    context = dg.build_sensor_context()
    slow = done_files_tick(
        context, small_model.platform, {small_model.name: small_model.partitions}, TODAY, lambda: next(times)
    )
    assert batches(slow) == [first.batch_id]
    assert batches(tick(small_model, slow.cursor)) == [second.batch_id]


def refusals(result: dg.SensorResult) -> list[str]:
    """Return the reasons that are shown beside the model's predictions."""
    return [str(event.metadata["reason"].value) for event in result.asset_events]


def without(member: str) -> Callable[[dict[str, Any]], dict[str, Any]]:
    """Return what leaves one member out of a document."""
    return lambda document: {name: value for name, value in document.items() if name != member}


def elsewhere(document: dict[str, Any]) -> dict[str, Any]:
    """Name a part of another batch."""
    part = {**document["json_parts"][0], "key": "predictions/other/json/part-00000.jsonl.gz"}
    return {**document, "json_parts": [part]}


@pytest.mark.parametrize(
    ("spoil", "named"),
    [
        (without("checksum"), "checksum"),
        (lambda document: {**document, "bucket": "another-bucket"}, "another-bucket"),
        (elsewhere, r"json_parts[0].key"),
        (lambda document: {**document, "row_count": 4}, "row_count"),
        (lambda document: {**document, "model": "../etc"}, "model"),
        (None, "not JSON"),
    ],
)
def test_a_bad_manifest_is_refused_once_and_stops_nothing(
    small_model: SmallModel, spoil: Callable[[dict[str, Any]], dict[str, Any]] | None, named: str
) -> None:
    """The reason is in the registry and in the UI, the batch beside it loads, and a correction loads too."""
    good, bad = small_model.deliver(small_model.manifest()), small_model.manifest()
    content = b"{" if spoil is None else json.dumps(spoil(bad.to_document())).encode()
    small_model.platform.bucket.put(bad.key, content)
    result = tick(small_model)
    assert batches(result) == [good.batch_id]
    assert named in refusals(result)[0]
    refused = small_model.record(bad.batch_id)
    assert refused.load_state == LoadState.REFUSED
    assert named in str(refused.refusal_reason)

    again = tick(small_model, result.cursor)
    assert (again.run_requests, again.asset_events) == ([], [])

    small_model.deliver(bad)
    assert batches(tick(small_model, result.cursor)) == [bad.batch_id]
    assert small_model.record(bad.batch_id).load_state == LoadState.DONE


@pytest.mark.parametrize(
    "key",
    [
        "done/2026-11-23/../20261123T010203Z-00000001.json",
        "done/2026-11-23/Things/x.json",
        "done/2026-11-23/x",
    ],
)
def test_a_key_that_is_no_done_files_is_refused_by_name(small_model: SmallModel, key: str) -> None:
    """Nothing of such a file is read; the tick says which it was."""
    small_model.platform.bucket.put(key, b"{}")
    result = tick(small_model)
    assert result.run_requests == []
    assert result.skip_reason is not None
    assert key in str(result.skip_reason.skip_message)
    assert tick(small_model, result.cursor).skip_reason.skip_message == "No new done files"  # type: ignore[union-attr]  # it is there, as nothing was requested


def test_a_partition_that_the_model_has_not_is_refused(small_model: SmallModel) -> None:
    """A run of a partition that does not exist would fail the whole tick."""
    manifest = small_model.deliver(small_model.manifest(partition="2020-01-01"))
    assert "2020-01-01" in refusals(tick(small_model))[0]
    assert small_model.record(manifest.batch_id).load_state == LoadState.REFUSED


def test_a_model_that_is_not_declared_is_refused_until_it_is(small_model: SmallModel) -> None:
    """Its file loads once the model is there."""
    manifest = small_model.deliver(small_model.manifest())

    def reason(cursor: str | None) -> tuple[str, str | None]:
        context = dg.build_sensor_context(cursor=cursor)
        result = done_files_tick(context, small_model.platform, {}, TODAY)
        assert result.skip_reason is not None
        return str(result.skip_reason.skip_message), result.cursor

    refusal, cursor = reason(None)
    assert small_model.name in refusal
    assert reason(cursor) == ("No new done files", cursor)
    assert batches(tick(small_model, cursor)) == [manifest.batch_id]


def test_late_files_are_seen_within_the_window(small_model: SmallModel) -> None:
    """A batch minted days ago loads; one from before the window does not, and costs no listing."""
    late = small_model.deliver(small_model.manifest(small_model.batch_id("20261120")))
    small_model.deliver(small_model.manifest(small_model.batch_id("20261119")))
    assert (TODAY - timedelta(days=WINDOW_DAYS)).isoformat() == "2026-11-20"
    assert batches(tick(small_model)) == [late.batch_id]


def test_a_flood_is_spread_over_ticks_the_oldest_first(small_model: SmallModel) -> None:
    """One tick requests a bounded number of runs, and the next goes on where it stopped."""
    delivered = [small_model.deliver(small_model.manifest()).batch_id for _ in range(MOST_RUNS + 2)]
    first = tick(small_model)
    second = tick(small_model, first.cursor)
    assert (batches(first), batches(second)) == (delivered[:MOST_RUNS], delivered[MOST_RUNS:])


def test_the_cursor_forgets_what_left_the_window(small_model: SmallModel) -> None:
    """It stays as small as the window, however long the history."""
    small_model.deliver(small_model.manifest())
    cursor = tick(small_model).cursor
    assert len(Cursor.parse(cursor).seen) == 1
    assert Cursor.parse(tick(small_model, cursor, TODAY + timedelta(days=9)).cursor).seen == frozenset()
