"""`mlpipe show`: everything that is known of one batch."""

from __future__ import annotations

import argparse
from typing import Any

from mlpipe_dagster.cli.command_output import CommandResult, Fields, Table
from mlpipe_dagster.cli.deployment_access import DeploymentAccess
from mlpipe_dagster.cli.inspection.batch_documents import (
    find_manifest,
    load_documents,
    manifest_document,
    newest_report,
    publication_documents,
    quarantine_summary,
    record_document,
)
from mlpipe_dagster.cli.inspection.dagster_history import dagster_history
from mlpipe_dagster.cli.inspection.named_batches import add_named_batch, named_batch
from mlpipe_dagster.cli.options import Commands, add_command

LOAD_COLUMNS = (
    "attempt",
    "status",
    "started_at",
    "ended_at",
    "rows_dynamodb",
    "rows_snowflake",
    "rows_quarantined",
    "job_run_id",
    "reason",
)
PUBLICATION_COLUMNS = (
    "sequence",
    "action",
    "batch_id",
    "previous_batch_id",
    "published_at",
    "actor",
    "reason",
)
CHECK_COLUMNS = ("asset", "check", "passed", "severity", "at", "description")
_WHOLE = frozenset({"batch_id", "previous_batch_id"})


def add_to(commands: Commands) -> None:
    """Add the command."""
    add_named_batch(add_command(commands, "show", show))


def show(options: argparse.Namespace, access: DeploymentAccess) -> CommandResult:
    """Show a batch: record, manifest, loads, publications, quarantine and checks."""
    record = named_batch(options.batch, access)
    model, batch_id = record.model, record.batch_id
    manifest, trouble = find_manifest(access, record)
    history = dagster_history(model, batch_id)
    document: dict[str, Any] = {
        "model": model,
        "batch_id": batch_id,
        "record": record_document(record),
        "manifest": manifest_document(manifest) if manifest else None,
        "manifest_trouble": trouble,
        "loads": load_documents(access.bucket, record),
        "publications": publication_documents(access.registry, record),
        "quarantine": quarantine_summary(newest_report(access.bucket, record)),
        "checks": list(history.checks),
        "checks_unknown": history.unknown or None,
    }
    return CommandResult(document=document, sections=_sections(document))


def _sections(document: dict[str, Any]) -> list[Table | Fields]:
    present = {name: value for name, value in document["record"].items() if value not in (None, "", [])}
    return [
        Fields(title="record", members=present),
        Fields(title="manifest", members=document["manifest"] or {"trouble": document["manifest_trouble"]}),
        Table(title="loads", columns=LOAD_COLUMNS, rows=document["loads"]),
        publication_table(document["publications"]),
        Fields(title="quarantine", members=document["quarantine"]),
        check_table(document["checks"], document["checks_unknown"]),
    ]


def publication_table(publications: list[dict[str, Any]]) -> Table:
    """Return publications for a person."""
    return Table(title="publications", columns=PUBLICATION_COLUMNS, rows=publications, whole=_WHOLE)


def check_table(checks: list[dict[str, Any]], unknown: str | None) -> Table:
    """Return the results of checks for a person."""
    return Table(
        title="checks", columns=CHECK_COLUMNS, rows=checks, empty=f"unknown: {unknown}" if unknown else "none"
    )
