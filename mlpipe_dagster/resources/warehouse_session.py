"""Dagster's statements in a Snowflake session: totals of a batch, and the projection of publications."""

from __future__ import annotations

from collections.abc import Iterable, Sequence
from typing import Any

from prediction_contract.errors import ContractError
from prediction_contract.registry.records import PublicationEntry
from prediction_contract.registry.table import RegistryTable
from prediction_contract.rows.checksums import RowTally
from prediction_contract.rows.schema import PredictionSchema
from prediction_contract.stores.serving_record import ServingRecord
from prediction_contract.stores.warehouse_table import (
    ProjectedPublication,
    ProjectedSequences,
    WarehouseTable,
    count_projected,
    count_tables,
    create_publications,
    delete_batch,
    insert_publication,
    projected_gaps,
    publication_parameters,
    table_name,
)

# A publication takes seconds, and so does replacing the view.
_MAX_UPDATES = 10


class PublicationsMoveError(ContractError):
    """The live batch changed each time that Snowflake's view was updated."""


class WarehouseSession:
    """A Snowflake session.

    Args:
        connection: An open connection of the Snowflake connector.
    """

    def __init__(self, connection: Any) -> None:
        self._connection = connection

    def rows(self, statement: str) -> list[tuple[Any, ...]]:
        """Return the rows of a query without placeholders."""
        return self._query(statement)

    def batch_tally(self, model: str, schema: PredictionSchema, batch_id: str) -> RowTally:
        """Return the number of a batch's rows and their summed checksum in the model's table.

        Duplicate keys are counted once, so a batch with duplicates never adds up.
        """
        (row,) = self._query(WarehouseTable(model, schema).batch_totals(batch_id))
        rows, keys, checksum = (int(value) for value in row)
        return RowTally(rows=rows if rows == keys else keys, checksum=checksum)

    def has_predictions(self, model: str) -> bool:
        """Return whether the model's table of all batches exists."""
        ((count,),) = self._query(count_tables(), (table_name(model),))
        return bool(count)

    def delete_batch(self, model: str, batch_id: str) -> int:
        """Delete a batch from the model's table; return the number of deleted rows."""
        ((deleted,),) = self._query(delete_batch(model, batch_id))
        return int(deleted)

    def ensure_table(self, model: str, schema: PredictionSchema) -> None:
        """Create the model's table of all batches unless it exists."""
        self._query(WarehouseTable(model, schema).create())

    def follow(self, registry: RegistryTable, model: str, home_region: str) -> list[PublicationEntry]:
        """Update the live view and the projection from the registry; return the missing publications.

        The view is replaced first, so an up-to-date projection implies the right view. Another process may
        move the pointer and replace the view in the meantime, so this repeats until the registry has not
        changed.

        Raises:
            InvalidServingError: The live publication does not contain its batch's columns.
            PublicationsMoveError: The live batch changed each time that the view was replaced.
        """
        self._query(create_publications())
        added: list[PublicationEntry] = []
        live = live_publication(registry, model, home_region)
        for _ in range(_MAX_UPDATES):
            if live and live.serving:
                self._create_view(model, ServingRecord.from_json(live.serving).schema)
            missing = self.missing_publications(model, registry)
            self.project(model, missing)
            added += missing
            shown, live = live, live_publication(registry, model, home_region)
            if live == shown:
                return added
        raise PublicationsMoveError(
            f"The live batch changed during each of {_MAX_UPDATES} updates of Snowflake's live view",
            remedy="Find out who publishes so often; the sensor warehouse_projection updates the view later",
            model=model,
        )

    def _create_view(self, model: str, schema: PredictionSchema) -> None:
        self.ensure_table(model, schema)
        self._query(WarehouseTable(model, schema).create_view())

    def highest_projected(self, model: str) -> int:
        """Return the highest publication number in the projection; 0 if it is empty."""
        self._query(create_publications())
        return self._projected(model).highest

    def projected_count(self) -> dict[str, tuple[int, int]]:
        """Return, by model, the number of publications in the projection and the highest of their numbers."""
        self._query(create_publications())
        counted = self._query(count_projected())
        return {str(model): (int(count), int(highest)) for model, count, highest in counted}

    def missing_publications(self, model: str, registry: RegistryTable) -> list[PublicationEntry]:
        """Return the registry's entries that the projection lacks; only these are read."""
        self._query(create_publications())
        projected = self._projected(model)
        missing = [
            entry
            for before, after in projected.gaps
            for entry in registry.publications(model, after=before, up_to=after - 1)
        ]
        return missing + registry.publications(model, after=projected.highest)

    def project(self, model: str, entries: Iterable[PublicationEntry]) -> int:
        """Add publications that the projection lacks; return how many were added."""
        added = 0
        for entry in entries:
            ((rows,),) = self._query(
                insert_publication(),
                publication_parameters(
                    ProjectedPublication(
                        model,
                        entry.sequence,
                        entry.batch_id,
                        entry.partition,
                        entry.action,
                        entry.request_id,
                        entry.published_at,
                    )
                ),
            )
            added += int(rows)
        return added

    def _projected(self, model: str) -> ProjectedSequences:
        return ProjectedSequences.of_rows(self._query(projected_gaps(), (model,)))

    def _query(self, statement: str, parameters: Sequence[Any] = ()) -> list[tuple[Any, ...]]:
        with self._connection.cursor() as cursor:
            cursor.execute(statement, parameters or None)
            return cursor.fetchall()


def live_publication(registry: RegistryTable, model: str, home_region: str) -> PublicationEntry | None:
    """Return the publication that made home's live batch live; None if no batch is live.

    Holds and their releases have higher sequences, so it need not be the newest entry.
    """
    pointer = registry.pointer(model, home_region)
    record = registry.batch(model, pointer.batch_id) if pointer and pointer.batch_id else None
    return registry.publication(model, record.published_sequence or 0) if record else None
