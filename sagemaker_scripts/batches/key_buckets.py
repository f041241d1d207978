"""Tables too large to be joined in memory, divided on disk so that rows of equal keys lie in one bucket.

A key's bucket is made of the CRC-32 of its text: every machine finds the same. Rows are appended as whole
Arrow streams, each with its own schema, to one file per bucket and writer. No file stays open, and several
processes write side by side under their own names. A bucket's rows are read in the order of their table,
whoever wrote them.
"""

# PyArrow makes its compute functions when it is imported, where no type checker sees them.
# pyright: reportAttributeAccessIssue=false

from __future__ import annotations

import shutil
import zlib
from collections.abc import Iterable, Iterator
from dataclasses import dataclass
from errno import ENOSPC
from math import isqrt
from pathlib import Path
from typing import NamedTuple

import numpy as np
import pyarrow as pa
import pyarrow.compute as pc

from prediction_contract.cleaning.row_cleaning import TRIMMED
from prediction_contract.errors import ContractError

# Beyond 400 million rows, chunks of 100,000 grow: each bucket takes an append of every spill.
MAX_BUCKETS = 4096
# So much is held while it is divided.
_SPILL_BYTES = 32 * 1024 * 1024
_FIRST_ROW = b"first_row"


class BucketsError(ContractError):
    """The rows of a table cannot be kept, or not be put together again."""


class BucketRows(NamedTuple):
    """One bucket's rows of a table, in its order.

    Attributes:
        rows: The rows. They are read from disk as they are used.
        numbers: Which rows of the whole table these are, from 0.
    """

    rows: pa.Table
    numbers: np.ndarray


def bucket_count(rows: int, chunk_rows: int) -> int:
    """Return how many buckets a table is divided into, so that none has more rows than a chunk may have.

    Sizes deviate from their mean by its square root. One in a billion deviates by six times that.
    """
    if rows <= chunk_rows:
        return 1
    mean = max(1, chunk_rows - 6 * isqrt(chunk_rows))
    return min(MAX_BUCKETS, -(-rows // mean))


def bucket_numbers(keys: pa.Array | pa.ChunkedArray, buckets: int) -> np.ndarray:
    """Return the bucket of each key. A load may trim keys, so what it trims counts for nothing here."""
    texts = pc.ascii_trim(keys.cast(pa.large_string()), TRIMMED).cast(pa.large_binary()).to_pylist()
    digests = np.fromiter(map(zlib.crc32, texts), np.uint32, len(texts))
    # NumPy sorts integers of 16 bits in linear time.
    return (digests % buckets).astype(np.uint16)


@dataclass(frozen=True)
class KeyBuckets:
    """The buckets of several tables in a folder of this machine, for any of its processes.

    Attributes:
        folder: Empty at first.
        count: How many buckets there are.
        kept: Those that this machine keeps; rows of the others are dropped.
    """

    folder: Path
    count: int
    kept: frozenset[int]

    def spill(
        self,
        name: str,
        schema: pa.Schema,
        batches: Iterable[pa.RecordBatch],
        *,
        key: str,
        first_row: int,
        writer: str,
    ) -> None:
        """Divide consecutive rows of a table.

        Args:
            name: The table's.
            schema: Of the batches, also if there is none.
            batches: The rows.
            key: The column of keys: texts, none of them null.
            first_row: The number of their first row in the table.
            writer: A name that no other process writes under at the same time.
        """
        folder = self.folder / name
        folder.mkdir(parents=True, exist_ok=True)
        next_row = first_row
        for rows in _gathered(batches):
            self._divide(folder, rows, key, next_row, writer)
            next_row += rows.num_rows
        # The types of a table without rows say nothing where others have some.
        types = "types" if next_row > first_row else "empty"
        _append(folder / f"{types}.{writer}", schema.empty_table(), first_row)

    def _divide(self, folder: Path, rows: pa.Table, key: str, first_row: int, writer: str) -> None:
        buckets = bucket_numbers(rows[key], self.count)
        order = np.argsort(buckets, kind="stable")
        found, starts = np.unique(buckets[order], return_index=True)
        for bucket, places in zip(found.tolist(), np.split(order, starts[1:]), strict=True):
            if bucket in self.kept:
                own = rows.take(pa.array(places)).append_column("", pa.array(places + first_row))
                _append(folder / f"{bucket}.{writer}", own, first_row)

    def drop(self, name: str) -> None:
        """Delete a table; nobody writes it any more."""
        shutil.rmtree(self.folder / name, ignore_errors=True)

    def read(self, name: str, bucket: int) -> BucketRows | None:
        """Return a bucket's rows of a table; None if no such table was spilled.

        Raises:
            BucketsError: Parts of the table have types for a column that no type holds all values of.
        """
        folder = self.folder / name
        typed = _streams(folder, "types") or _streams(folder, "empty")
        if not typed:
            return None
        found = _streams(folder, str(bucket))
        tables = [stream.remove_column(stream.num_columns - 1) for stream in found]
        numbers = [stream.column(stream.num_columns - 1).to_numpy() for stream in found]
        try:
            schema = pa.unify_schemas([stream.schema for stream in typed], promote_options="permissive")
            rows = pa.concat_tables([schema.empty_table(), *tables], promote_options="permissive")
        except (pa.ArrowTypeError, pa.ArrowInvalid) as error:
            raise BucketsError(
                f"The {name} have columns of several types: {error}"[:400],
                remedy="Return each column in one type for all partitions, and prepare the features again",
            ) from error
        return BucketRows(rows, np.concatenate([np.empty(0, np.int64), *numbers]))


def _gathered(batches: Iterable[pa.RecordBatch]) -> Iterator[pa.Table]:
    """Yield the rows as tables of some size."""
    held: list[pa.RecordBatch] = []
    for batch in batches:
        held.append(batch)
        if sum(each.nbytes for each in held) >= _SPILL_BYTES:
            yield pa.Table.from_batches(held)
            held = []
    if any(each.num_rows for each in held):
        yield pa.Table.from_batches(held)


def _append(file: Path, rows: pa.Table, first_row: int) -> None:
    sink = pa.BufferOutputStream()
    with pa.ipc.new_stream(sink, rows.schema.with_metadata({_FIRST_ROW: str(first_row)})) as stream:
        stream.write_table(rows)
    try:
        with file.open("ab") as appended:
            appended.write(sink.getvalue())
    except OSError as error:
        if error.errno != ENOSPC:
            raise
        raise BucketsError(
            "The disk is full: features, outcomes and the previous batch are divided on it",
            remedy="Declare a larger volume_gb or more instances in the model's processing",
        ) from error


def _streams(folder: Path, name: str) -> list[pa.Table]:
    """Return what all writers appended under a name, in the order of the whole table."""
    found: list[tuple[int, pa.Table]] = []
    for path in folder.glob(f"{name}.*"):
        with pa.memory_map(str(path)) as file:
            while file.tell() < file.size():
                rows = pa.ipc.open_stream(file).read_all()
                found.append((int(rows.schema.metadata[_FIRST_ROW]), rows.replace_schema_metadata(None)))
    return [rows for _, rows in sorted(found, key=lambda each: each[0])]
