"""The sensor of done files on a real bucket and registry: in effect, each done file starts one run."""

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
    """Two done files written at once start their runs once, the older batch first."""
    first, second = small_model.manifest(), small_model.manifest()
    for manifest in (second, first):
        small_model.deliver(manifest)
    assert batches(daemon.tick()) == [first.batch_id, second.batch_id]
    assert daemon.tick().run_requests == []


def test_run_names_its_batch(small_model: SmallModel, daemon: SensorDaemon) -> None:
    """Partition, run key, tags and config show which batch a run loads."""
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


def test_redelivery_of_the_same_bytes_starts_no_run(small_model: SmallModel, daemon: SensorDaemon) -> None:
    """A done file that is written again unchanged is not loaded again."""
    manifest = small_model.deliver(small_model.manifest())
    daemon.tick()
    before = small_model.platform.bucket.look(manifest.key)
    small_model.deliver(manifest)
    # Under SSE-KMS each put changes the ETag; without a change this would not be a redelivery as on AWS.
    assert small_model.platform.bucket.look(manifest.key) != before
    assert daemon.tick().run_requests == []


def test_redelivery_of_a_loaded_batch_starts_no_run(small_model: SmallModel, daemon: SensorDaemon) -> None:
    """The registry knows of the load, even if Dagster has no run of the done file."""
    manifest = small_model.deliver(small_model.manifest())
    daemon.tick()
    daemon.tick()
    daemon.instance.wipe()
    small_model.verify(manifest.batch_id)
    small_model.deliver(manifest)
    assert daemon.tick().run_requests == []
    assert daemon.runs() == []


def test_lost_cursor_requests_the_same_runs(small_model: SmallModel, daemon: SensorDaemon) -> None:
    """The run keys do not change, so Dagster creates no second run."""
    small_model.deliver(small_model.manifest())
    first = daemon.tick()
    daemon.cursor = "not a cursor"
    again = daemon.tick()
    assert [request.run_key for request in requests(first)] == [
        request.run_key for request in requests(again)
    ]
    assert len(daemon.runs()) == 1


def test_run_that_dagster_lost_is_requested_again(small_model: SmallModel, daemon: SensorDaemon) -> None:
    """The next tick notices, without a listing, that the requested run does not exist."""
    small_model.deliver(small_model.manifest())
    (lost,) = requests(daemon.tick(makes_runs=False))
    (again,) = requests(daemon.tick(lists=False))
    assert again.run_key == lost.run_key
    assert daemon.tick(lists=False).run_requests == []
    assert len(daemon.runs(lost.run_key)) == 1


def test_manifest_replaced_before_its_load_is_loaded(small_model: SmallModel, daemon: SensorDaemon) -> None:
    """A correction starts another run of the same batch, and so does a return to the first manifest."""
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


def test_manifest_replaced_after_rows_were_written_is_refused(
    small_model: SmallModel, daemon: SensorDaemon
) -> None:
    """The batch keeps the manifest that its load began with, and the refusal asks for a new batch."""
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
def test_redelivery_of_a_refused_batch_is_loaded(
    small_model: SmallModel, daemon: SensorDaemon, *, has_written: bool
) -> None:
    """The same done file, delivered again after the refusal, starts exactly one more run."""
    manifest = small_model.deliver(small_model.manifest())
    (first,) = requests(daemon.tick())
    small_model.refuse(manifest.batch_id, has_written=has_written)
    assert daemon.tick().run_requests == []

    small_model.deliver(manifest)
    (request,) = requests(daemon.tick(keeps_cursor=False, makes_runs=False))
    assert request.run_key != first.run_key
    assert small_model.record(manifest.batch_id).load_state == LoadState.DONE
    # That tick was lost before its cursor was kept, so the next one requests the same run.
    assert [again.run_key for again in requests(daemon.tick())] == [request.run_key]
    assert daemon.tick().run_requests == []


