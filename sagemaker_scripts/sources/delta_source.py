"""A Delta table as a source: one version of it, as batches."""

from __future__ import annotations

from collections.abc import Iterator
from contextlib import contextmanager
from datetime import datetime
from typing import Any

import pyarrow as pa
from deltalake import DeltaTable, QueryBuilder
from deltalake.exceptions import DeltaError, TableNotFoundError
from deltalake.schema import PrimitiveType

from prediction_batches.object_store import ObjectStore
from prediction_contract.stores.delta_table import deltalake_message
from sagemaker_scripts.sources.source_columns import SourceColumns
from sagemaker_scripts.sources.source_objects import SourceError, SourceRead

_TABLE = "source"


def delta_batches(
    store: ObjectStore, path: str, columns: SourceColumns, storage_options: dict[str, str]
) -> tuple[Iterator[pa.Table], SourceRead] | None:
    """Return the rows of a table's newest version and which one that is, or None if there is no table.

    The first batch has the columns and no rows. Reading raises SourceError where a value does not fit.

    Args:
        store: The table's bucket.
        path: The key of its folder.
        columns: Which columns are read.
        storage_options: How deltalake reaches the bucket.

    Raises:
        SourceError: The table cannot be read, or lacks a column.
    """
    address = store.address(path.rstrip("/"))
    try:
        with _named_failure(address, columns):
            table = DeltaTable(address, storage_options=storage_options)
    except TableNotFoundError:
        return None
    version = table.version()
    where = f"{address} version {version}"
    names = columns.wanted((field.name for field in table.schema().fields), where)
    return (
        _converted(table, names, columns, where),
        SourceRead(columns.source, bucket=store.bucket, key=path, version=version),
    )


def _converted(table: DeltaTable, names: list[str], columns: SourceColumns, where: str) -> Iterator[pa.Table]:
    first = 0
    with _named_failure(where, columns):
        batches = pa.RecordBatchReader.from_stream(_batches(table, names, columns))
        yield columns.converted(batches.schema.empty_table(), where)
        for batch in batches:
            rows = pa.Table.from_batches([batch])
            yield columns.converted(rows, where, first_row=first)
            first += rows.num_rows


@contextmanager
def _named_failure(where: str, columns: SourceColumns) -> Iterator[None]:
    try:
        yield
    except TableNotFoundError:
        raise
    except (DeltaError, OSError, pa.ArrowException) as error:
        raise SourceError(
            f"The Delta table {where} of source {columns.source} cannot be read: {deltalake_message(error)}",
            remedy="Repair the table, or correct the source's path in defs.yaml",
        ) from error


def _batches(table: DeltaTable, names: list[str], columns: SourceColumns) -> Any:
    query = f"select {', '.join(map(_quoted, names))} from {_TABLE}"  # noqa: S608  # the table's own names
    times = {field.name for field in table.schema().fields if field.type == PrimitiveType("timestamp")}
    if columns.until is not None and columns.known_at in times:
        # Files of later rows are left out by their statistics.
        query += f" where {_quoted(columns.known_at)} < {_moment(columns.until)}"
    return QueryBuilder().register(_TABLE, table).execute(query)


def _moment(moment: datetime) -> str:
    return f"arrow_cast('{moment.isoformat()}', 'Timestamp(Microsecond, Some(\"UTC\"))')"


def _quoted(name: str) -> str:
    return '"' + name.replace('"', '""') + '"'
