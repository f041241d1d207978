"""Rows of a source that are features as they are: the key renamed, everything else unchanged."""

# PyArrow makes its compute functions while it is imported, where no type checker sees them.
# pyright: reportAttributeAccessIssue=false

from __future__ import annotations

from dataclasses import dataclass

import pyarrow as pa
import pyarrow.compute as pc

from sagemaker_scripts.functions.entity_rows import (
    ENTITY,
    PARTITION,
    EntityRowsError,
    checked_features,
    with_partitions,
)


@dataclass(frozen=True)
class SourceRows:
    """What makes features of a source's rows.

    Attributes:
        source: The source's name.
        entity: The column that names the entity.
        partition: Whose features the rows are.
        model: The model's name.
    """

    source: str
    entity: str
    partition: str
    model: str

    @property
    def who(self) -> str:
        """What gave the rows, to begin a sentence with."""
        return f"Source {self.source}"

    def features(self, rows: pa.Table, first_row: int = 0) -> pa.Table:
        """Return the features that rows are; rows that name another partition are left out.

        Args:
            rows: As they were read, those alone that were known.
            first_row: How many features came before these, for errors.

        Raises:
            EntityRowsError: The rows do not name each entity once.
        """
        if self.entity not in rows.column_names:
            raise EntityRowsError(
                f"{self.who} has no column {self.entity}, which is declared as the key of the features",
                remedy="Correct the key of features in defs.yaml",
                model=self.model,
            )
        if self.entity != ENTITY and ENTITY in rows.column_names:
            raise EntityRowsError(
                f"{self.who} has a column {ENTITY} beside the key {self.entity}, which gets this name",
                remedy="Declare the source's columns in defs.yaml without it, or take it for the key",
                model=self.model,
            )
        if PARTITION in rows.column_names:
            rows = with_partitions(rows, self.partition, self.who, model=self.model)
            rows = rows.filter(pc.equal(rows[PARTITION], self.partition)).drop_columns(PARTITION)
        entities = rows[self.entity]
        if pa.types.is_integer(entities.type):
            # A number names an entity as its digits.
            entities = entities.cast(pa.large_string())
        rows = rows.set_column(rows.column_names.index(self.entity), ENTITY, entities)
        return checked_features(rows, self.partition, self.who, model=self.model, first_row=first_row)


def with_partition(features: pa.Table, partition: str) -> pa.Table:
    """Return features with their partition as the last column."""
    values = pa.repeat(pa.scalar(str(partition), pa.large_string()), features.num_rows)
    return features.append_column(PARTITION, values)
