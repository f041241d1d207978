"""`mlpipe quarantine`: shows the refused rows of a batch, each with its reason."""

from __future__ import annotations

import argparse
import zlib
from collections.abc import Iterator, Mapping
from typing import Any

from mlpipe_dagster.cli.command_output import CommandResult, Fields, Table
from mlpipe_dagster.cli.deployment_access import DeploymentAccess
from mlpipe_dagster.cli.inspection.batch_documents import find_report, load_reports, quarantine_summary
from mlpipe_dagster.cli.options import Commands, add_command, add_named_batch, at_least_one
from mlpipe_dagster.resources.data_bucket import DataBucket
from prediction_contract.errors import ContractError
from prediction_contract.manifests.load_report import LoadReport
from prediction_contract.naming.s3_layout import quarantine_prefix
from prediction_contract.registry.records import BatchRecord, LoadState
from prediction_contract.text.canonical_json import InvalidJsonError, canonical_json, parse_json
from prediction_contract.text.json_members import DocumentShapeError, member, members_of

_SHOWN_LINES = 100
WITHHELD = "(withheld: the model has sensitive columns)"
_HIDDEN = "(sensitive)"


class NoQuarantineError(ContractError):
    """There is no record of the rows that a load refused."""


def add_to(commands: Commands) -> None:
    """Add the command."""
    command = add_command(commands, "quarantine", quarantine)
    add_named_batch(command)
    command.add_argument(
        "--attempt", type=at_least_one, help="the load attempt; by default the last one with a report"
    )
    command.add_argument(
        "--limit", type=at_least_one, default=_SHOWN_LINES, help=f"rows to show; by default {_SHOWN_LINES}"
    )
    command.add_argument(
        "--rows",
        action="store_true",
        help="show the rows too, without the values of sensitive columns",
    )


def quarantine(options: argparse.Namespace, access: DeploymentAccess) -> CommandResult:
    """Show the refused rows of a batch, each with its reason, part and line."""
    record = access.named_batch(options.batch)
    report = _report(access.bucket, record, options.attempt)
    summary = quarantine_summary(report)
    sensitive = access.sensitive_columns(record.model)
    has_left = record.load_state == LoadState.RETIRED
    lines = [
        quarantined_line(line, sensitive, with_row=options.rows)
        for line in (() if has_left else _lines(access.bucket, report, options.limit))
    ]
    document: dict[str, Any] = {
        "model": record.model,
        "batch_id": record.batch_id,
        **summary,
        "load_status": report.status,
        "lines": lines,
    }
    left_out = (summary["rows"] or 0) - len(lines)
    hint = "they are deleted from S3: the batch is retired" if has_left else "see --limit"
    return CommandResult(
        document=document,
        sections=[
            Fields(members={name: value for name, value in document.items() if name != "lines"}),
            Table(
                title="rows",
                columns=("part", "line", "reason", "what", *(("content",) if options.rows else ())),
                rows=[{**line, "part": line["part"].rpartition("/")[2]} for line in lines],
            ),
        ],
        notes=[f"{left_out} more rows are not shown; {hint}"] if left_out > 0 else (),
    )


def _report(bucket: DataBucket, record: BatchRecord, attempt: int | None) -> LoadReport:
    """Return the report of an attempt, by default of the last attempt that has one.

    Raises:
        NoQuarantineError: There is no report.
    """
    if attempt:
        report, why = find_report(bucket, record, attempt)
    else:
        report, why = next((report for _, report, _ in load_reports(bucket, record) if report), None), ""
    if report is None:
        raise NoQuarantineError(
            f"Load {attempt} has no report: {why}" if attempt else "No load of the batch has left a report",
            remedy=f"See `mlpipe show {record.model} {record.batch_id}` for its loads",
            model=record.model,
            batch_id=record.batch_id,
        )
    return report


def _lines(bucket: DataBucket, report: LoadReport, most: int) -> Iterator[dict[str, Any]]:
    """Yield at most `most` of the refused lines that a load recorded."""
    own = quarantine_prefix(report.model, report.batch_id, report.attempt)
    for key in report.quarantine.keys:
        if not key.startswith(own):
            raise NoQuarantineError(
                f"The report of load {report.attempt} names {key[:200]!r}, which is not its own",
                remedy="Load the batch again",
                model=report.model,
                batch_id=report.batch_id,
            )
        try:
            for line in bucket.lines(key):
                if most <= 0:
                    return
                most -= 1
                yield dict(_refused_line(line))
        except (OSError, EOFError, zlib.error, InvalidJsonError, DocumentShapeError) as error:
            is_packed = isinstance(error, InvalidJsonError | DocumentShapeError)
            raise NoQuarantineError(
                f"{key} is not what the load wrote: "
                + (str(error) if is_packed else "it is not an intact gzip file"),
                remedy="Load the batch again, which rewrites its quarantine",
                model=report.model,
                batch_id=report.batch_id,
            ) from error


def _refused_line(line: bytes) -> Mapping[str, Any]:
    members = members_of(parse_json(line), "a line")
    member(members, "part", str)
    return members


def quarantined_line(
    line: dict[str, Any], sensitive: frozenset[str] | None, *, with_row: bool
) -> dict[str, Any]:
    """Return a refused line without sensitive values.

    Args:
        line: The line as the load recorded it.
        sensitive: The columns whose values must not be shown; None if they are unknown.
        with_row: Whether to show the row itself.
    """
    shown = {name: line.get(name) for name in ("part", "line", "reason", "row_checksum")}
    shown["what"] = line.get("what") if sensitive == frozenset() else _without_values(line)
    if with_row:
        shown["content"] = _shown_row(line, sensitive)
        shown["is_cut"] = line.get("is_cut", False)
    return shown


def _without_values(line: dict[str, Any]) -> str:
    """Return the reason of a refused line without its explanation, which may quote a value."""
    return f"{str(line.get('reason', '')).replace('_', ' ')} {WITHHELD}".strip()


def _shown_row(line: dict[str, Any], sensitive: frozenset[str] | None) -> str:
    content = str(line.get("content", ""))
    if sensitive == frozenset():
        return content
    if sensitive is None or line.get("is_cut"):
        return WITHHELD
    try:
        members = parse_json(content.encode())
    except (InvalidJsonError, UnicodeEncodeError):
        return WITHHELD
    # An unknown member may be a misspelt sensitive column.
    if not isinstance(members, dict) or line.get("reason") == "unknown_column":
        return WITHHELD
    return canonical_json({name: _HIDDEN if name in sensitive else value for name, value in members.items()})
