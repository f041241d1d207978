"""`mlpipe try`: runs a model on sample data in seconds, without a stack."""

from __future__ import annotations

import argparse
from collections.abc import Mapping
from pathlib import Path
from typing import Any

from mlpipe_dagster.cli.command_output import CommandResult, Fields, Table
from mlpipe_dagster.cli.deployment_access import DeploymentAccess
from mlpipe_dagster.cli.options import Commands, add_command, add_model, at_least_one, partition

_ROWS = 10
_QUARANTINED = ("row", "reason", "column", "what")


def add_to(commands: Commands) -> None:
    """Add the command."""
    command = add_command(commands, "try", try_model)
    add_model(command)
    command.add_argument(
        "--partition", type=partition, help="the partition; by default the newest one with data"
    )
    command.add_argument(
        "--rows", type=at_least_one, default=_ROWS, help=f"how many rows to show; by default {_ROWS}"
    )
    data = command.add_mutually_exclusive_group()
    data.add_argument("--data", type=Path, metavar="FOLDER", help="a folder laid out like the data bucket")
    data.add_argument("--bucket", help="the data bucket itself, read with your credentials")


def try_model(options: argparse.Namespace, access: DeploymentAccess) -> CommandResult:
    """Run a model's functions on sample data, and show its rows as both stores would hold them."""
    # Imported here, because they import pydantic, which few commands need.
    from mlpipe_dagster.cli.development.trial_process import TrialData, run_trial  # noqa: PLC0415

    declaration = access.declaration(options.model)
    data = TrialData(folder=options.data, bucket=options.bucket)
    answer = run_trial(
        access.project, declaration, data, action="try", partition=options.partition, rows=options.rows
    )
    if "error" in answer:
        return failed(options.model, answer["error"])
    stored = [
        {
            "column": column.name,
            "type": str(column.type),
            "dynamodb": column.type.dynamodb or "M, L and others",
            "snowflake": column.type.snowflake,
        }
        for column in declaration.stored_schema.columns
    ]
    ok = answer["batch_fault"] is None
    return CommandResult(
        document={"ok": ok, **answer, "columns": stored},
        sections=[
            Fields(members=_shown(answer, ok=ok)),
            *_metrics(answer),
            Table(title="columns", columns=("column", "type", "dynamodb", "snowflake"), rows=stored),
            Table(
                title="rows as the stores would hold them",
                columns=("row",),
                rows=[{"row": row} for row in answer["stored"]],
                whole=frozenset({"row"}),
            ),
            Table(
                title="rows that would be quarantined",
                columns=_QUARANTINED,
                rows=answer["quarantined"],
                whole=frozenset(_QUARANTINED),
            ),
        ],
        ok=ok,
    )


def failed(model: str, error: Mapping[str, Any]) -> CommandResult:
    """Return the result of a trial that ended in an error."""
    return CommandResult(
        document={"ok": False, "model": model, "error": dict(error)},
        sections=[
            Fields(members={"error": error["what"], "remedy": error["remedy"]}),
            *(
                [
                    Table(
                        title="lines of your code, most recent call last",
                        columns=("line",),
                        rows=[{"line": line} for line in error["lines"]],
                        whole=frozenset({"line"}),
                    )
                ]
                if error["lines"]
                else []
            ),
        ],
        ok=False,
    )


def _shown(answer: Mapping[str, Any], *, ok: bool) -> dict[str, Any]:
    training = answer["training"] or {}
    columns = [column["name"] for column in answer["features"]["columns"]]
    return {
        "model": answer["model"],
        "partition": answer["partition"],
        "features": f"{answer['features']['rows']} rows of {len(columns)} columns: {', '.join(columns)}",
        "trained on": f"{training['rows']} rows of {', '.join(training['partitions'])}" if training else None,
        "model version": answer["model_version"],
        "previous batch": answer["previous_partition"],
        "predictions": answer["rows"],
        "quarantined": answer["quarantined_rows"],
        "would load": "yes" if ok else answer["batch_fault"],
        "seconds": answer["seconds"],
    }


def _metrics(answer: Mapping[str, Any]) -> list[Table]:
    if not answer["metrics"]:
        return []
    return [
        Table(
            title=f"metrics on {', '.join(answer['evaluated_on'])}, from little data",
            columns=("name", "predicted", "actual", "value", "baselines", "rows", "why"),
            rows=answer["metrics"],
        )
    ]
