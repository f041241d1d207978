"""Rows of different shares that have the same key, found by their digests before a batch is committed."""

from __future__ import annotations

import tempfile
from collections.abc import Iterator, Sequence
from dataclasses import dataclass
from itertools import chain
from pathlib import Path

from prediction_batches.object_store import ObjectStore
from prediction_contract.manifests.manifest import InputObject
from prediction_contract.rows.key_digests import DIGEST_BYTES, KeyDigests

_BLOCK_BYTES = DIGEST_BYTES * 10_000


@dataclass(frozen=True)
class DuplicateRows:
    """Rows that share their key with another.

    Attributes:
        rows: How many there are; with as many keys as were looked for there may be more.
        first: Share and number, from 1, of the first of them.
    """

    rows: int
    first: tuple[tuple[str, int], ...]


def duplicate_rows(
    store: ObjectStore, shares: Sequence[tuple[str, InputObject]], *, most_keys: int, most_named: int
) -> DuplicateRows:
    """Return the rows of a batch that share their key with another row of it.

    Args:
        store: The bucket.
        shares: Name of each share and the object of its digests.
        most_keys: How many doubled keys are looked for.
        most_named: How many rows are named.

    Raises:
        InputMissingError: An object is gone.
        ObjectAlteredError: It holds other bytes.
    """
    with tempfile.TemporaryDirectory(prefix="mlpipe-keys-") as name:
        folder = Path(name)
        (folder / "digests").mkdir()
        digests, saved = KeyDigests(folder / "digests"), folder / "share"
        for _, keys in shares:
            for block in _blocks(store, keys, saved):
                digests.add(block)
        doubled = digests.duplicates(most_keys)
        if not doubled:
            return DuplicateRows(0, ())
        rows, first = 0, list[tuple[str, int]]()
        for share, keys in shares:
            numbered = enumerate(_each(_blocks(store, keys, saved)), start=1)
            for number, digest in numbered:
                if digest in doubled:
                    rows += 1
                    if len(first) < most_named:
                        first.append((share, number))
        return DuplicateRows(rows, tuple(first))


def _blocks(store: ObjectStore, keys: InputObject, saved: Path) -> Iterator[bytes]:
    store.save_verified(keys, saved)
    with saved.open("rb") as file:
        while block := file.read(_BLOCK_BYTES):
            yield block


def _each(blocks: Iterator[bytes]) -> Iterator[bytes]:
    return chain.from_iterable(
        (block[start : start + DIGEST_BYTES] for start in range(0, len(block), DIGEST_BYTES))
        for block in blocks
    )
