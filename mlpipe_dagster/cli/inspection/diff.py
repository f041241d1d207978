"""`mlpipe diff`: shows the differences between two batches of a model."""

from __future__ import annotations

import argparse
from collections.abc import Sequence
from dataclasses import dataclass
from typing import Any

from mlpipe_dagster.cli.command_output import CommandResult, Fields, Table
from mlpipe_dagster.cli.deployment_access import DeploymentAccess, WarehouseQueries
from mlpipe_dagster.cli.inspection.batch_comparison import (
    COLUMNS_PER_QUERY,
    BatchComparison,
    comparable_columns,
    schema_difference,
    value_documents,
)
from mlpipe_dagster.cli.inspection.batch_documents import package_version
from mlpipe_dagster.cli.options import Commands, add_command, add_model
from mlpipe_dagster.done_files.registration import registered_manifest
from prediction_contract.cleaning.cleaning_rules import recorded_cleaning
from prediction_contract.manifests.manifest import Manifest
from prediction_contract.registry.records import BatchRecord, LoadState
from prediction_contract.rows.schema import PredictionSchema
from prediction_contract.stores.warehouse_table import WarehouseTable

_SAMPLE = 10
_SIDES = ("before", "after")


def add_to(commands: Commands) -> None:
    """Add the command."""
    command = add_command(commands, "diff", diff)
    add_model(command)
    command.add_argument("before", metavar="batch_A", help="the earlier batch")
    command.add_argument("after", metavar="batch_B", help="the later batch")
    command.add_argument(
        "--entities", type=int, default=_SAMPLE, metavar="N", help=f"keys to show; by default {_SAMPLE}"
    )


def diff(options: argparse.Namespace, access: DeploymentAccess) -> CommandResult:
    """Compare two batches: schema, rows, entities, and the values of each column."""
    model = options.model
    before, after = (_compared(access, model, batch_id) for batch_id in (options.before, options.after))
    document: dict[str, Any] = {
        "model": model,
        "before": _side(before),
        "after": _side(after),
        "schema": schema_difference(before.schema, after.schema),
        "entities": None,
        "columns": None,
    }
    with access.warehouse() as session:
        notes = _count(session, document, (before, after))
        if not notes:
            sensitive = access.sensitive_columns(model)
            if sensitive is not None:
                sensitive = before.stored_names(sensitive) | after.stored_names(sensitive)
            comparison = BatchComparison(WarehouseTable(model, after.schema), options.before, options.after)
            document |= _rows(session, comparison, before.schema, sensitive, most=max(options.entities, 0))
    return CommandResult(document=document, sections=_sections(document), ok=not notes, notes=notes)


@dataclass(frozen=True, slots=True)
class _Compared:
    """One of the two batches, with its stored schema."""

    record: BatchRecord
    manifest: Manifest
    schema: PredictionSchema

    def stored_names(self, names: frozenset[str]) -> frozenset[str]:
        """Return the stored names of these columns of the manifest."""
        return recorded_cleaning(self.record.cleaning).stored_names(self.manifest.schema, names)


def _compared(access: DeploymentAccess, model: str, batch_id: str) -> _Compared:
    record = access.registered_batch(model, batch_id)
    manifest = registered_manifest(access.bucket, record)
    return _Compared(record, manifest, recorded_cleaning(record.cleaning).stored_schema(manifest.schema))


def _side(batch: _Compared) -> dict[str, Any]:
    return {
        "batch_id": batch.record.batch_id,
        "partition": batch.record.partition,
        "load_state": batch.record.load_state,
        "release_state": batch.record.release_state,
        "model_version": batch.manifest.model_version,
        "model_package_version": package_version(batch.manifest),
        "code_version": batch.manifest.code_version,
        "rows_promised": batch.manifest.row_count,
        "rows_in_warehouse": None,
    }


def _count(session: WarehouseQueries, document: dict[str, Any], compared: Sequence[_Compared]) -> list[str]:
    """Count both batches' rows in the warehouse; return a note for each batch that is not there."""
    model = document["model"]
    has_table = session.has_predictions(model)
    notes = []
    for side, batch in zip(_SIDES, compared, strict=True):
        batch_id, state = batch.record.batch_id, batch.record.load_state
        rows = session.batch_tally(model, batch.schema, batch_id).rows if has_table else 0
        document[side]["rows_in_warehouse"] = rows
        if rows == 0 and batch.manifest.row_count:
            is_gone = state == LoadState.RETIRED
            notes.append(
                f"{model}/{batch_id} {'has left' if is_gone else 'is not in'} the warehouse (it is {state}): "
                "only the manifests are compared. "
                + (
                    "A retired batch cannot be loaded again."
                    if is_gone
                    else "`mlpipe load` loads it from S3."
                )
            )
    return notes


def _rows(
    session: WarehouseQueries,
    comparison: BatchComparison,
    before: PredictionSchema,
    sensitive: frozenset[str] | None,
    *,
    most: int,
) -> dict[str, Any]:
    """Return the members `entities` and `columns` of the document."""
    schema = comparison.table.schema
    ((old, new, common),) = session.rows(comparison.entities())
    entities: dict[str, Any] = {"before": int(old), "after": int(new), "common": int(common)}
    entities |= {"added": int(new) - int(common), "gone": int(old) - int(common)}
    keys_may_be_shown = sensitive is not None and schema.key not in sensitive
    for name, added in (("sample_added", True), ("sample_gone", False)):
        shown = keys_may_be_shown and most > 0
        found = session.rows(comparison.sample(added=added, most=most)) if shown else []
        entities[name] = [key for (key,) in found]
    columns = comparable_columns(before, schema)
    documents = []
    for first in range(0, len(columns), COLUMNS_PER_QUERY):
        chunk = columns[first : first + COLUMNS_PER_QUERY]
        (answer,) = session.rows(comparison.values(chunk))
        documents += value_documents(chunk, answer, common=int(common), sensitive=sensitive)
    return {"entities": entities, "columns": documents}


def _sections(document: dict[str, Any]) -> list[Table | Fields]:
    names = [name for name in document["before"] if document["before"][name] or document["after"][name]]
    sides = [{"": name, **{side: document[side][name] for side in _SIDES}} for name in names]
    parts: list[Table | Fields] = [
        Table(columns=("", *_SIDES), rows=sides, whole=frozenset({"", *_SIDES})),
        Fields(title="schema", members={how: _names(found) for how, found in document["schema"].items()}),
    ]
    if document["entities"] is None:
        return parts
    return [
        *parts,
        Fields(title="entities", members=document["entities"]),
        Table(
            title="columns",
            columns=(
                "name",
                "type",
                "changed",
                "changed_share",
                "nulls_before",
                "nulls_after",
                "mean_before",
                "mean_after",
                "mean_shift",
                "largest_shift",
            ),
            rows=document["columns"],
            whole=frozenset({"name"}),
        ),
    ]


def _names(columns: list[dict[str, Any]]) -> list[str]:
    return [
        f"{column['name']} ({column['type']})"
        if "type" in column
        else f"{column['name']} ({column['before']} to {column['after']})"
        for column in columns
    ]
