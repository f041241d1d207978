"""The model's Delta table: its columns, and the tables that loaders refuse."""

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
# How long a data file stays that no longer is in the table, or never was. Delta's own default: whoever reads
# an older version of the table, by hand say, has so long to end.
VACUUM_AFTER = timedelta(days=7)

# The widest read protocol: Snowflake copies the table's files as plain Parquet, so nothing may be stored
# beside them. UTC-aware timestamps stay within it, naive ones would not.
HIGHEST_READER_VERSION = 1
HIGHEST_WRITER_VERSION = 2
_BACKTRACE = re.compile(r"\n\s*0: .*", re.DOTALL)
_COLOUR = re.compile("\x1b\\[[0-9;]*m")
_LONGEST_WORDS = 500
_REFUSED_SETTINGS = {"delta.enableDeletionVectors": {"", "false"}, "delta.columnMapping.mode": {"", "none"}}


def delta_columns(schema: PredictionSchema) -> dict[str, str]:
    """Return the table's columns and their Delta types: the schema's, then `batch_id` and `row_checksum`."""
    types = {column.name: column.type.delta for column in schema.columns}
    return types | {BATCH_COLUMN: "string", CHECKSUM_COLUMN: "long"}


def arrow_columns(schema: PredictionSchema) -> dict[str, str]:
    """Return the same columns and their Arrow types, by name; timestamps are `timestamp[us, tz=UTC]`."""
    types = {column.name: column.type.arrow for column in schema.columns}
    return types | {BATCH_COLUMN: "string", CHECKSUM_COLUMN: "int64"}


def delta_schema_json(schema: PredictionSchema) -> str:
    """Return the table's schema as Delta writes it.

    All columns are nullable: a row without key is written like any other, and quarantined when it is loaded.
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
    """Refuse a table whose files do not hold its rows as plain Parquet of this schema.

    Args:
        schema: The schema of the manifest.
        table_schema: The table's schema as Delta writes it, JSON text.
        reader_version: The table's minimum reader version.
        writer_version: The table's minimum writer version.
        partition_columns: The table's partition columns.
        settings: The table's configuration.

    Raises:
        SchemaError: The table must not be loaded; what and why is said.
    """
    if reader_version > HIGHEST_READER_VERSION or writer_version > HIGHEST_WRITER_VERSION:
        _refuse(
            f"needs reader {reader_version} and writer {writer_version}, and at most "
            f"{HIGHEST_READER_VERSION} and {HIGHEST_WRITER_VERSION} are loaded"
        )
    if partition_columns:
        names = ", ".join(sorted(partition_columns))[:200]
        _refuse(f"is partitioned by {names}: they would be missing from its files")
    for name, allowed in _REFUSED_SETTINGS.items():
        value = (settings.get(name) or "").lower()
        if value not in allowed:
            _refuse(f"has {name} = {value[:200]}")
    found = _column_types(table_schema)
    # Snowflake matches them without regard to case, and would take either.
    if len({name.lower() for name in found}) != len(found):
        _refuse("has columns whose names differ by case only")
    for name, wanted in delta_columns(schema).items():
        if found.get(name) != wanted:
            _refuse(f"has column {name} as {str(found.get(name))[:200]}, not {wanted}")


def changed_columns(schema: PredictionSchema, table_schema: str) -> dict[str, tuple[str, str]]:
    """Return the columns that a table has with another type: the table's and the wanted one, by name.

    Args:
        schema: The schema of the rows to be added.
        table_schema: As for `check_delta_table`.

    Raises:
        SchemaError: The table's schema cannot be read.
    """
    found = _column_types(table_schema)
    wanted = delta_columns(schema)
    return {
        name: (str(found[name]), kind)
        for name, kind in wanted.items()
        if name in found and found[name] != kind
    }


def deltalake_message(error: Exception) -> str:
    """Return what an error of the deltalake package says as one line, without backtrace and colours."""
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
