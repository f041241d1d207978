"""Expired batches, and nothing else, leave Snowflake and S3, even if a sweep dies at any point."""

from __future__ import annotations

import dataclasses
import threading
from datetime import timedelta
from typing import TYPE_CHECKING, Any

import pytest

from prediction_contract.naming.s3_layout import data_file_path
from prediction_contract.registry.load_rules import claim_load, confirm_region, release_claim
from prediction_contract.registry.publication_rules import follow_home
from prediction_contract.registry.records import LoadState, ReleaseState
from tests.dagster.loaded_model import COLUMNS, LoadedModel
from tests.dagster.publication.test_publication_interleavings import (
    FAR,
    HOME,
    Stalled,
    person,
    publisher,
    registry_with_client,
)
from tests.dagster.small_model import declaration, now
from tests.dagster.swept_model import GONE, LATER, WHOLE, Holdings, SweptModel

if TYPE_CHECKING:
    from mlpipe_dagster.resources.platform import Platform
    from mlpipe_dagster.retention.retention_sweep import RetentionSweep
    from model_declaration.declaration import ModelDeclaration

pytestmark = pytest.mark.stack


@pytest.fixture
def swept(platform: Platform, model: ModelDeclaration) -> SweptModel:
    """Make a model without batches on the platform."""
    return SweptModel(LoadedModel(platform, declaration(model.name, columns=COLUMNS)))


def test_sweep_deletes_superseded_batches_except_the_newest(swept: SweptModel) -> None:
    """Rows, files and Delta files are deleted and counted; the manifest and the kept batches stay."""
    first, second, previous, live = swept.released(4)
    done = swept.sweep()
    assert [batch.record.batch_id for batch in done.retired] == [first, second]
    assert [(batch.rows, batch.objects) for batch in done.retired] == [(4, 2), (4, 2)]
    assert all(batch.bytes > 0 for batch in done.retired)
    assert (done.delta_files, done.vacuumed_files, done.kept) == (2, 2, {})
    assert [swept.holds(batch_id) for batch_id in (first, second)] == [GONE, GONE]
    assert [swept.holds(batch_id) for batch_id in (previous, live)] == [WHOLE, WHOLE]
    assert swept.in_newest_version() == {previous, live}
    for batch_id in (first, second):
        record = swept.record(batch_id)
        assert (record.load_state, record.claim_token) == (LoadState.RETIRED, None)
        assert record.cleared_at is not None
        assert swept.platform.bucket.look(record.manifest_key) is not None
    assert swept.sweep().retired == []


def test_batch_is_kept_until_its_retention_ends(swept: SweptModel) -> None:
    """A superseded batch is complete the day before its 30 days are over."""
    first, *_ = swept.released(3)
    assert swept.sweep(clock=lambda: now() + timedelta(days=29)).retired == []
    assert swept.holds(first) == WHOLE
    assert swept.record(first).load_state == LoadState.VERIFIED


def test_unpublished_batch_expires_too(swept: SweptModel) -> None:
    """A batch that was only loaded is deleted after the same retention."""
    _, live = swept.released(2)
    unpublished = swept.stored_batch()
    assert [batch.record.batch_id for batch in swept.sweep().retired] == [unpublished]
    assert (swept.holds(unpublished), swept.holds(live)) == (GONE, WHOLE)


def test_delta_files_stay_for_readers_of_older_versions(swept: SweptModel) -> None:
    """The rows leave the newest version at once; a later sweep vacuums the files."""
    first, *_ = swept.released(3)
    done = swept.sweep(vacuum_after=timedelta(days=7))
    assert (done.delta_files, done.vacuumed_files) == (1, 0)
    assert swept.holds(first) == Holdings(rows=0, objects=0, delta_files=1)
    assert first not in swept.in_newest_version()
    later = swept.sweep()
    assert (later.retired, later.vacuumed_files) == ([], 1)
    assert swept.holds(first) == GONE


