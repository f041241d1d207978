"""The features of a partition, made of its sources by the model's functions or taken as they are."""

# PyArrow makes its compute functions while it is imported, where no type checker sees them.
# pyright: reportAttributeAccessIssue=false

from __future__ import annotations

import pyarrow as pa
import pyarrow.compute as pc

from prediction_contract.jobs.model_inputs import ModelInputs
from sagemaker_scripts.features.feature_store import PreparedPartition
from sagemaker_scripts.functions.entity_rows import (
    ENTITY,
    PARTITION,
    EntityRowsError,
    checked_features,
    with_partitions,
)
from sagemaker_scripts.functions.function_calls import ModelFunctions
from sagemaker_scripts.sources.source_tables import SourceTables


def prepared_partition(inputs: ModelInputs, sources: SourceTables, partition: str) -> PreparedPartition:
    """Return the features of a partition, and what is known of earlier ones when it begins.

    Args:
        inputs: The model's.
        sources: Its sources.
        partition: Not before the one that these sources were asked for last.

    Raises:
        ContractError: A source is missing or wrong, a function failed, or rows do not name their entities.
    """
    functions = ModelFunctions(inputs)
    tables, reads = sources.read(partition)
    if inputs.prepared is None:
        features = functions.features(partition, tables)
    else:
        features = _as_features(tables[inputs.prepared], inputs, partition)
    outcomes = functions.outcomes(partition, tables) if inputs.outcomes else None
    return PreparedPartition(features, outcomes, [each.to_document() for each in reads])


def _as_features(rows: pa.Table, inputs: ModelInputs, partition: str) -> pa.Table:
    """Return a source's rows of a partition as features: the key renamed, everything else as it is."""
    who, key = f"Source {inputs.prepared}", str(inputs.entity)
    if key not in rows.column_names:
        raise EntityRowsError(
            f"{who} has no column {key}, which is declared as the key of the features",
            remedy="Correct the key of features in defs.yaml",
            model=inputs.model,
        )
    if key != ENTITY and ENTITY in rows.column_names:
        raise EntityRowsError(
            f"{who} has a column {ENTITY} beside the key {key}, which gets this name",
            remedy="Declare the source's columns in defs.yaml without it, or take it for the key",
            model=inputs.model,
        )
    if PARTITION in rows.column_names:
        rows = with_partitions(rows, partition, who, model=inputs.model)
        rows = rows.filter(pc.equal(rows[PARTITION], str(partition))).drop_columns(PARTITION)
    place = rows.column_names.index(key)
    entities = rows[key]
    if pa.types.is_integer(entities.type):
        # A number names an entity as its digits.
        entities = entities.cast(pa.large_string())
    return checked_features(rows.set_column(place, ENTITY, entities), partition, who, model=inputs.model)
