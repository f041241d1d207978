"""A model's Delta table: its columns, and the checks before a load."""

from __future__ import annotations

import json
import re
from datetime import timedelta
from typing import TYPE_CHECKING, Any

from prediction_contract.errors import SchemaError

if TYPE_CHECKING:
    from collections.abc import Collection, Mapping

    from prediction_contract.rows.schema import PredictionSchema

BATCH_COLUMN = "batch_id"
CHECKSUM_COLUMN = "row_checksum"
# How long a data file is kept after it left the table, or if it was never added. This is Delta's default, and
# gives readers of an older table version time to finish.
VACUUM_AFTER = timedelta(days=7)

# Snowflake copies the table's files as plain Parquet, so no Delta feature may store data outside them. This
# protocol has none. It covers timestamps in UTC but not timestamps without a zone.
HIGHEST_READER_VERSION = 1
HIGHEST_WRITER_VERSION = 2
_BACKTRACE = re.compile(r"\n\s*0: .*", re.DOTALL)
_COLOUR = re.compile("\x1b\\[[0-9;]*m")
_LONGEST_WORDS = 500
_REFUSED_SETTINGS = {"delta.enableDeletionVectors": {"", "false"}, "delta.columnMapping.mode": {"", "none"}}


def delta_columns(schema: PredictionSchema) -> dict[str, str]:
    """Return the Delta type of each column: the schema's columns, then `batch_id` and `row_checksum`."""
    types = {column.name: column.type.delta for column in schema.columns}
    return types | {BATCH_COLUMN: "string", CHECKSUM_COLUMN: "long"}


def arrow_columns(schema: PredictionSchema) -> dict[str, str]:
    """Return the Arrow type of each column in `delta_columns`. Timestamps are `timestamp[us, tz=UTC]`."""
    types = {column.name: column.type.arrow for column in schema.columns}
    return types | {BATCH_COLUMN: "string", CHECKSUM_COLUMN: "int64"}


def delta_schema_json(schema: PredictionSchema) -> str:
    """Return the table's schema in Delta's JSON form.

    All columns are nullable, because a row without a key is also written, and is quarantined by the load.
    """
    fields = [
        {"name": name, "type": kind, "nullable": True, "metadata": {}}
        for name, kind in delta_columns(schema).items()
    ]
    return json.dumps({"type": "struct", "fields": fields})


def check_delta_table(
    schema: PredictionSchema,
    *,
    table_schema: str,
    reader_version: int,
    writer_version: int,
    partition_columns: Collection[str],
    settings: Mapping[str, str | None],
) -> None:
    """Refuse a table that is not plain Parquet with this schema, for example one with deletion vectors.

    Args:
        schema: The schema of the manifest.
        table_schema: The table's schema in Delta's JSON form.
        reader_version: The table's minimum reader version.
        writer_version: The table's minimum writer version.
        partition_columns: The table's partition columns.
        settings: The table's configuration.

    Raises:
        SchemaError: The table must not be loaded; the message says why.
    """
    if reader_version > HIGHEST_READER_VERSION or writer_version > HIGHEST_WRITER_VERSION:
        _refuse(
            f"needs reader {reader_version} and writer {writer_version}, but at most "
            f"{HIGHEST_READER_VERSION} and {HIGHEST_WRITER_VERSION} are supported"
        )
    if partition_columns:
        names = ", ".join(sorted(partition_columns))[:200]
        _refuse(f"is partitioned by {names}, so its files lack these columns")
    for name, allowed in _REFUSED_SETTINGS.items():
        value = (settings.get(name) or "").lower()
        if value not in allowed:
            _refuse(f"has {name} = {value[:200]}")
    found = _column_types(table_schema)
    # Snowflake ignores case when it matches columns, and could take either one.
    if len({name.lower() for name in found}) != len(found):
        _refuse("has columns whose names differ only in case")
    for name, wanted in delta_columns(schema).items():
        if found.get(name) != wanted:
            _refuse(f"has column {name} as {str(found.get(name))[:200]}, not {wanted}")


def changed_columns(schema: PredictionSchema, table_schema: str) -> dict[str, tuple[str, str]]:
    """Return the columns whose type differs, each with the table's type and the wanted type.

    Args:
        schema: The schema of the rows to be added.
        table_schema: The table's schema in Delta's JSON form.

    Raises:
        SchemaError: The table's schema is unreadable.
    """
    found = _column_types(table_schema)
    wanted = delta_columns(schema)
    return {
        name: (str(found[name]), kind)
        for name, kind in wanted.items()
        if name in found and found[name] != kind
    }


def deltalake_message(error: Exception) -> str:
    """Return the message of a deltalake error in one line, without backtrace and colours."""
    lines = _COLOUR.sub("", _BACKTRACE.sub("", str(error))).splitlines()
    parts = [line.strip().removeprefix("↳").strip() for line in lines]
    return ": ".join(line.removeprefix("Kernel error: ") for line in parts if line)[:_LONGEST_WORDS]


def _column_types(table_schema: str) -> dict[str, Any]:
    try:
        return {column["name"]: column["type"] for column in json.loads(table_schema)["fields"]}
    except (ValueError, TypeError, KeyError) as error:
        raise SchemaError(
            "The Delta table's schema cannot be read", remedy="Write the table with the platform's own writer"
        ) from error


def _refuse(what: str) -> None:
    raise SchemaError(f"The Delta table {what}", remedy="Create it with the platform's own writer")