def test_file_named_by_a_kept_batch_is_not_vacuumed(swept: SweptModel) -> None:
    """It stays although a second attempt's commit removed it from the table."""
    first, previous, live = swept.released(3)
    _, orphans = swept.commit(live)
    swept.commit(live)
    done = swept.sweep()
    assert [batch.record.batch_id for batch in done.retired] == [first]
    # One file is the first batch's, the other that of an attempt that no manifest names.
    assert done.vacuumed_files == 2
    assert swept.platform.bucket.look(f"predictions/{swept.name}/delta/{orphans[0]}") is None
    assert (swept.holds(live), swept.holds(previous)) == (WHOLE, WHOLE)


def test_batch_never_loaded_does_not_block_sweeps_and_keeps_its_files(swept: SweptModel) -> None:
    """After a month sweeps start after it, and its files stay because it may still be loaded."""
    batch_id = swept.batch_id()
    version, files = swept.commit(batch_id)
    swept.registered_batch(batch_id=batch_id, delta_version=version, delta_files=files)
    first, *_ = swept.released(3)
    # A second attempt's commit removed the file that the done file names.
    swept.commit(batch_id)
    not_on_the_first = next(
        moment for day in range(2) if (moment := now() + LATER + timedelta(days=day)).day != 1
    )
    for _ in range(2):
        swept.sweep(clock=lambda: not_on_the_first)
    retention = swept.platform.registry.retention(swept.name)
    assert retention.sweep_from == first
    assert swept.platform.bucket.look(f"predictions/{swept.name}/delta/{files[0]}") is not None


def test_uncommitted_file_is_vacuumed(swept: SweptModel) -> None:
    """A file of an attempt that died before its commit is deleted once it is old enough."""
    first, *_ = swept.released(3)
    bucket = swept.platform.bucket
    died = data_file_path(swept.batch_id(), 1, "share-00000", 0)
    orphan = f"predictions/{swept.name}/delta/{died}"
    bucket.put(orphan, b"PAR1")
    kept = swept.sweep(clock=now, vacuum_after=timedelta(days=7))
    assert (kept.vacuumed_files, bucket.look(orphan) is None) == (0, False)
    done = swept.sweep(vacuum_after=timedelta(days=7))
    # The first batch's file left the table in this sweep, so it is too new to be vacuumed.
    assert (done.vacuumed_files, done.vacuumed_bytes) == (1, 4)
    assert bucket.look(orphan) is None
    assert swept.holds(first).delta_files == 1


@pytest.mark.parametrize("replacement", [None, b"{}"])
def test_missing_or_replaced_done_file_keeps_only_its_own_files(
    swept: SweptModel, replacement: bytes | None
) -> None:
    """Files of retired batches are deleted, other files stay, and the registry names the reason."""
    first, _, live = swept.released(3)
    _, (orphan,) = swept.commit(live)
    swept.commit(live)
    bucket, key = swept.platform.bucket, swept.record(live).manifest_key
    content = bucket.read(key)
    if replacement is None:
        bucket.delete([key])
    else:
        bucket.put(key, replacement)
    done = swept.sweep()
    assert (done.vacuumed_files, swept.holds(first), swept.holds(live)) == (1, GONE, WHOLE)
    assert "2 files stay" in done.not_vacuumed
    assert live in done.not_vacuumed
    registry, at = swept.platform.registry, f"predictions/{swept.name}/delta/{orphan}"
    assert registry.retention(swept.name).not_vacuumed == done.not_vacuumed
    bucket.put(key, content)
    assert bucket.look(at) is not None
    assert (swept.sweep().vacuumed_files, bucket.look(at)) == (1, None)
    assert registry.retention(swept.name).not_vacuumed is None
    assert swept.holds(live) == WHOLE