def test_redelivery_after_its_partition_is_declared_is_loaded(
    small_model: SmallModel, daemon: SensorDaemon
) -> None:
    """A file that was refused for its partition starts exactly one run when it is delivered again."""
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


def test_lost_cursor_does_not_retry_refused_batches(small_model: SmallModel, daemon: SensorDaemon) -> None:
    """Without a new delivery, a refused batch stays refused."""
    manifest = small_model.deliver(small_model.manifest())
    daemon.tick()
    small_model.refuse(manifest.batch_id)
    daemon.cursor = None
    assert daemon.tick().run_requests == []
    assert small_model.record(manifest.batch_id).load_state == LoadState.REFUSED


def test_first_start_loads_only_unloaded_batches(small_model: SmallModel, daemon: SensorDaemon) -> None:
    """With an empty cursor all files are new, and the registry says which batches are already loaded."""
    loaded = small_model.verified_batch()
    unchecked = small_model.registered_batch()
    assert batches(daemon.tick()) == [unchecked]
    assert loaded not in batches(daemon.tick())
    assert len(Cursor.parse(daemon.cursor).fingerprints) == 2


@pytest.fixture
def locked_key(monkeypatch: pytest.MonkeyPatch) -> Iterator[list[str]]:
    """Return the keys that S3 refuses to read; all others can be read."""
    locked: list[str] = []
    read = DataBucket.read

    def guarded(bucket: DataBucket, key: str, **options: Any) -> bytes:
        if key in locked:
            raise ObjectUnreadableError("AccessDenied", remedy="Ask its owner")
        return read(bucket, key, **options)

    monkeypatch.setattr(DataBucket, "read", guarded)
    yield locked
    locked.clear()


def test_unreadable_file_loads_once_it_can_be_read(
    small_model: SmallModel, daemon: SensorDaemon, locked_key: list[str]
) -> None:
    """Others load meanwhile; a tick with nothing else to show fails, so that the error is noticed."""
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


def test_slow_tick_ends_early_and_the_next_continues(small_model: SmallModel, daemon: SensorDaemon) -> None:
    """Dagster would discard the results of a tick that takes a minute."""
    delivered = [small_model.deliver(small_model.manifest()).batch_id for _ in range(PARALLEL_REQUESTS + 1)]
    times = iter([0.0, 1.0, 31.0])
    assert batches(daemon.tick(clock=lambda: next(times))) == delivered[:-1]
    assert batches(daemon.tick(lists=False)) == delivered[-1:]


def test_late_files_are_found_within_the_window(small_model: SmallModel, daemon: SensorDaemon) -> None:
    """Batches minted days ago are found in turn; one from before the window is not."""
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


def test_bucket_is_not_listed_in_every_tick(small_model: SmallModel, daemon: SensorDaemon) -> None:
    """Between two listings only the queue announces new files."""
    daemon.tick()
    manifest = small_model.deliver(small_model.manifest())
    assert daemon.tick(lists=False).run_requests == []
    assert batches(daemon.tick()) == [manifest.batch_id]


def test_flood_is_spread_over_ticks_oldest_first(small_model: SmallModel, daemon: SensorDaemon) -> None:
    """One tick requests a bounded number of runs, and the next continues where it stopped."""
    delivered = [small_model.deliver(small_model.manifest()).batch_id for _ in range(MAX_RUNS + 2)]
    first, second = daemon.tick(), daemon.tick(lists=False)
    assert (batches(first), batches(second)) == (delivered[:MAX_RUNS], delivered[MAX_RUNS:])


def test_cursor_forgets_files_outside_the_window(small_model: SmallModel, daemon: SensorDaemon) -> None:
    """The cursor stays as small as the window, however long the history."""
    small_model.deliver(small_model.manifest())
    daemon.tick()
    daemon.tick()
    assert len(Cursor.parse(daemon.cursor).fingerprints) == 1
    daemon.now += timedelta(days=9)
    daemon.tick()
    assert len(Cursor.parse(daemon.cursor).fingerprints) == 0
