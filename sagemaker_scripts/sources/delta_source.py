"""A Delta table as a source: one version of it, as batches."""

from __future__ import annotations

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


def read_delta(
    store: ObjectStore, path: str, columns: SourceColumns, storage_options: dict[str, str]
) -> tuple[pa.Table, SourceRead] | None:
    """Return the rows of a table's newest version and which one that is, or None if there is no table.

    Args:
        store: The table's bucket.
        path: The key of its folder.
        columns: Which columns are read.
        storage_options: How deltalake reaches the bucket.

    Raises:
        SourceError: The table cannot be read, lacks a column, or a value does not fit.
    """
    address = store.address(path.rstrip("/"))
    try:
        table = DeltaTable(address, storage_options=storage_options)
        version = table.version()
        names = columns.wanted(
            (field.name for field in table.schema().fields), f"{address} version {version}"
        )
        rows = pa.table(_batches(table, names, columns))
    except TableNotFoundError:
        return None
    except (DeltaError, OSError, pa.ArrowException) as error:
        raise SourceError(
            f"The Delta table {address} of source {columns.source} cannot be read: "
            f"{deltalake_message(error)}",
            remedy="Repair the table, or correct the source's path in defs.yaml",
        ) from error
    read = SourceRead(columns.source, bucket=store.bucket, key=path, version=version)
    return columns.converted(rows, f"{address} version {version}"), read


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
