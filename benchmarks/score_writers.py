"""Measures one way to write predictions as JSON and Parquet, in a process of its own.

    python -m benchmarks.score_writers WRITER plain|json ROWS FOLDER

Each writer gets the rows in the form that suits it best before the clock starts. The last line of standard
output is a JSON object: rows, CPU seconds of all threads, wall-clock seconds, bytes of JSON and of Parquet.
"""

from __future__ import annotations

import gzip
import json
import shutil
import sys
import time
from pathlib import Path
from typing import TYPE_CHECKING, Any, BinaryIO

import pandas as pd
import pyarrow as pa
import pyarrow.parquet as pq
from isal import igzip

from benchmarks.prediction_rows import SCHEMA, SCHEMA_WITH_JSON, predictions, reasons
from prediction_batches.arrow_types import arrow_type
from prediction_batches.delivery.batch_writer import BatchWriter
from prediction_batches.files.share_location import ShareLocation
from prediction_batches.object_store import ObjectStore
from prediction_contract.rows.prediction_line import prediction_line
from prediction_contract.rows.row_contract import row_contract
from prediction_contract.rows.schema import Kind

if TYPE_CHECKING:
    from collections.abc import Callable

    from prediction_contract.rows.schema import PredictionSchema

CHUNK_ROWS = 100_000
_BATCH = "20130201T060000Z-0123abcd"


class FolderS3:
    """A bucket whose objects are files, with the methods of a boto3 client that writing a share needs."""

    def __init__(self, folder: Path) -> None:
        self._folder = folder

    def put_object(self, *, Key: str, Body: bytes | BinaryIO, **_options: str) -> None:  # noqa: N803  # boto3's names
        """Write a file."""
        path = self._folder / Key
        path.parent.mkdir(parents=True, exist_ok=True)
        with path.open("wb") as file:
            if isinstance(Body, bytes):
                file.write(Body)
            else:
                shutil.copyfileobj(Body, file)


def by_columns(
    schema: PredictionSchema, rows: pa.Table, values: list[Any], folder: Path
) -> Callable[[], None]:
    """Write like the score job: chunk by chunk, with a share's parts, data files and receipt."""
    pa.set_cpu_count(1)
    chunks: list[Any] = [rows.slice(first, CHUNK_ROWS) for first in range(0, rows.num_rows, CHUNK_ROWS)]
    if values:
        chunks = [chunk.to_pandas(types_mapper=pd.ArrowDtype) for chunk in chunks]
        for number, chunk in enumerate(chunks):
            chunk["reasons"] = values[number * CHUNK_ROWS :][: len(chunk)]
    location = ShareLocation(
        ObjectStore(FolderS3(folder), "bucket"), "flight_delay", "2013-02-01", _BATCH, 1, "share"
    )

    def write() -> None:
        with BatchWriter(location, schema, batch_digest="", has_unique_keys=True) as writer:
            for chunk in chunks:
                writer.write(chunk)

    return write


def by_rows(schema: PredictionSchema, rows: pa.Table, values: list[Any], folder: Path) -> Callable[[], None]:
    """Write row by row, like the score job before it wrote columns: gzip 6, and Parquet with Snappy."""
    contract, texts = row_contract(schema), sorted(schema.names)
    # Lines are checked fastest if columns are in order of their names.
    columns = {name: values if name not in rows.column_names else rows[name].to_pylist() for name in texts}

    def write() -> None:
        lines = [
            prediction_line(contract, dict(zip(texts, row, strict=True)))
            for row in zip(*columns.values(), strict=True)
        ]
        (folder / "part.jsonl.gz").write_bytes(
            gzip.compress(b"".join(line.content for line in lines), compresslevel=6, mtime=0)
        )
        accepted = [line.row for line in lines if line.row is not None]
        arrays: dict[str, Any] = {}
        for column in schema.columns:
            place = texts.index(column.name)
            is_json = column.type.kind is Kind.JSON
            found = [row.texts[place] if is_json else row.values[column.name] for row in accepted]
            arrays[column.name] = pa.array(found, arrow_type(column.type))
        arrays["batch_id"] = pa.array([_BATCH] * len(lines))
        arrays["row_checksum"] = pa.array([line.checksum for line in lines], pa.int64())
        pq.write_table(pa.table(arrays), folder / "rows.parquet", compression="snappy")

    return write


def by_pandas(level: int) -> Callable[..., Callable[[], None]]:
    """Return a writer with pandas' `to_json` and `to_parquet`: decimals become floats; without checks."""

    def prepare(
        _schema: PredictionSchema, rows: pa.Table, values: list[Any], folder: Path
    ) -> Callable[[], None]:
        place = rows.schema.get_field_index("expected_delay_minutes")
        frame = rows.set_column(
            place, "expected_delay_minutes", rows["expected_delay_minutes"].cast(pa.float64())
        ).to_pandas()
        if values:
            frame["reasons"] = values

        def write() -> None:
            frame.to_json(
                folder / "part.jsonl.gz",
                orient="records",
                lines=True,
                date_format="iso",
                compression={"method": "gzip", "compresslevel": level},
            )
            frame.to_parquet(folder / "rows.parquet")

        return write

    return prepare


def by_polars(
    _schema: PredictionSchema, rows: pa.Table, _values: list[Any], folder: Path
) -> Callable[[], None]:
    """Write with Polars' `write_ndjson` and `write_parquet`: decimals become strings; without checksums."""
    import polars as pl  # noqa: PLC0415  # each process imports its own writer

    frame = pl.DataFrame(rows)

    def write() -> None:
        # Faster than Polars' own gzip.
        file: Any = igzip.open(folder / "part.jsonl.gz", "wb", compresslevel=1)
        with file:
            frame.write_ndjson(file)
        frame.write_parquet(folder / "rows.parquet", compression="zstd", compression_level=1)

    return write


WRITERS = {
    "mlpipe": by_columns,
    "row by row": by_rows,
    "pandas": by_pandas(9),
    "pandas, gzip 1": by_pandas(1),
    "Polars": by_polars,
}
PLAIN = tuple(WRITERS)
# The other writers do not keep JSON columns as JSON.
WITH_JSON = ("mlpipe", "row by row")


def main(writer: str, kind: str, rows: int, folder: Path) -> None:
    """Measure and print."""
    is_json = kind == "json"
    schema = SCHEMA_WITH_JSON if is_json else SCHEMA
    write = WRITERS[writer](schema, predictions(rows), reasons(rows) if is_json else [], folder)
    began, cpu = time.perf_counter(), time.process_time()
    write()
    measured = {
        "rows": rows,
        "cpu_s": time.process_time() - cpu,
        "wall_s": time.perf_counter() - began,
        "json_bytes": _size(folder, "*.gz"),
        "parquet_bytes": _size(folder, "*.parquet"),
    }
    sys.stdout.write(f"{json.dumps(measured)}\n")


def _size(folder: Path, pattern: str) -> int:
    return sum(path.stat().st_size for path in folder.rglob(pattern))


if __name__ == "__main__":
    main(sys.argv[1], sys.argv[2], int(sys.argv[3]), Path(sys.argv[4]))
