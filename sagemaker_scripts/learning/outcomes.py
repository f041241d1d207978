"""What became of predictions: how outcomes are joined with them, and how the next partition is corrected."""

# pandas' own annotations call every column "Series | DataFrame".
# PyArrow makes its compute functions when it is imported.
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

# Tables of Polars and Arrow have no attributes to tell it by, as pandas' have.
PREVIOUS_PARTITION = "previous_partition"
_OUTCOME_KEY = [PARTITION, ENTITY]


class OutcomesError(ContractError):
    """Outcomes cannot be joined with what was predicted."""


class PreparedTables(NamedTuple):
    """What was prepared for one partition.

    Attributes:
        features: One row per entity.
        outcomes: What was known of earlier partitions' entities when it began, as far as the model has any.
    """

    features: pa.Table
    outcomes: pa.Table | None


class ScoredPartition(NamedTuple):
    """The predictions of one partition.

    Attributes:
        partition: The partition.
        predictions: Its rows as `entity_frame` gives them.
    """

    partition: str
    predictions: pd.DataFrame


def joined_tables(tables: Iterable[pa.Table], what: str) -> pa.Table:
    """Return the rows of tables one after the other, their columns in the widest of their types.

    Args:
        tables: At least one.
        what: What they hold, to begin a sentence with.

    Raises:
        OutcomesError: A column has types that no type holds all values of.
    """
    found = list(tables)
    # A table without rows has columns of any type, or of none.
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
            remedy="Return each column in one type for all partitions, and prepare the features again",
        ) from error


def newest_outcomes(tables: Iterable[pa.Table]) -> pa.Table:
    """Return what is known of each entity, given tables of outcomes of which later ones know more.

    Of tables that are read one after the other, no more is held than twice what is returned and one table.
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
    """Return the outcomes of some partitions."""
    # A table without rows may have a column of no type.
    if not outcomes.num_rows:
        return outcomes
    named = pa.array([str(each) for each in partitions], pa.large_string())
    return outcomes.filter(pc.is_in(outcomes[PARTITION].cast(pa.large_string()), value_set=named))


def with_outcomes(rows: pa.Table, outcomes: pa.Table, partition: str) -> pa.Table:
    """Return the rows of a partition whose outcome is known, in their order, joined with it.

    Args:
        rows: Named by `entity_id`.
        outcomes: Of any partitions.
        partition: Whose rows these are.

    Raises:
        OutcomesError: They share another column.
    """
    places, found = _found_outcomes(rows[ENTITY], rows.column_names, outcomes, partition)
    joined = rows.filter(pc.is_valid(places))
    for name in found.column_names:
        joined = joined.append_column(found.schema.field(name), found[name])
    return joined


def _found_outcomes(
    entities: pa.Array | pa.ChunkedArray, columns: Iterable[str], outcomes: pa.Table, partition: str
) -> tuple[pa.Array | pa.ChunkedArray, pa.Table]:
    """Return for each entity of a partition a number, null if no outcome is known, and the outcomes found."""
    known = of_partitions(outcomes, [partition])
    own = [name for name in known.column_names if name not in _OUTCOME_KEY]
    _refuse_shared(columns, own)
    if not known.num_rows:
        return pa.nulls(len(entities), pa.int32()), known.select(own)
    value_set = known[ENTITY].cast(pa.large_string()).combine_chunks()
    places = pc.index_in(entities.cast(pa.large_string()), value_set=value_set)
    return places, known.select(own).take(places.drop_null())


def with_known_outcomes(scored: ScoredPartition, outcomes: pa.Table | None) -> pd.DataFrame:
    """Return the predictions of a partition whose outcome is known, joined with it.

    Without outcomes all predictions are returned. `partition` is an attribute of the DataFrame and no column:
    a model may have a column of that name.

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
    # pandas would rename both columns, and the model would find neither.
    shared = sorted(set(columns) & set(outcomes))
    if shared:
        raise OutcomesError(
            f"The outcomes have columns of the rows that they are joined with: {', '.join(shared)}",
            remedy="Give the outcome columns of the model's outcomes function other names",
        )


def previous_table(scored: ScoredPartition, outcomes: pa.Table | None) -> pa.Table:
    """Return what `with_known_outcomes` does as an Arrow table, for functions that take no pandas.

    The partition stands in the column `previous_partition`, and values of `json` columns are JSON.

    Raises:
        OutcomesError: An outcome has the name of a predicted column, or a predicted column is named so.
    """
    frame = scored.predictions
    if PREVIOUS_PARTITION in frame.columns:
        raise OutcomesError(
            f"The predictions have a column {PREVIOUS_PARTITION}, which tells predict the partition",
            remedy="Give the column another name in the model's defs.yaml and predict function",
        )
    table = pa.table({name: _arrow_column(frame[name]) for name in frame.columns})
    if outcomes is not None:
        table = with_outcomes(table, outcomes, scored.partition)
    told = pa.array([str(scored.partition)] * table.num_rows, pa.large_string())
    return table.append_column(PREVIOUS_PARTITION, told)


def _arrow_column(values: pd.Series) -> pa.Array:
    # Only `json` columns hold Python values.
    if values.dtype == object:
        texts = [None if value is None else canonical_json(value) for value in values]
        return pa.array(texts, pa.string())
    array = pa.Array.from_pandas(values)
    return array.combine_chunks() if isinstance(array, pa.ChunkedArray) else array


def of_entities(scored: ScoredPartition, entities: pa.ChunkedArray) -> ScoredPartition:
    """Return the predictions of some entities, in the order of these."""
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
    """Return a model's predictions, as scoring, evaluation and trials make them alike.

    Of the previous batch a model is given the entities that it is given features of: scoring hands it chunks
    of them. A model that declares `whole` is given all of it.

    Args:
        functions: The model's own part.
        partition: The partition.
        prepared: Its features or some of them, and what is known of these entities of earlier partitions when
            it begins.
        artifact: The trained model.
        previous: The previous batch, or what it holds of these entities; None if there is none.

    Raises:
        OutcomesError: An outcome has the name of a predicted column.
        FunctionError: The function `predict` is missing or failed.
        ReturnedTableError: It returned no table.
    """
    known: pd.DataFrame | pa.Table | None = None
    if previous is not None:
        if not functions.inputs.whole:
            previous = of_entities(previous, prepared.features[ENTITY])
        join = with_known_outcomes if functions.inputs.tables == "pandas" else previous_table
        known = join(previous, prepared.outcomes)
    return functions.predict(prepared.features, artifact, known, partition=partition)
