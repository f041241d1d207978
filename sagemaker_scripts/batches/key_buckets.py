"""Divides tables that do not fit into memory into buckets on disk; rows with equal keys share a bucket.

A key's bucket is computed from the CRC-32 of its text, so it is the same on every machine. Each write appends
an Arrow stream with its own schema to one file per bucket and writer. No file stays open, and several
processes can write concurrently under different names. A bucket's rows are read in the order of their table,
whichever process wrote them.
"""

# PyArrow creates its compute functions when it is imported, where no type checker sees them.
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

# Every spill appends to each bucket, so the number is limited. Beyond 400 million rows, buckets have more
# than 100,000 rows.
MAX_BUCKETS = 4096
# The bytes of rows in memory while they are divided.
_SPILL_BYTES = 32 * 1024 * 1024
_FIRST_ROW = b"first_row"


class BucketsError(ContractError):
    """The rows of a table cannot be written to buckets or read from them."""


class BucketRows(NamedTuple):
    """One bucket's rows of a table, in the table's order.

    Attributes:
        rows: The rows, memory-mapped from disk.
        numbers: The number of each row in the whole table, from 0.
    """

    rows: pa.Table
    numbers: np.ndarray


def bucket_count(rows: int, chunk_rows: int) -> int:
    """Return the number of buckets, at most `MAX_BUCKETS`, so that a bucket fits into a chunk.

    The standard deviation of bucket sizes is the square root of their mean. Only one bucket in a billion
    exceeds the mean by six standard deviations.
    """
    if rows <= chunk_rows:
        return 1
    mean = max(1, chunk_rows - 6 * isqrt(chunk_rows))
    return min(MAX_BUCKETS, -(-rows // mean))


def bucket_numbers(keys: pa.Array | pa.ChunkedArray, buckets: int) -> np.ndarray:
    """Return the bucket of each key, ignoring the characters that a load may trim."""
    texts = pc.ascii_trim(keys.cast(pa.large_string()), TRIMMED).cast(pa.large_binary()).to_pylist()
    digests = np.fromiter(map(zlib.crc32, texts), np.uint32, len(texts))
    # NumPy sorts 16-bit integers in linear time.
    return (digests % buckets).astype(np.uint16)


@dataclass(frozen=True)
class KeyBuckets:
    """The buckets of several tables in a local folder, shared by all processes of this machine.

    Attributes:
        folder: The folder; empty at first.
        count: The number of buckets.
        kept: The buckets that this machine keeps; rows of other buckets are dropped.
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
        """Write consecutive rows of a table to their buckets.

        Args:
            name: The table's name.
            schema: The schema of the batches, needed even if there are none.
            batches: The rows.
            key: The column of keys, which are texts and never null.
            first_row: The number of the first of these rows in the table.
            writer: A name that no other process uses at the same time.
        """
        folder = self.folder / name
        folder.mkdir(parents=True, exist_ok=True)
        next_row = first_row
        for rows in _gathered(batches):
            self._divide(folder, rows, key, next_row, writer)
            next_row += rows.num_rows
        # The types of a part without rows count only if all parts are without rows.
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
        """Delete a table that no process writes any more."""
        shutil.rmtree(self.folder / name, ignore_errors=True)

    def read(self, name: str, bucket: int) -> BucketRows | None:
        """Return a bucket's rows of a table; None if the table was not spilled.

        Raises:
            BucketsError: A column's types in different parts of the table have no common type.
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
                f"Table {name} has columns of several types: {error}"[:400],
                remedy="Return each column with the same type in all partitions, then prepare the features "
                "again",
            ) from error
        return BucketRows(rows, np.concatenate([np.empty(0, np.int64), *numbers]))


def _gathered(batches: Iterable[pa.RecordBatch]) -> Iterator[pa.Table]:
    """Yield the rows as tables of about `_SPILL_BYTES`."""
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
            "The disk is full; features, outcomes and the previous batch are divided on it",
            remedy="Declare a larger volume_gb or more instances in the model's processing",
        ) from error


def _streams(folder: Path, name: str) -> list[pa.Table]:
    """Return the tables that all writers appended under a name, in the order of the whole table."""
    found: list[tuple[int, pa.Table]] = []
    for path in folder.glob(f"{name}.*"):
        with pa.memory_map(str(path)) as file:
            while file.tell() < file.size():
                rows = pa.ipc.open_stream(file).read_all()
                found.append((int(rows.schema.metadata[_FIRST_ROW]), rows.replace_schema_metadata(None)))
    return [rows for _, rows in sorted(found, key=lambda each: each[0])]
