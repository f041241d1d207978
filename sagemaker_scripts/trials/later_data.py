"""Copies a folder of data without what came after a partition began.

It removes files whose path has a later partition, and rows whose `known_at` is not before the partition's
start.
"""

# PyArrow creates its compute functions when it is imported.
# pyright: reportAttributeAccessIssue=false

from __future__ import annotations

import csv
import filecmp
import gzip
import io
import json
import shutil
from collections.abc import Callable, Iterable
from datetime import datetime
from pathlib import Path
from typing import NamedTuple

import pandas as pd
import pyarrow as pa
import pyarrow.compute as pc
import pyarrow.parquet as pq
from deltalake import DeltaTable

from prediction_contract.jobs.model_inputs import Source
from prediction_contract.jobs.source_keys import values_of_key, values_of_partition
from prediction_contract.naming.batch import Partition
from prediction_contract.naming.partition_kind import kind_of_text


class RemovedData(NamedTuple):
    """The amount of later data that was removed.

    Attributes:
        files: The number of files of later partitions, and of files that the sample data's generator delivers
            later.
        rows: The number of rows in other files that became known later.
    """

    files: int
    rows: int


def without_later_data(folder: Path, target: Path, sources: Iterable[Source], partition: str) -> RemovedData:
    """Copy the data in a folder that existed when a partition began, and return the amount left out.

    Args:
        folder: All data, in the layout of the data bucket.
        target: The folder to create.
        sources: The sources, whose path and `known_at` tell when data became known.
        partition: The partition.
    """
    shutil.copytree(folder, target)
    start = Partition(partition).start
    files = rows = 0
    for source in sources:
        if source.path and source.format != "delta":
            files += _remove_later_files(target, source, partition)
        if source.known_at is not None and source.path and source.format != "reader":
            paths = _paths(target, source, partition)
            rows += sum(_ROWS[source.format](path, source.known_at, start) for path in paths)
    return RemovedData(files, rows)


def count_files_not_delivered(folder: Path, earlier: Path, sources: Iterable[Source], partition: str) -> int:
    """Return how many of the sources' files are missing or different in the generator's earlier data.

    Args:
        folder: All data.
        earlier: The generator's data at the time when the partition began.
        sources: The sources whose files count.
        partition: The partition.
    """
    kind = kind_of_text(partition)
    own = {source.path: values_of_partition(source.path, partition) for source in sources if source.path}
    count = 0
    for path in folder.rglob("*"):
        key = path.relative_to(folder)
        places = [(values_of_key(name, key.as_posix(), kind), own[name]) for name in own]
        places = [(place, mine) for place, mine in places if place is not None]
        if not places or not path.is_file():
            continue
        then = earlier / key
        if not then.is_file():
            count += 1
        elif any(place <= mine for place, mine in places):
            # Files of later partitions are removed and counted elsewhere.
            count += int(not filecmp.cmp(path, then, shallow=False))
    return count


def _remove_later_files(folder: Path, source: Source, partition: str) -> int:
    own, kind = values_of_partition(source.path, partition), kind_of_text(partition)
    taken = 0
    for path in sorted(folder.rglob("*")):
        if path.is_file():
            place = values_of_key(source.path, path.relative_to(folder).as_posix(), kind)
            if place is not None and place > own:
                path.unlink()
                taken += 1
    return taken


def _paths(folder: Path, source: Source, partition: str) -> list[Path]:
    """Return the files of a source, or the folders of its Delta tables."""
    found = (
        (path.parent for path in folder.rglob("_delta_log"))
        if source.format == "delta"
        else (path for path in folder.rglob("*") if path.is_file())
    )
    kind = kind_of_text(partition)
    keys = ((path, path.relative_to(folder).as_posix()) for path in sorted(found))
    return [path for path, key in keys if values_of_key(source.path.rstrip("/"), key, kind) is not None]


def _later(texts: Iterable[object], start: datetime) -> list[bool]:
    moments = pd.to_datetime(
        pd.Series(list(texts), dtype=object), utc=True, format="ISO8601", errors="coerce"
    )
    # Invalid times are left to the source's own check.
    return (moments >= pd.Timestamp(start)).tolist()


def _rewritten(path: Path, change: Callable[[str], tuple[str, int]]) -> int:
    packed = path.read_bytes()
    content = gzip.decompress(packed) if path.name.endswith(".gz") else packed
    text, taken = change(content.decode())
    if taken:
        changed = text.encode()
        path.write_bytes(gzip.compress(changed, mtime=0) if path.name.endswith(".gz") else changed)
    return taken


def _remove_csv_rows(path: Path, known_at: str, start: datetime) -> int:
    def change(text: str) -> tuple[str, int]:
        header, *rows = list(csv.reader(io.StringIO(text))) or [[]]
        if known_at not in header:
            return text, 0
        place = header.index(known_at)
        later = _later((row[place] if place < len(row) else None for row in rows), start)
        written = io.StringIO()
        kept = [row for row, is_later in zip(rows, later, strict=True) if not is_later]
        csv.writer(written, lineterminator="\n").writerows([header, *kept])
        return written.getvalue(), sum(later)

    return _rewritten(path, change)


def _remove_jsonl_rows(path: Path, known_at: str, start: datetime) -> int:
    def change(text: str) -> tuple[str, int]:
        lines = [line for line in text.splitlines() if line.strip()]
        later = _later((json.loads(line).get(known_at) for line in lines), start)
        kept = [line for line, is_later in zip(lines, later, strict=True) if not is_later]
        return "".join(f"{line}\n" for line in kept), sum(later)

    return _rewritten(path, change)


def _remove_parquet_rows(path: Path, known_at: str, start: datetime) -> int:
    # `read_table` would add columns from the path.
    table = pq.ParquetFile(path).read()
    if known_at not in table.column_names or not pa.types.is_timestamp(table[known_at].type):
        return 0
    moment = pa.scalar(start, pa.timestamp("us", "UTC"))
    known = table[known_at].cast(moment.type, safe=False)
    kept = table.filter(pc.fill_null(pc.less(known, moment), fill_value=True))
    pq.write_table(kept, path)
    return int(table.num_rows - kept.num_rows)


def _remove_delta_rows(path: Path, known_at: str, start: datetime) -> int:
    column = '"' + known_at.replace('"', '""') + '"'
    return int(DeltaTable(path).delete(f"{column} >= '{start.isoformat()}'")["num_deleted_rows"])


_ROWS: dict[str, Callable[[Path, str, datetime], int]] = {
    "csv": _remove_csv_rows,
    "jsonl": _remove_jsonl_rows,
    "parquet": _remove_parquet_rows,
    "delta": _remove_delta_rows,
}
