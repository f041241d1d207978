"""A Delta table as a source: reads its newest version in batches."""

from __future__ import annotations

from collections.abc import Iterator
from contextlib import contextmanager
from datetime import datetime
from typing import Any
from urllib.parse import unquote

import pyarrow as pa
from deltalake import DeltaTable, QueryBuilder
from deltalake.exceptions import DeltaError, TableNotFoundError
from deltalake.schema import PrimitiveType

from prediction_batches.object_store import ObjectStore
from prediction_contract.stores.delta_table import deltalake_message
from sagemaker_scripts.sources.source_columns import SourceColumns
from sagemaker_scripts.sources.source_files import is_too_late
from sagemaker_scripts.sources.source_objects import (
    SourceError,
    SourceFile,
    SourceFiles,
    SourceObject,
    SourceRead,
)

_TABLE = "source"
_FEATURES_VERSION = 3
# Reader features that do not change how files are read.
_PLAIN_FEATURES = frozenset({"timestampNtz"})


def delta_batches(
    store: ObjectStore, path: str, columns: SourceColumns, storage_options: dict[str, str]
) -> tuple[Iterator[pa.Table], SourceRead] | None:
    """Return the rows of a table's newest version and the record of the version; None if there is no table.

    The first batch has the columns and no rows. Reading raises SourceError if a value does not fit.

    Args:
        store: The table's bucket.
        path: The key of its folder.
        columns: The columns to read.
        storage_options: The options of deltalake for the bucket.

    Raises:
        SourceError: The table cannot be read, or lacks a column.
    """
    table = _opened(store, path, columns, storage_options)
    if table is None:
        return None
    where, names = _wanted(table, columns)
    read = SourceRead(columns.source, bucket=store.bucket, key=path, version=table.version())
    return _converted(table, names, columns, where), read


def delta_files(
    store: ObjectStore, path: str, columns: SourceColumns, storage_options: dict[str, str]
) -> SourceFiles | None:
    """Return the files of a table's newest version, without files whose rows all became known too late.

    Args:
        store: The table's bucket.
        path: The key of its folder.
        columns: The columns to read.
        storage_options: The options of deltalake for the bucket.

    Returns:
        None if there is no table, or if its files alone do not define its rows, as with deletion vectors or
        renamed columns.

    Raises:
        SourceError: The table cannot be read, or lacks a column.
    """
    table = _opened(store, path, columns, storage_options)
    if table is None or not _is_plain(table):
        return None
    where, names = _wanted(table, columns)
    with _translate_errors(where, columns):
        schema = pa.schema(table.schema())
        given = pa.schema([schema.field(name) for name in names])
        adds = pa.table(table.get_add_actions(flatten=True)).sort_by("path")
        apart = [name for name in table.metadata().partition_columns if name in names and adds.num_rows]
        constants = _constants(adds, apart)
    if constants is None:
        return None
    least = f"min.{columns.known_at}"
    known = adds[least].to_pylist() if least in adds.column_names else [None] * adds.num_rows
    files = [
        # Keys in the log are URL-encoded.
        SourceFile(SourceObject(store.bucket, f"{path.rstrip('/')}/{unquote(key)}", size, None), constant)
        for key, size, constant, first in zip(
            adds["path"].to_pylist(), adds["size_bytes"].to_pylist(), constants, known, strict=True
        )
        if not is_too_late(first, columns)
    ]
    read = SourceRead(columns.source, bucket=store.bucket, key=path, version=table.version())
    return SourceFiles(files, given, [read])


def _is_plain(table: DeltaTable) -> bool:
    protocol = table.protocol()
    return protocol.min_reader_version == 1 or (
        protocol.min_reader_version == _FEATURES_VERSION
        and set(protocol.reader_features or ()) <= _PLAIN_FEATURES
    )


def _constants(adds: pa.Table, names: list[str]) -> list[tuple[tuple[str, str | None], ...]] | None:
    """Return each file's partition columns as texts; None if a value cannot be restored from its text."""
    columns = []
    for name in names:
        values = adds[f"partition.{name}"]
        texts = values.cast(pa.string())
        if texts.cast(values.type) != values:
            return None
        columns.append([(name, text) for text in texts.to_pylist()])
    return list(zip(*columns, strict=True)) if columns else [()] * adds.num_rows


def _opened(
    store: ObjectStore, path: str, columns: SourceColumns, storage_options: dict[str, str]
) -> DeltaTable | None:
    address = store.address(path.rstrip("/"))
    try:
        with _translate_errors(address, columns):
            return DeltaTable(address, storage_options=storage_options)
    except TableNotFoundError:
        return None


def _wanted(table: DeltaTable, columns: SourceColumns) -> tuple[str, list[str]]:
    """Return a name for the table's version, and the names of the columns to read."""
    where = f"{table.table_uri.rstrip('/')} version {table.version()}"
    return where, columns.wanted((field.name for field in table.schema().fields), where)


def _converted(table: DeltaTable, names: list[str], columns: SourceColumns, where: str) -> Iterator[pa.Table]:
    first = 0
    with _translate_errors(where, columns):
        batches = pa.RecordBatchReader.from_stream(_batches(table, names, columns))
        yield columns.converted(batches.schema.empty_table(), where)
        for batch in batches:
            rows = pa.Table.from_batches([batch])
            yield columns.converted(rows, where, first_row=first)
            first += rows.num_rows


@contextmanager
def _translate_errors(where: str, columns: SourceColumns) -> Iterator[None]:
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
        # Thereby deltalake skips files whose statistics show only later rows.
        query += f" where {_quoted(columns.known_at)} < {_time_literal(columns.until)}"
    return QueryBuilder().register(_TABLE, table).execute(query)


def _time_literal(moment: datetime) -> str:
    return f"arrow_cast('{moment.isoformat()}', 'Timestamp(Microsecond, Some(\"UTC\"))')"


def _quoted(name: str) -> str:
    return '"' + name.replace('"', '""') + '"'
