"""Checks entities: features have one row per entity, outcomes one row per partition and entity."""

# PyArrow creates its compute functions when it is imported, where no type checker sees them.
# pyright: reportAttributeAccessIssue=false

from __future__ import annotations

from collections.abc import Iterable, Sequence

import pyarrow as pa
import pyarrow.compute as pc

from prediction_batches.arrow_types import is_any_string
from prediction_contract.errors import ContractError, InvalidNameError
from prediction_contract.naming.batch import Partition

ENTITY = "entity_id"
PARTITION = "partition"
NAMED_KEYS = 5
_LONGEST_SHOWN = 80


class EntityRowsError(ContractError):
    """Features or outcomes have rows without an entity, or several rows of the same entity."""


def checked_features(
    table: pa.Table, partition: str, who: str, *, model: str, first_row: int = 0
) -> pa.Table:
    """Return features after checking that `entity_id` is a unique text and no column name is reserved.

    Args:
        table: The rows.
        partition: The partition of the features.
        who: The origin of the rows, with which error messages begin.
        model: The model's name.
        first_row: The number of rows before these, for errors.

    Raises:
        EntityRowsError: The rows are invalid; the error names column, rows or keys.
    """
    table = _with_texts(table, (ENTITY,), partition, who, model, first_row=first_row)
    if PARTITION in table.column_names:
        raise EntityRowsError(
            f"{who} returned a column {PARTITION} for {partition}; the platform adds this column itself",
            remedy="Give the column another name",
            model=model,
        )
    _check_once(table, (ENTITY,), partition, who, model)
    return table


def checked_outcomes(table: pa.Table, partition: str, who: str, *, model: str) -> pa.Table:
    """Return outcomes after checking that they have one row per partition and entity.

    Arguments and errors are as in `checked_features`.
    """
    table = with_partitions(table, partition, who, model=model)
    table = _with_texts(table, (ENTITY,), partition, who, model)
    _check_once(table, (PARTITION, ENTITY), partition, who, model)
    return table


def with_partitions(table: pa.Table, partition: str, who: str, *, model: str) -> pa.Table:
    """Return rows after checking that each has a partition of the same kind as `partition`.

    Arguments and errors are as in `checked_features`.
    """
    table = _with_texts(table, (PARTITION,), partition, who, model)
    for named in pc.unique(table[PARTITION]).to_pylist():
        if not _is_same_kind(named, partition):
            raise EntityRowsError(
                f"{who} returned partition {named[:_LONGEST_SHOWN]!r} for {partition}, which is not a "
                "partition of the same kind",
                remedy=f"Write the partition of each row in the form of {partition}",
                model=model,
            )
    return table


def _is_same_kind(named: str, partition: str) -> bool:
    try:
        return len(Partition(named)) == len(partition)
    except InvalidNameError:
        return False


def _with_texts(
    table: pa.Table, names: Sequence[str], partition: str, who: str, model: str, *, first_row: int = 0
) -> pa.Table:
    """Return the table after checking that these columns have a text in each row."""
    for name in names:
        if name not in table.column_names:
            columns = ", ".join(table.column_names) or "none"
            raise EntityRowsError(
                f"{who} returned no column {name} for {partition}; its columns are {columns}"[:400],
                remedy=f"Return {name} as a column of texts",
                model=model,
            )
        column = table[name]
        # A column of a table without rows may have no type.
        if not is_any_string(column.type) and column.null_count < len(column):
            raise EntityRowsError(
                f"{who} returned column {name} for {partition} as {column.type}, not as text",
                remedy=f"Return {name} as a column of texts",
                model=model,
            )
        if column.null_count:
            row = first_row + pc.index(pc.is_null(column), value=True).as_py() + 1
            raise EntityRowsError(
                f"{who} returned {column.null_count} rows without {name} for {partition}; the first is row "
                f"{row}",
                remedy="Leave these rows out, or fill in the column",
                model=model,
            )
        if not is_any_string(column.type):
            table = table.set_column(
                table.column_names.index(name), name, pa.chunked_array([], type=pa.large_string())
            )
    return table


def _check_once(table: pa.Table, names: Sequence[str], partition: str, who: str, model: str) -> None:
    counted = table.select(list(names)).group_by(list(names)).aggregate([([], "count_all")])
    duplicates = counted.filter(pc.greater(counted["count_all"], 1))
    if not duplicates.num_rows:
        return
    keys = [
        " of ".join(quoted_key(row[name]) for name in reversed(names))
        for row in duplicates.select(list(names)).slice(0, NAMED_KEYS).to_pylist()
    ]
    more = duplicates.num_rows - NAMED_KEYS
    raise duplicate_entities_error(who, partition, keys, f" and {more} more" if more > 0 else "", model)


def quoted_key(key: str) -> str:
    """Return a key for an error message, quoted and shortened."""
    return repr(key[:_LONGEST_SHOWN])


def duplicate_entities_error(
    who: str, partition: str, keys: Iterable[str], more: str, model: str
) -> EntityRowsError:
    """Return the error for several rows of the same entity.

    Args:
        who: The origin of the rows, with which error messages begin.
        partition: The partition for which the rows were made.
        keys: Some of the keys, quoted.
        more: The text after these keys, such as ` and 3 more`; may be empty.
        model: The model's name.
    """
    return EntityRowsError(
        f"{who} returned several rows for {partition} of {', '.join(keys)}{more}",
        remedy="Return one row for each entity",
        model=model,
    )
