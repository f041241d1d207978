"""Tests of deliveries that are killed before or after each write and then run again."""

from __future__ import annotations

from typing import TYPE_CHECKING, Any

import pytest
from deltalake import DeltaTable

from prediction_batches.object_store import ObjectStore
from prediction_contract.naming.s3_layout import delta_table_prefix, json_batch_prefix
from tests.batches.delivery.stack_batches import BATCH, PARTITION, PROVENANCE, StackBatches, rows_of

if TYPE_CHECKING:
    from collections.abc import Callable

    from prediction_contract.manifests.manifest import Manifest

pytestmark = pytest.mark.stack

OTHER = "20130131T060000Z-00000000"
SHARES = {"a": rows_of("k-1", "k-2"), "b": rows_of("k-3")}


class KilledError(BaseException):
    """The end of a process, which no code catches."""


class Killer:
    """Ends the process before or after one of its writes.

    Attributes:
        at: The write, counting from 0; None to kill nothing.
        is_after: Whether the write is carried out first.
        writes: How many writes there were.
    """

    def __init__(self) -> None:
        self.at: int | None = None
        self.is_after = False
        self.writes = 0

    def on(self, write: Callable[..., Any]) -> Callable[..., Any]:
        """Wrap a write so that the process may be killed at it."""

        def killed(*arguments: Any, **options: Any) -> Any:
            is_last = self.writes == self.at
            self.writes += 1
            if is_last and not self.is_after:
                raise KilledError
            result = write(*arguments, **options)
            if is_last:
                raise KilledError
            return result

        return killed


@pytest.fixture
def killer(monkeypatch: pytest.MonkeyPatch) -> Killer:
    """Return a killer of all writes of a delivery, at first inactive."""
    made = Killer()
    monkeypatch.setattr(ObjectStore, "put_new", made.on(ObjectStore.put_new))
    monkeypatch.setattr(DeltaTable, "create", made.on(DeltaTable.create))
    monkeypatch.setattr(DeltaTable, "create_write_transaction", made.on(DeltaTable.create_write_transaction))
    return made


def deliver(batches: StackBatches) -> Manifest:
    """Deliver a batch of two shares."""
    batch = batches.open()
    for share, rows in SHARES.items():
        batches.write(batch, share, rows)
    return batch.commit(SHARES, PROVENANCE)


def facts(batches: StackBatches, manifest: Manifest) -> dict[str, Any]:
    """Return what must not depend on the kill, and check that no extra objects are left."""
    root = delta_table_prefix(batches.model)
    files = {entry.key.removeprefix(root) for entry in batches.store.listing(f"{root}{BATCH}/")}
    assert files == set(manifest.delta.files)
    written = {e.key for e in batches.store.listing(json_batch_prefix(batches.model, PARTITION, BATCH))}
    assert {key for key in written if key.endswith(".jsonl.gz")} == {part.key for part in manifest.json_parts}
    assert batches.store.get(manifest.key) == manifest.to_bytes()
    return {
        "rows": batches.stored()[BATCH],
        "lines": batches.parts_of(manifest),
        "parts": [(part.rows, part.bytes, part.sha256) for part in manifest.json_parts],
        "files": {name: batches.store.get(f"{root}{name}") for name in files},
        "checksum": manifest.checksum,
        "version": manifest.delta.version,
    }


def test_delivery_survives_kill_at_each_write(batches: StackBatches, killer: Killer) -> None:
    """A delivery that is killed at any write and run again gives the same batch and manifest."""
    whole = facts(batches, deliver(batches))
    writes = killer.writes
    # Parts, data files, digests and receipts of two shares; the table, the commit and the manifest.
    assert writes == 11
    for at in range(writes):
        for is_after in (False, True):
            fresh = StackBatches(batches.store)
            killer.at, killer.is_after, killer.writes = at, is_after, 0
            with pytest.raises(KilledError):
                deliver(fresh)
            killer.at = None
            manifest = deliver(fresh)
            assert facts(fresh, manifest) == whole, (at, is_after)
            assert deliver(fresh) == manifest


def test_later_attempt_survives_kill_during_commit(batches: StackBatches, killer: Killer) -> None:
    """The rows of the earlier attempt stay until the commit of the later one, wherever that is killed."""
    for at in range(2):
        for is_after in (False, True):
            fresh = StackBatches(batches.store)
            other, early, late = fresh.open(OTHER), fresh.open(attempt=1), fresh.open(attempt=2)
            for batch, key in ((other, "k-0"), (early, "k-1"), (late, "k-2")):
                fresh.write(batch, "a", rows_of(key))
            other.commit(["a"], PROVENANCE)
            killer.at, killer.is_after, killer.writes = 1, False, 0
            with pytest.raises(KilledError):
                # Before its manifest.
                early.commit(["a"], PROVENANCE)
            killer.at, killer.is_after, killer.writes = at, is_after, 0
            with pytest.raises(KilledError):
                late.commit(["a"], PROVENANCE)
            assert fresh.stored()[BATCH] == (["k-2"] if at or is_after else ["k-1"])
            killer.at = None
            manifest = late.commit(["a"], PROVENANCE)
            assert fresh.stored() == {OTHER: ["k-0"], BATCH: ["k-2"]}
            assert (manifest.attempt, manifest.row_count) == (2, 1)
