"""Helpers that read sources from an in-memory bucket."""

from __future__ import annotations

import gzip
import io
import json
from typing import TYPE_CHECKING, Any, NoReturn

import pyarrow as pa
import pyarrow.csv as pa_csv
import pyarrow.parquet as pq

from prediction_batches.object_store import ObjectStore
from prediction_contract.jobs.model_inputs import ModelInputs, Source
from sagemaker_scripts.sources.source_tables import SourceTables
from tests.fakes.memory_s3 import MemoryS3

if TYPE_CHECKING:
    from sagemaker_scripts.sources.source_tables import PartitionSources

DAY = "2013-02-03"
ENDINGS = {"parquet": "parquet", "csv": "csv", "csv.gz": "csv.gz", "jsonl": "jsonl", "jsonl.gz": "jsonl.gz"}


def bucket(**objects: bytes) -> ObjectStore:
    """Return an in-memory bucket with the given objects."""
    return ObjectStore(MemoryS3(dict(objects)), "data")


def no_secret(name: str) -> NoReturn:
    """Fail, because this test must not read a secret."""
    raise AssertionError(f"the secret {name} was read")


def sources_of(store: ObjectStore, *sources: Source, last: str = DAY) -> SourceTables:
    """Return the tables of a model with the given sources."""
    inputs = ModelInputs(model="churn", functions="acme.defs.churn", sources=sources)
    return SourceTables(inputs, store, last=last, secret_text=no_secret, storage_options={})


def read(store: ObjectStore, source: Source, partition: str = DAY) -> tuple[pa.Table, PartitionSources]:
    """Return the rows of a single source for a partition, and everything that was found."""
    with sources_of(store, source, last=partition) as tables:
        found = tables.read(partition)
    return found.tables[source.name], found


def orders(**changes: Any) -> Source:
    """Return a source of Parquet files with one folder per day, or a changed one."""
    given: dict[str, Any] = {
        "name": "orders",
        "format": "parquet",
        "path": "raw/orders/dt={date}/*.parquet",
        "columns": (("customer_id", "string"), ("amount", "decimal(10,2)"), ("ordered_at", "timestamp")),
    }
    return Source(**given | changes)


def file_of(rows: list[dict[str, Any]], ending: str, schema: pa.Schema | None = None) -> bytes:
    """Return a file of rows in the format of the given ending."""
    if ending == "parquet":
        sink = io.BytesIO()
        pq.write_table(pa.Table.from_pylist(rows, schema=schema), sink)
        return sink.getvalue()
    if ending.startswith("jsonl"):
        content = "".join(f"{json.dumps(row)}\n" for row in rows).encode()
    else:
        buffer = io.BytesIO()
        pa_csv.write_csv(pa.Table.from_pylist(rows, schema=schema), buffer)
        content = buffer.getvalue()
    return gzip.compress(content, mtime=0) if ending.endswith(".gz") else content
