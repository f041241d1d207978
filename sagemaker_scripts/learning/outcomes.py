"""Joins predictions with their actual outcomes, and passes them to the next partition's predictions."""

# pandas' annotations type every column as "Series | DataFrame". PyArrow creates its compute functions when it
# is imported.
# pyright: reportArgumentType=false, reportReturnType=false, reportAttributeAccessIssue=false

from __future__ import annotations

from collections.abc import Iterable
from typing import Any, NamedTuple

import pandas as pd
import pyarrow as pa
import pyarrow.compute as pc

from prediction_contract.errors import ContractError
from prediction_contract.text.canonical_json import canonical_json
from sagemaker_scripts.functions.entity_rows import ENTITY, PARTITION
from sagemaker_scripts.functions.function_calls import ModelFunctions
from sagemaker_scripts.tables.given_tables import pandas_table

# Tables of Polars and Arrow have no attributes like a DataFrame of pandas, so this column holds the
# partition.
PREVIOUS_PARTITION = "previous_partition"
_OUTCOME_KEY = [PARTITION, ENTITY]


class OutcomesError(ContractError):
    """Outcomes cannot be joined with predictions."""


class PreparedTables(NamedTuple):
    """The prepared data of one partition.

    Attributes:
        features: The features, one row per entity.
        outcomes: The outcomes of earlier partitions' entities known when it began; None for a model without
            outcomes.
    """

    features: pa.Table
    outcomes: pa.Table | None


class ScoredPartition(NamedTuple):
    """The predictions of one partition.

    Attributes:
        partition: The partition.
        predictions: The predictions, in the form of `entity_frame`.
    """

    partition: str
    predictions: pd.DataFrame


def joined_tables(tables: Iterable[pa.Table], what: str) -> pa.Table:
    """Concatenate tables, with each column in the widest of its types.

    Args:
        tables: At least one table.
        what: A description of the tables, with which error messages begin.

    Raises:
        OutcomesError: A column's types in different tables have no common type.
    """
    found = list(tables)
    # Tables without rows do not count, because their columns may have any type or none.
    found = [table for table in found if table.num_rows] or found[:1]
    try:
        return pa.concat_tables(found, promote_options="permissive")
    except (pa.ArrowTypeError, pa.ArrowInvalid) as error:
        types: dict[str, dict[str, None]] = {}
        for table in found:
            for field in table.schema:
                types.setdefault(field.name, {})[str(field.type)] = None
        several = "; ".join(
            f"{name} is {' and '.join(kinds)}" for name, kinds in types.items() if len(kinds) > 1
        )
        raise OutcomesError(
            f"{what} have columns of several types: {several[:400]}",
            remedy="Return each column with the same type in all partitions, then prepare the features again",
        ) from error


def newest_outcomes(tables: Iterable[pa.Table]) -> pa.Table:
    """Return the newest outcome of each partition's entities; the tables come oldest first.

    Memory holds at most one table and twice the result, if the tables are read one after another.
    """
    held: list[pa.Table] = []
    known = unmerged = 0
    for table in tables:
        held.append(table)
        unmerged += table.num_rows
        if unmerged > known:
            held = [_newest(held)]
            known, unmerged = held[0].num_rows, 0
    return _newest(held)


def _newest(tables: list[pa.Table]) -> pa.Table:
    whole = joined_tables(tables, "The outcomes")
    repeated = whole.select(_OUTCOME_KEY).to_pandas().duplicated(keep="last")
    return whole.filter(pa.array(~repeated.to_numpy()))


def of_partitions(outcomes: pa.Table, partitions: Iterable[str]) -> pa.Table:
    """Return the outcomes of these partitions."""
    # A column of a table without rows may have no type.
    if not outcomes.num_rows:
        return outcomes
    named = pa.array([str(each) for each in partitions], pa.large_string())
    return outcomes.filter(pc.is_in(outcomes[PARTITION].cast(pa.large_string()), value_set=named))


def with_outcomes(rows: pa.Table, outcomes: pa.Table, partition: str) -> pa.Table:
    """Return the rows of a partition whose outcome is known, in their order, joined with the outcome.

    Args:
        rows: The rows, with `entity_id`.
        outcomes: The outcomes of any partitions.
        partition: The partition of the rows.

    Raises:
        OutcomesError: Rows and outcomes share a column other than `partition` and `entity_id`.
    """
    places, found = _found_outcomes(rows[ENTITY], rows.column_names, outcomes, partition)
    joined = rows.filter(pc.is_valid(places))
    for name in found.column_names:
        joined = joined.append_column(found.schema.field(name), found[name])
    return joined


