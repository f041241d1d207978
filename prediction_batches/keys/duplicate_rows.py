"""Finds rows that share a key, by the digests of all shares, before a batch is committed."""

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
    """Rows that share their key with another row.

    Attributes:
        rows: The number of rows; a lower bound if the search reached its limit of keys.
        first: The first of them, each by its share and its number, counting from 1.
    """

    rows: int
    first: tuple[tuple[str, int], ...]


def duplicate_rows(
    store: ObjectStore, shares: Sequence[tuple[str, InputObject]], *, most_keys: int, most_named: int
) -> DuplicateRows:
    """Return the rows of a batch that share their key with another row of the batch.

    Args:
        store: The bucket.
        shares: The name of each share and the object with its digests.
        most_keys: The search stops after this number of duplicate keys.
        most_named: The maximum length of `first`.

    Raises:
        InputMissingError: An object does not exist.
        ObjectAlteredError: An object's bytes have changed.
    """
    with tempfile.TemporaryDirectory(prefix="mlpipe-keys-") as name:
        folder = Path(name)
        (folder / "digests").mkdir()
        digests, saved = KeyDigests(folder / "digests"), folder / "share"
        for _, keys in shares:
            for block in _blocks(store, keys, saved):
                digests.add(block)
        duplicates = digests.duplicates(most_keys)
        if not duplicates:
            return DuplicateRows(0, ())
        rows, first = 0, list[tuple[str, int]]()
        for share, keys in shares:
            numbered = enumerate(_each(_blocks(store, keys, saved)), start=1)
            for number, digest in numbered:
                if digest in duplicates:
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