def test_batch_claimed_by_a_reload_is_kept(swept: SweptModel) -> None:
    """Its rows and files stay, and it can become live after the claim is released."""
    first, second, third, live = swept.released(4)
    registry = swept.platform.registry
    later = now() + LATER
    registry.carry_out(
        lambda: claim_load(swept.record(first), token="t", confirm_by=later + LATER, now=later)
    )
    done = swept.sweep()
    assert [batch.record.batch_id for batch in done.retired] == [second]
    assert (swept.holds(first), swept.holds(live)) == (WHOLE, WHOLE)
    registry.carry_out(lambda: release_claim(swept.record(first), token="t"))
    publisher(swept).publish(first, person(), "{}")
    swept.project()
    assert [batch.record.batch_id for batch in swept.sweep().retired] == [third]
    assert (swept.holds(first), swept.holds(live)) == (WHOLE, WHOLE)


def test_batch_shown_by_a_region_or_snowflake_is_kept(swept: SweptModel) -> None:
    """The reason is named, and the batch is deleted once both show a newer one."""
    first, *_ = swept.released(2)
    registry = swept.platform.registry
    registry.carry_out(lambda: confirm_region(swept.record(first), region=FAR, attempt=1))
    publisher(swept).roll_back(person(), first)
    registry.carry_out(
        lambda: follow_home(
            swept.record(first),
            registry.live_pointers(swept.name, home_region=HOME, regions=[FAR]),
            region=FAR,
            now=now(),
        )
    )
    newer = [swept.stored_batch(partition=f"2013-02-1{day}") for day in range(2)]
    for batch_id in newer:
        publisher(swept).publish(batch_id, person(), "{}")
    assert "Snowflake" in swept.sweep(regions=(FAR,)).kept[first]
    swept.project()
    assert FAR in swept.sweep(regions=(FAR,)).kept[first]
    assert swept.holds(first) == WHOLE
    registry.carry_out(lambda: confirm_region(swept.record(newer[-1]), region=FAR, attempt=1))
    registry.carry_out(
        lambda: follow_home(
            swept.record(newer[-1]),
            registry.live_pointers(swept.name, home_region=HOME, regions=[FAR]),
            region=FAR,
            now=now(),
        )
    )
    assert first in [batch.record.batch_id for batch in swept.sweep(regions=(FAR,)).retired]


def test_rollback_during_a_sweep_keeps_its_target(swept: SweptModel) -> None:
    """The sweep had already found the batch expired, but deletes nothing of it."""
    first, *_ = swept.released(3)
    client, done = Stalled(swept.platform.client("dynamodb")), []

    def run() -> None:
        done.append(swept.sweep(registry=registry_with_client(swept, client)))

    thread = threading.Thread(target=run)
    thread.start()
    assert client.has_read.wait(60)
    assert publisher(swept).roll_back(person(), first).live_batch_id == first
    client.may_go_on.set()
    thread.join(120)
    assert (done[0].retired, done[0].kept) == ([], {first: "The batch is live"})
    assert swept.holds(first) == WHOLE
    assert swept.record(first).release_state == ReleaseState.LIVE


class KilledError(BaseException):
    """Kill the worker: the sweep does not catch this."""


class DyingStore:
    """Record the calls of the stores, and raise KilledError after one of them."""

    def __init__(self, store: Any, dies_at: int, calls: list[str]) -> None:
        self._store, self._dies_at, self._calls = store, dies_at, calls

    def __getattr__(self, name: str) -> Any:
        found = getattr(self._store, name)
        if not callable(found):
            return found

        def call(*arguments: Any, **named: Any) -> Any:
            self._calls.append(name)
            number = len(self._calls)
            answer = found(*arguments, **named)
            if number == self._dies_at:
                raise KilledError(name)
            return answer

        return call


def dying_sweep(sweep: RetentionSweep, dies_at: int, calls: list[str]) -> RetentionSweep:
    """Return a sweep that is killed after its n-th call of a store."""
    names = ("registry", "bucket", "warehouse", "delta")
    return dataclasses.replace(
        sweep, **{name: DyingStore(getattr(sweep, name), dies_at, calls) for name in names}
    )