def _found_outcomes(
    entities: pa.Array | pa.ChunkedArray, columns: Iterable[str], outcomes: pa.Table, partition: str
) -> tuple[pa.Array | pa.ChunkedArray, pa.Table]:
    """Return a value for each entity, null without a known outcome, and the outcomes that were found."""
    known = of_partitions(outcomes, [partition])
    own = [name for name in known.column_names if name not in _OUTCOME_KEY]
    _refuse_shared(columns, own)
    if not known.num_rows:
        return pa.nulls(len(entities), pa.int32()), known.select(own)
    value_set = known[ENTITY].cast(pa.large_string()).combine_chunks()
    places = pc.index_in(entities.cast(pa.large_string()), value_set=value_set)
    return places, known.select(own).take(places.drop_null())


def with_known_outcomes(scored: ScoredPartition, outcomes: pa.Table | None) -> pd.DataFrame:
    """Return the predictions of a partition whose outcome is known, joined with the outcome.

    If `outcomes` is None, all predictions are returned. `partition` is an attribute of the DataFrame instead
    of a column, because a model may have a column of this name.

    Raises:
        OutcomesError: An outcome has the name of a predicted column.
    """
    rows = scored.predictions.copy(deep=False)
    if outcomes is not None:
        entities = _arrow_column(rows[ENTITY])
        places, found = _found_outcomes(entities, rows.columns, outcomes, scored.partition)
        rows = rows[places.is_valid().to_numpy(zero_copy_only=False)].reset_index(drop=True)
        rows = pd.concat([rows, pandas_table(found)], axis="columns")
    rows.attrs["partition"] = str(scored.partition)
    return rows


def _refuse_shared(columns: Iterable[str], outcomes: Iterable[str]) -> None:
    # pandas would rename both columns, and the model would not find them.
    shared = sorted(set(columns) & set(outcomes))
    if shared:
        raise OutcomesError(
            f"The outcomes share columns with the rows that they are joined with: {', '.join(shared)}",
            remedy="Rename these columns in the model's outcomes function",
        )


def previous_table(scored: ScoredPartition, outcomes: pa.Table | None) -> pa.Table:
    """Return the result of `with_known_outcomes` as an Arrow table, for functions without pandas.

    The column `previous_partition` holds the partition. Values of `json` columns are JSON.

    Raises:
        OutcomesError: An outcome has the name of a predicted column, or a predicted column is named
            `previous_partition`.
    """
    frame = scored.predictions
    if PREVIOUS_PARTITION in frame.columns:
        raise OutcomesError(
            f"The predictions have a column {PREVIOUS_PARTITION}; the platform adds this column to the "
            "previous batch",
            remedy="Give the column another name in the model's defs.yaml and predict function",
        )
    table = pa.table({name: _arrow_column(frame[name]) for name in frame.columns})
    if outcomes is not None:
        table = with_outcomes(table, outcomes, scored.partition)
    partition = pa.array([str(scored.partition)] * table.num_rows, pa.large_string())
    return table.append_column(PREVIOUS_PARTITION, partition)


def _arrow_column(values: pd.Series) -> pa.Array:
    # Only `json` columns have Python objects.
    if values.dtype == object:
        texts = [None if value is None else canonical_json(value) for value in values]
        return pa.array(texts, pa.string())
    array = pa.Array.from_pandas(values)
    return array.combine_chunks() if isinstance(array, pa.ChunkedArray) else array


def of_entities(scored: ScoredPartition, entities: pa.ChunkedArray) -> ScoredPartition:
    """Return the predictions of these entities, in the order of `entities`."""
    predicted = _arrow_column(scored.predictions[ENTITY]).cast(pa.large_string())
    places = pc.index_in(entities.cast(pa.large_string()), value_set=predicted).drop_null()
    return ScoredPartition(scored.partition, scored.predictions.take(places).reset_index(drop=True))


def predictions_of(
    functions: ModelFunctions,
    partition: str,
    prepared: PreparedTables,
    artifact: Any,
    previous: ScoredPartition | None,
) -> pd.DataFrame:
    """Return a model's predictions; scoring, evaluation and trials all use this function.

    Scoring calls it with chunks of features. A model receives the previous batch's rows only for the entities
    of the chunk; a model that declares `whole` receives the whole previous batch.

    Args:
        functions: The model's functions.
        partition: The partition.
        prepared: All or some of its features, and the outcomes of these entities known when it begins.
        artifact: The trained model.
        previous: The previous batch, or its rows of these entities; None if there is none.

    Raises:
        OutcomesError: An outcome has the name of a predicted column.
        FunctionError: The function `predict` is missing or failed.
        ReturnedTableError: `predict` did not return a table.
    """
    known: pd.DataFrame | pa.Table | None = None
    if previous is not None:
        if not functions.inputs.whole:
            previous = of_entities(previous, prepared.features[ENTITY])
        join = with_known_outcomes if functions.inputs.tables == "pandas" else previous_table
        known = join(previous, prepared.outcomes)
    return functions.predict(prepared.features, artifact, known, partition=partition)
