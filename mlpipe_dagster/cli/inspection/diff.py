"""`mlpipe diff`: what differs between two batches of a model."""

from __future__ import annotations

import argparse
from collections.abc import Sequence
from typing import Any

from mlpipe_dagster.cli.command_output import CommandResult, Fields, Table
from mlpipe_dagster.cli.deployment_access import DeploymentAccess
from mlpipe_dagster.cli.inspection.batch_comparison import (
    COLUMNS_PER_QUERY,
    BatchComparison,
    comparable_columns,
    schema_difference,
    value_documents,
)
from mlpipe_dagster.cli.inspection.warehouse_queries import WarehouseQueries
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
        "--entities", type=int, default=_SAMPLE, metavar="N", help=f"keys to show; {_SAMPLE} by default"
    )


def diff(options: argparse.Namespace, access: DeploymentAccess) -> CommandResult:
    """Compare two batches: schema, rows, entities, and the values of each column."""
    records = [access.known_batch(options.model, getattr(options, side)) for side in _SIDES]
    manifests = [registered_manifest(access.bucket, record) for record in records]
    rules = [recorded_cleaning(record.cleaning) for record in records]
    schemas = [one.stored_schema(manifest.schema) for one, manifest in zip(rules, manifests, strict=True)]
    before, after = schemas
    document: dict[str, Any] = {
        "model": options.model,
        **{
            side: _side(record, manifest)
            for side, record, manifest in zip(_SIDES, records, manifests, strict=True)
        },
        "schema": schema_difference(before, after),
        "entities": None,
        "columns": None,
    }
    with access.warehouse() as session:
        notes = _count(session, document, manifests, schemas)
        if not notes:
            sensitive = access.sensitive_columns(options.model)
            if sensitive is not None:
                sensitive = frozenset().union(
                    *(
                        one.stored_names(manifest.schema, sensitive)
                        for one, manifest in zip(rules, manifests, strict=True)
                    )
                )
            comparison = BatchComparison(WarehouseTable(options.model, after), options.before, options.after)
            document |= _rows(session, comparison, before, sensitive, most=max(options.entities, 0))
    return CommandResult(document=document, sections=_sections(document), ok=not notes, notes=notes)


def _side(record: BatchRecord, manifest: Manifest) -> dict[str, Any]:
    return {
        "batch_id": record.batch_id,
        "partition": record.partition,
        "load_state": record.load_state,
        "release_state": record.release_state,
        "model_version": manifest.model_version,
        "code_version": manifest.code_version,
        "rows_promised": manifest.row_count,
        "rows_in_warehouse": None,
    }


def _count(
    session: WarehouseQueries,
    document: dict[str, Any],
    manifests: Sequence[Manifest],
    schemas: Sequence[PredictionSchema],
) -> list[str]:
    """Count both batches' rows in the warehouse; return in words which of them is not there."""
    model = document["model"]
    has_table = session.has_table(WarehouseTable(model, schemas[0]).name)
    notes = []
    for side, manifest, schema in zip(_SIDES, manifests, schemas, strict=True):
        counted = document[side]
        rows = session.batch_tally(model, schema, manifest.batch_id).rows if has_table else 0
        counted["rows_in_warehouse"] = rows
        if rows == 0 and manifest.row_count:
            is_gone = counted["load_state"] == LoadState.RETIRED
            why = f"{'has left' if is_gone else 'is not in'} the warehouse (it is {counted['load_state']})"
            notes.append(
                f"{model}/{counted['batch_id']} {why}: only the manifests are compared. "
                + (
                    "A retired batch does not come back."
                    if is_gone
                    else "`mlpipe load` loads what S3 holds of it."
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
    ((old, new, common),) = session.answer(comparison.entities())
    entities: dict[str, Any] = {"before": int(old), "after": int(new), "common": int(common)}
    entities |= {"added": int(new) - int(common), "gone": int(old) - int(common)}
    keys_may_be_shown = sensitive is not None and schema.key not in sensitive
    for name, added in (("sample_added", True), ("sample_gone", False)):
        shown = keys_may_be_shown and most > 0
        found = session.answer(comparison.sample(added=added, most=most)) if shown else []
        entities[name] = [key for (key,) in found]
    columns = comparable_columns(before, schema)
    documents = []
    for first in range(0, len(columns), COLUMNS_PER_QUERY):
        chunk = columns[first : first + COLUMNS_PER_QUERY]
        (answer,) = session.answer(comparison.values(chunk))
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
