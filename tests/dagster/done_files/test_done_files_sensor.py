"""The sensor on a real bucket and registry: every done file starts one run, in effect, however it comes."""

from __future__ import annotations

from collections.abc import Iterator
from datetime import timedelta
from typing import Any

import dagster as dg
import pytest

from mlpipe_dagster.done_files.done_file_cursor import Cursor
from mlpipe_dagster.done_files.done_file_fingerprints import WINDOW_DAYS
from mlpipe_dagster.done_files.done_file_tick import MAX_RUNS, PARALLEL_REQUESTS, DoneFileUnreadableError
from mlpipe_dagster.resources.data_bucket import DataBucket, ObjectUnreadableError
from prediction_contract.registry.load_rules import begin_writing, claim_load
from prediction_contract.registry.records import LoadState
from tests.dagster.sensor_daemon import MORNING, SensorDaemon, batches, refusals, requests, skipped_because
from tests.dagster.small_model import TOKEN, SmallModel, now

pytestmark = pytest.mark.stack


def test_files_of_the_same_second_each_start_one_run(small_model: SmallModel, daemon: SensorDaemon) -> None:
    """Two done files written at once are both seen, the older batch first, and neither again."""
    first, second = small_model.manifest(), small_model.manifest()
    for manifest in (second, first):
        small_model.deliver(manifest)
    assert batches(daemon.tick()) == [first.batch_id, second.batch_id]
    assert daemon.tick().run_requests == []


def test_a_run_names_its_batch_everywhere(small_model: SmallModel, daemon: SensorDaemon) -> None:
    """Partition, run key, tags and config tell Dagster and a person what is loaded."""
    manifest = small_model.deliver(small_model.manifest())
    (request,) = requests(daemon.tick())
    named = {"config": {"batch_id": manifest.batch_id}}
    assert request.run_key == f"{manifest.batch_id}:{manifest.digest}"
    assert (request.partition_key, request.job_name) == ("2013-02-01", f"{small_model.name}_load")
    assert request.run_config == {
        "ops": {f"{small_model.name}__load": named, f"{small_model.name}__publication": named}
    }
    assert request.tags["mlpipe/partition"] == "2013-02-01"
    assert small_model.record(manifest.batch_id).load_state == LoadState.DONE


def test_a_redelivery_of_the_same_bytes_starts_nothing(small_model: SmallModel, daemon: SensorDaemon) -> None:
    """The same done file written again is the same file."""
    manifest = small_model.deliver(small_model.manifest())
    daemon.tick()
    before = small_model.platform.bucket.look(manifest.key)
    small_model.deliver(manifest)
    # As under SSE-KMS: otherwise this test shows nothing of a redelivery on AWS.
    assert small_model.platform.bucket.look(manifest.key) != before
    assert daemon.tick().run_requests == []


def test_a_redelivery_of_a_loaded_batch_starts_nothing(small_model: SmallModel, daemon: SensorDaemon) -> None:
    """Not even if Dagster has no run of its done file, because a person loaded it by command."""
    manifest = small_model.deliver(small_model.manifest())
    daemon.tick()
    daemon.tick()
    daemon.instance.wipe()
    small_model.verify(manifest.batch_id)
    small_model.deliver(manifest)
    assert daemon.tick().run_requests == []
    assert daemon.runs() == []


def test_a_lost_cursor_asks_for_the_same_runs(small_model: SmallModel, daemon: SensorDaemon) -> None:
    """The run keys are the same again, by which Dagster knows the runs it already has."""
    small_model.deliver(small_model.manifest())
    first = daemon.tick()
    daemon.cursor = "not a cursor"
    again = daemon.tick()
    assert [request.run_key for request in requests(first)] == [
        request.run_key for request in requests(again)
    ]
    assert len(daemon.runs()) == 1


def test_a_run_that_dagster_has_lost_is_asked_for_again(
    small_model: SmallModel, daemon: SensorDaemon
) -> None:
    """The cursor was kept and the run was not made: the next tick sees that, without listing anything."""
    small_model.deliver(small_model.manifest())
    (lost,) = requests(daemon.tick(makes_runs=False))
    (again,) = requests(daemon.tick(lists=False))
    assert again.run_key == lost.run_key
    assert daemon.tick(lists=False).run_requests == []
    assert len(daemon.runs(lost.run_key)) == 1


