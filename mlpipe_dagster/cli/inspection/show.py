"""`mlpipe show`: shows everything about one batch."""

from __future__ import annotations

import argparse
from typing import Any

from mlpipe_dagster.cli.command_output import CommandResult, Fields, Table
from mlpipe_dagster.cli.deployment_access import DeploymentAccess
from mlpipe_dagster.cli.inspection.batch_documents import (
    check_table,
    find_manifest,
    load_documents,
    load_reports,
    manifest_document,
    publication_documents,
    publication_table,
    quarantine_summary,
    record_document,
)
from mlpipe_dagster.cli.inspection.dagster_history import dagster_history
from mlpipe_dagster.cli.options import Commands, add_command, add_named_batch

_LOAD_COLUMNS = (
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


def add_to(commands: Commands) -> None:
    """Add the command."""
    add_named_batch(add_command(commands, "show", show))


def show(options: argparse.Namespace, access: DeploymentAccess) -> CommandResult:
    """Show a batch: record, manifest, loads, publications, quarantine and checks."""
    record = access.named_batch(options.batch)
    model, batch_id = record.model, record.batch_id
    manifest, trouble = find_manifest(access, record)
    reports = list(load_reports(access.bucket, record))
    newest = next((report for _, report, _ in reports if report), None)
    history = dagster_history(model, batch_id)
    document: dict[str, Any] = {
        "model": model,
        "batch_id": batch_id,
        "record": record_document(record),
        "manifest": manifest_document(manifest) if manifest else None,
        "manifest_trouble": trouble,
        "loads": load_documents(record, reports),
        "publications": publication_documents(access.registry, record),
        "quarantine": quarantine_summary(newest),
        "checks": list(history.checks),
        "checks_unknown": history.unknown or None,
    }
    return CommandResult(document=document, sections=_sections(document))


def _sections(document: dict[str, Any]) -> list[Table | Fields]:
    present = {name: value for name, value in document["record"].items() if value not in (None, "", [])}
    return [
        Fields(title="record", members=present),
        Fields(title="manifest", members=document["manifest"] or {"trouble": document["manifest_trouble"]}),
        Table(title="loads", columns=_LOAD_COLUMNS, rows=document["loads"]),
        publication_table(document["publications"]),
        Fields(title="quarantine", members=document["quarantine"]),
        check_table(document["checks"], document["checks_unknown"]),
    ]
