"""Uses a source's rows as features: renames the key and leaves everything else unchanged."""

# PyArrow creates its compute functions when it is imported, where no type checker sees them.
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
    """The conversion of a source's rows to features.

    Attributes:
        source: The source's name.
        entity: The column with the entity's key.
        partition: The partition of the features.
        model: The model's name.
    """

    source: str
    entity: str
    partition: str
    model: str

    @property
    def who(self) -> str:
        """The origin of the rows, with which error messages begin."""
        return f"Source {self.source}"

    def features(self, rows: pa.Table, first_row: int = 0) -> pa.Table:
        """Convert rows to features; rows whose column `partition` names another one are left out.

        Args:
            rows: The source's rows that were known when the partition began.
            first_row: The number of features before these, for errors.

        Raises:
            EntityRowsError: A row has no entity, or an entity has several rows.
        """
        if self.entity not in rows.column_names:
            raise EntityRowsError(
                f"{self.who} has no column {self.entity}, which is declared as the key of the features",
                remedy="Correct the key of features in defs.yaml",
                model=self.model,
            )
        if self.entity != ENTITY and ENTITY in rows.column_names:
            raise EntityRowsError(
                f"{self.who} has a column {ENTITY}, but its key {self.entity} is renamed to this",
                remedy="Leave the column out of the source's columns in defs.yaml, or declare it as the key",
                model=self.model,
            )
        if PARTITION in rows.column_names:
            rows = with_partitions(rows, self.partition, self.who, model=self.model)
            rows = rows.filter(pc.equal(rows[PARTITION], self.partition)).drop_columns(PARTITION)
        entities = rows[self.entity]
        if pa.types.is_integer(entities.type):
            # The key of a number is its digits.
            entities = entities.cast(pa.large_string())
        rows = rows.set_column(rows.column_names.index(self.entity), ENTITY, entities)
        return checked_features(rows, self.partition, self.who, model=self.model, first_row=first_row)


def with_partition(features: pa.Table, partition: str) -> pa.Table:
    """Return features with their partition as the last column."""
    values = pa.repeat(pa.scalar(str(partition), pa.large_string()), features.num_rows)
    return features.append_column(PARTITION, values)