def test_a_manifest_replaced_before_its_load_is_loaded(small_model: SmallModel, daemon: SensorDaemon) -> None:
    """A correction that comes in time is another run of the same batch, and so is taking it back."""
    batch_id = small_model.batch_id()
    first = small_model.deliver(small_model.manifest(batch_id))
    daemon.tick()
    corrected = small_model.deliver(small_model.manifest(batch_id, model_version="v2"))
    (request,) = requests(daemon.tick())
    assert request.run_key == f"{batch_id}:{corrected.digest}"
    assert small_model.record(batch_id).manifest_digest == corrected.digest

    small_model.deliver(first)
    (request,) = requests(daemon.tick())
    assert str(request.run_key).startswith(f"{batch_id}:{first.digest}:")
    assert small_model.record(batch_id).manifest_digest == first.digest
    assert len(daemon.runs()) == 3


def test_a_manifest_replaced_after_rows_were_written_is_refused(
    small_model: SmallModel, daemon: SensorDaemon
) -> None:
    """The batch stays what its load has begun with; the file is refused, and the reason shown."""
    original = small_model.deliver(small_model.manifest())
    daemon.tick()
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
    result = daemon.tick()
    assert result.run_requests == []
    assert "new batch" in refusals(result)[0]
    kept = small_model.record(original.batch_id)
    assert (kept.load_state, kept.manifest_digest) == (LoadState.LOADING, original.digest)


@pytest.mark.parametrize("has_written", [False, True])
def test_a_redelivery_after_the_missing_part_was_brought_is_loaded(
    small_model: SmallModel, daemon: SensorDaemon, *, has_written: bool
) -> None:
    """The same done file, put again once its batch was refused, is one more run, and only one."""
    manifest = small_model.deliver(small_model.manifest())
    (first,) = requests(daemon.tick())
    small_model.refuse(manifest.batch_id, has_written=has_written)
    assert daemon.tick().run_requests == []

    small_model.deliver(manifest)
    (request,) = requests(daemon.tick(keeps_cursor=False, makes_runs=False))
    assert request.run_key != first.run_key
    assert small_model.record(manifest.batch_id).load_state == LoadState.DONE
    # That tick was lost before its cursor was kept: the next asks for the same run.
    assert [again.run_key for again in requests(daemon.tick())] == [request.run_key]
    assert daemon.tick().run_requests == []


def test_a_redelivery_after_a_refusal_without_any_load_is_loaded(
    small_model: SmallModel, daemon: SensorDaemon
) -> None:
    """Once its partition is declared, the file that was refused for it loads when it is put again."""
    manifest = small_model.deliver(small_model.manifest())
    declared, daemon.partitions = (
        daemon.partitions,
        {small_model.name: dg.DailyPartitionsDefinition("2013-03-01", end_date="2014-01-01")},
    )
    assert "is not a partition of" in refusals(daemon.tick())[0]
    daemon.partitions = declared
    assert daemon.tick().run_requests == []

    small_model.deliver(manifest)
    (request,) = requests(daemon.tick(keeps_cursor=False, makes_runs=False))
    assert [again.run_key for again in requests(daemon.tick())] == [request.run_key]
    small_model.deliver(manifest)
    assert daemon.tick().run_requests == []
    assert len(daemon.runs()) == 1


def test_a_lost_cursor_does_not_try_refused_batches_again(
    small_model: SmallModel, daemon: SensorDaemon
) -> None:
    """Nobody has delivered them again: the refusal stands."""
    manifest = small_model.deliver(small_model.manifest())
    daemon.tick()
    small_model.refuse(manifest.batch_id)
    daemon.cursor = None
    assert daemon.tick().run_requests == []
    assert small_model.record(manifest.batch_id).load_state == LoadState.REFUSED


