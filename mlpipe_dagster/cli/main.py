"""`mlpipe`: operate publications from a shell, on AWS as locally."""

from __future__ import annotations

import argparse
import dataclasses
import getpass
import json
import sys
import uuid
from collections.abc import Callable, Sequence
from datetime import UTC, datetime
from typing import Any

from botocore.exceptions import BotoCoreError, ClientError

from mlpipe_dagster.cli.declared_models import declared_model
from mlpipe_dagster.cli.load_run import run_load
from mlpipe_dagster.noticing import registered_manifest
from mlpipe_dagster.publishing import Publication, Publisher, known_batch, serving_text
from mlpipe_dagster.resources.platform import Platform
from mlpipe_dagster.warehouse_projection import WarehouseSession
from prediction_contract.errors import ContractError
from prediction_contract.registry.records import BatchRecord, Request

_BATCH_COLUMNS = (
    "batch_id",
    "partition",
    "load_state",
    "release_state",
    "row_count",
    "load_attempts",
    "items_expire_at",
    "refusal_reason",
)
_LOGIN_SECONDS = 20


def main(arguments: Sequence[str] | None = None) -> int:
    """Run one command and return the process's exit status: 0 if what was asked for is so."""
    options = _parser().parse_args(arguments)
    load_environment_file()
    try:
        found = options.command(options, Platform())
    except (ContractError, BotoCoreError, ClientError) as error:
        sys.stderr.write(f"{error}\n")
        return 1
    text = json.dumps(found, indent=1) if options.json else options.shown(found)
    sys.stdout.write(f"{text}\n")
    return 0


def load_environment_file() -> None:
    """Take what `.env` of the present folder says, as Dagster does; the environment itself goes before."""
    from dotenv import load_dotenv  # noqa: PLC0415  # comes with Dagster, and only a shell's start needs it

    load_dotenv(".env")


def batches(options: argparse.Namespace, platform: Platform) -> list[dict[str, Any]]:
    """Return a model's batches, the oldest first."""
    declared_model(options.model)
    return [batch_document(record) for record in platform.registry.batches(options.model)]


def publish(options: argparse.Namespace, platform: Platform) -> dict[str, Any]:
    """Make a batch live, as a person's decision."""
    declaration = declared_model(options.model)
    record = known_batch(platform.registry, options.model, options.batch_id)
    manifest = registered_manifest(platform.bucket, record)
    serving = serving_text(declaration, manifest, platform.settings.provider_url)
    return _changed(
        options, platform, lambda publisher, request: publisher.publish(options.batch_id, request, serving)
    )


def rollback(options: argparse.Namespace, platform: Platform) -> dict[str, Any]:
    """Make a batch live again that was live before."""
    return _changed(options, platform, lambda publisher, request: publisher.roll_back(request, options.to))


def hold(options: argparse.Namespace, platform: Platform) -> dict[str, Any]:
    """Stop automatic publication, or let it go on."""
    return _changed(
        options, platform, lambda publisher, request: publisher.hold(request, held=not options.release)
    )


def load(options: argparse.Namespace, platform: Platform) -> dict[str, Any]:
    """Load, check and publish a batch in a Dagster run of this process."""
    return run_load(platform, options.model, options.batch_id, again=options.again)


def _changed(
    options: argparse.Namespace, platform: Platform, change: Callable[[Publisher, Request], Publication]
) -> dict[str, Any]:
    settings = platform.settings
    publisher = Publisher(
        registry=platform.registry,
        deployment=settings.deployment,
        declaration=declared_model(options.model),
        serving_regions=settings.serving_regions,
        clock=lambda: datetime.now(UTC),
    )
    request = Request(
        request_id=options.request_id or uuid.uuid4().hex, actor=options.actor, reason=options.reason
    )
    published = change(publisher, request)
    # The registry is the authority, and readers of the API see the change now. Snowflake follows.
    projected, trouble = _project(platform, options.model)
    return {
        **{name: value for name, value in dataclasses.asdict(published).items() if value != ""},
        "request_id": request.request_id,
        "newly_projected": projected,
        **({"projection_trouble": trouble} if trouble else {}),
    }


def _project(platform: Platform, model: str) -> tuple[int, str]:
    """Bring Snowflake's projection in step; return how many were missing, or why it stays behind."""
    # It takes a second, and only changes need it. Dagster's own resource for it would take ten.
    from snowflake import connector  # noqa: PLC0415

    try:
        with connector.connect(
            **{"login_timeout": _LOGIN_SECONDS, **platform.settings.connector_arguments()}
        ) as connection:
            entries = platform.registry.publications(model)
            return WarehouseSession(connection).project(model, entries), ""
    except connector.errors.Error as error:
        return 0, f"Snowflake's projection stays behind until the next publication: {error}"


def batch_document(record: BatchRecord) -> dict[str, Any]:
    """Return a batch for a person or a program."""
    return {name: getattr(record, name) for name in _BATCH_COLUMNS}


def table(rows: list[dict[str, Any]]) -> str:
    """Return rows as aligned text under their columns' names."""
    if not rows:
        return "There are none."
    cells = [list(rows[0]), *([_cell(value) for value in row.values()] for row in rows)]
    widths = [max(len(line[column]) for line in cells) for column in range(len(cells[0]))]
    return "\n".join(
        "  ".join(cell.ljust(width) for cell, width in zip(line, widths, strict=True)).rstrip()
        for line in cells
    )


def lines(document: dict[str, Any]) -> str:
    """Return a document as one line per member."""
    width = max(len(name) for name in document)
    return "\n".join(f"{name.ljust(width)}  {_cell(value)}".rstrip() for name, value in document.items())


def _cell(value: Any) -> str:
    return "" if value is None else str(value)


def _parser() -> argparse.ArgumentParser:
    parser = argparse.ArgumentParser(prog="mlpipe", description="Operate the publications of predictions.")
    commands = parser.add_subparsers(required=True, metavar="command")

    def command(
        name: str, run: Callable[..., Any], shown: Callable[[Any], str], *, changes: bool
    ) -> argparse.ArgumentParser:
        summary = (run.__doc__ or "").splitlines()[0]
        added = commands.add_parser(name, help=summary, description=summary)
        added.set_defaults(command=run, shown=shown)
        added.add_argument("model", help="the model's name")
        added.add_argument("--json", action="store_true", help="print JSON")
        if changes:
            added.add_argument("--reason", default="", help="why, for the history")
            added.add_argument("--actor", default=getpass.getuser(), help="who; you unless told otherwise")
            added.add_argument("--request-id", default="", help="a known one does nothing again")
        return added

    command("batches", batches, table, changes=False)
    publishing = command("publish", publish, lines, changes=True)
    publishing.add_argument("batch_id", help="the batch to make live")
    rolling = command("rollback", rollback, lines, changes=True)
    rolling.add_argument(
        "--to", metavar="BATCH_ID", help="the batch; the one that was live before if left out"
    )
    holding = command("hold", hold, lines, changes=True)
    holding.add_argument("--release", action="store_true", help="let automatic publication go on")
    loading = command("load", load, lines, changes=False)
    loading.add_argument("batch_id", help="the batch to load")
    loading.add_argument("--again", action="store_true", help="load it though it is loaded")
    return parser