# The first six calls change nothing.
FIRST_CHANGE = 7


@pytest.mark.slow
def test_next_sweep_finishes_a_killed_one(swept: SweptModel) -> None:
    """Whichever call it is killed after, the batch is deleted and the kept batches are complete."""
    batches = swept.released(20)
    previous, live = batches[-2:]
    killed_after: list[str] = []
    for dies_at in range(FIRST_CHANGE, FIRST_CHANGE + len(batches) - 2):
        batch_id = next(each for each in batches if swept.record(each).cleared_at is None)
        calls: list[str] = []
        with swept.warehouse.quick_session() as session:
            dying = dying_sweep(swept.sweep_with(session, most_batches=1), dies_at, calls=calls)
            try:
                dying.sweep()
            except KilledError as killed:
                killed_after.append(str(killed))
            else:
                break
        if swept.record(batch_id).cleared_at is None:
            swept.sweep(most_batches=1)
        else:
            # It was killed during the vacuum.
            swept.sweep(most_batches=0)
        assert swept.holds(batch_id) == GONE, (killed_after, calls)
        record = swept.record(batch_id)
        assert (record.load_state, record.claim_token) == (LoadState.RETIRED, None)
        assert record.cleared_at is not None
    assert {"carry_out", "delete_batch", "delete", "remove", "removed_files"} <= set(killed_after)
    assert [swept.holds(batch_id) for batch_id in (previous, live)] == [WHOLE, WHOLE]


def test_slow_sweep_does_no_harm_after_another_took_over(swept: SweptModel) -> None:
    """It finds nothing left to delete and leaves the cleared batch as it is."""
    first, previous, live = swept.released(3)

    class Sleepy:
        """Let another sweep finish before this bucket lists its objects."""

        def __getattr__(self, name: str) -> Any:
            if name == "below" and swept.record(first).cleared_at is None:
                swept.sweep()
            return getattr(swept.platform.bucket, name)

    late = swept.sweep(bucket=Sleepy())
    assert [(batch.record.batch_id, batch.objects) for batch in late.retired] == [(first, 0)]
    assert [swept.holds(each) for each in (first, previous, live)] == [GONE, WHOLE, WHOLE]
    assert swept.record(first).claim_token is None


def test_batch_claimed_by_a_running_sweep_is_kept(swept: SweptModel) -> None:
    """Another sweep deletes it only after Dagster reports that run as ended."""
    first, *_ = swept.released(3)
    calls: list[str] = []
    with swept.warehouse.quick_session() as session:
        dying = dying_sweep(swept.sweep_with(session, "its-run"), 9, calls=calls)
        with pytest.raises(KilledError):
            dying.sweep()
    assert calls[-1] == "delete_batch"
    assert swept.sweep(has_ended=lambda run_id: run_id != "its-run").kept == {
        first: "Run its-run is deleting it"
    }
    assert swept.sweep(has_ended=lambda run_id: run_id == "its-run").kept == {}
    assert swept.holds(first) == GONE


def test_lost_registry_answer_does_not_keep_a_batch(swept: SweptModel) -> None:
    """A repeated retirement is recognized by the sweep's own token, and the batch is deleted."""
    first, *_ = swept.released(3)

    class RetiredAlready:
        """Send the retiring transaction twice, as after a lost answer."""

        def __init__(self) -> None:
            self.client = swept.platform.client("dynamodb")

        def __getattr__(self, name: str) -> Any:
            return getattr(self.client, name)

        def transact_write_items(self, **arguments: Any) -> Any:
            """Carry out the transaction twice."""
            self.client.transact_write_items(**arguments)
            return self.client.transact_write_items(**arguments)

    done = swept.sweep(registry=registry_with_client(swept, RetiredAlready()))
    assert [batch.record.batch_id for batch in done.retired] == [first]
    assert swept.holds(first) == GONE
    assert swept.record(first).cleared_at is not None