def test_a_first_start_runs_only_what_is_not_loaded(small_model: SmallModel, daemon: SensorDaemon) -> None:
    """With an empty cursor all files of the day are new: the registry knows which of them are loaded."""
    loaded = small_model.verified_batch()
    unchecked = small_model.registered_batch()
    assert batches(daemon.tick()) == [unchecked]
    assert loaded not in batches(daemon.tick())
    assert len(Cursor.parse(daemon.cursor).fingerprints) == 2


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
    small_model: SmallModel, daemon: SensorDaemon, locked_key: list[str]
) -> None:
    """It stays new; a tick that has nothing else to show fails, so that somebody looks."""
    locked, other = (small_model.deliver(small_model.manifest()) for _ in range(2))
    locked_key.append(locked.key)
    assert batches(daemon.tick()) == [other.batch_id]
    daemon.tick(lists=False)
    for _ in range(2):
        with pytest.raises(DoneFileUnreadableError, match=rf"{locked.batch_id}.*AccessDenied"):
            daemon.tick(lists=False)
    later = small_model.deliver(small_model.manifest())
    assert batches(daemon.tick()) == [later.batch_id]
    locked_key.clear()
    assert batches(daemon.tick()) == [locked.batch_id]
    daemon.tick(lists=False)
    assert skipped_because(daemon.tick(lists=False)) == "No new done files"


def test_a_slow_tick_ends_in_time_and_the_next_goes_on(small_model: SmallModel, daemon: SensorDaemon) -> None:
    """Dagster would forget all of a tick that takes a minute."""
    delivered = [small_model.deliver(small_model.manifest()).batch_id for _ in range(PARALLEL_REQUESTS + 1)]
    times = iter([0.0, 1.0, 31.0])
    assert batches(daemon.tick(clock=lambda: next(times))) == delivered[:-1]
    assert batches(daemon.tick(lists=False)) == delivered[-1:]


def test_late_files_are_seen_within_the_window(small_model: SmallModel, daemon: SensorDaemon) -> None:
    """Of batches minted days ago each day takes its turn; one from before the window has none."""
    early = small_model.deliver(small_model.manifest(small_model.batch_id("20261119")))
    late = [
        small_model.deliver(small_model.manifest(small_model.batch_id(f"202611{day}")))
        for day in (20, 21, 22, 23)
    ]
    assert (MORNING - timedelta(days=WINDOW_DAYS)).date().isoformat() == "2026-11-20"
    assert batches(daemon.tick()) == [manifest.batch_id for manifest in late[1:]]
    assert batches(daemon.tick()) == [late[0].batch_id]
    assert [batches(daemon.tick()) for _ in range(4)] == [[]] * 4
    assert small_model.platform.registry.batch(small_model.name, early.batch_id) is None


def test_the_bucket_is_listed_every_few_minutes(small_model: SmallModel, daemon: SensorDaemon) -> None:
    """Between two listings only the queue tells of new files."""
    daemon.tick()
    manifest = small_model.deliver(small_model.manifest())
    assert daemon.tick(lists=False).run_requests == []
    assert batches(daemon.tick()) == [manifest.batch_id]


def test_a_flood_is_spread_over_ticks_the_oldest_first(small_model: SmallModel, daemon: SensorDaemon) -> None:
    """One tick requests a bounded number of runs, and the next goes on where it stopped."""
    delivered = [small_model.deliver(small_model.manifest()).batch_id for _ in range(MAX_RUNS + 2)]
    first, second = daemon.tick(), daemon.tick(lists=False)
    assert (batches(first), batches(second)) == (delivered[:MAX_RUNS], delivered[MAX_RUNS:])


def test_the_cursor_forgets_what_left_the_window(small_model: SmallModel, daemon: SensorDaemon) -> None:
    """It stays as small as the window, however long the history."""
    small_model.deliver(small_model.manifest())
    daemon.tick()
    daemon.tick()
    assert len(Cursor.parse(daemon.cursor).fingerprints) == 1
    daemon.now += timedelta(days=9)
    daemon.tick()
    assert len(Cursor.parse(daemon.cursor).fingerprints) == 0
