"""Changes the live batch or the hold in the registry, then updates Snowflake and Dagster."""

from __future__ import annotations

import argparse
import dataclasses
import os
import uuid
from collections.abc import Callable
from datetime import UTC, datetime, timedelta
from typing import TYPE_CHECKING, Any

from mlpipe_dagster.cli.command_output import CommandResult, Fields
from mlpipe_dagster.cli.deployment_access import DeploymentAccess, WarehouseUnreachableError
from mlpipe_dagster.publication.publisher import PublicationOutcome, PublicationResult, Publisher
from mlpipe_dagster.resources.warehouse_session import PublicationsMoveError
from prediction_contract.registry.records import ChangeRequest
from prediction_contract.stores.serving_record import InvalidServingError

if TYPE_CHECKING:
    from model_declaration.declaration import ModelDeclaration

_PROJECTION_LAGS = "Snowflake's projection lags until the next publication"


def change_publication(
    options: argparse.Namespace,
    access: DeploymentAccess,
    declaration: ModelDeclaration,
    change: Callable[[Publisher, ChangeRequest], PublicationResult],
) -> CommandResult:
    """Carry out a change, report it to Snowflake and Dagster, and return the result.

    Args:
        options: The command line, with the model and who asks.
        access: The deployment.
        declaration: The model's declaration.
        change: Carries out the change in the registry.
    """
    settings = access.settings
    # Read before the change, because a restored registry may not know the highest number in use.
    highest, trouble = _highest_projected(access, options.model)
    publisher = Publisher(
        registry=access.registry,
        deployment=settings.deployment,
        declaration=declaration,
        serving_regions=settings.serving_regions,
        clock=lambda: datetime.now(UTC),
        highest_projected=highest,
    )
    request = ChangeRequest(
        request_id=options.request_id or uuid.uuid4().hex, actor=options.actor, reason=options.reason
    )
    published = change(publisher, request)
    # The registry is the authority, so API readers see the change now. Snowflake comes before Dagster, whose
    # database may be slow.
    projected, trouble = (0, trouble) if trouble else _project(access, options.model)
    shown, unshown = _show(access, options.model, published.sequence)
    document: dict[str, Any] = {
        **{name: value for name, value in dataclasses.asdict(published).items() if value != ""},
        "request_id": request.request_id,
        "newly_projected": projected,
        **({"projection_trouble": trouble} if trouble else {}),
        "shown_in_dagster": shown,
    }
    overtaken = _overtaken(published, options)
    return CommandResult(
        document=document,
        sections=[Fields(members=document)],
        ok=not overtaken,
        notes=[note for note in (unshown, trouble, overtaken) if note],
    )


def _show(access: DeploymentAccess, model: str, sequence: int) -> tuple[bool, str]:
    """Report publications to this environment's Dagster instance; return whether it shows this one.

    The text says why the instance cannot be reached; then a sensor reports the publication later.
    """
    if not os.environ.get("DAGSTER_HOME"):
        return False, ""
    import dagster as dg  # noqa: PLC0415  # takes most of a second

    from mlpipe_dagster.publication.publication_events import PublicationReporter  # noqa: PLC0415

    try:
        with dg.DagsterInstance.get() as instance:
            reports = PublicationReporter(
                instance=instance,
                registry=access.registry,
                now=datetime.now(UTC),
                report_grace=timedelta(0),
            )
            return (reports.report_missing(model) or 0) >= sequence, ""
    except Exception as error:  # noqa: BLE001  # storages raise all kinds of errors, and the change is already made
        return False, f"Dagster does not show the change until its sensor reports it: {error}"[:500]


def _overtaken(published: PublicationResult, options: argparse.Namespace) -> str:
    """Return a note if a repeated request's result has been changed since; empty otherwise."""
    if published.outcome != PublicationOutcome.UNCHANGED:
        return ""
    is_in_effect = published.live_batch_id == published.batch_id if published.batch_id else True
    if options.name == "hold":
        is_in_effect = published.hold is not options.release
    return "" if is_in_effect else overtaken_note(options.request_id)


def overtaken_note(request_id: str) -> str:
    """Return the note for a repeated request whose result a later change has replaced."""
    return (
        f"Request {request_id} was already carried out, but the model has changed since. "
        "To make the change again, run the command without --request-id."
    )


def _highest_projected(access: DeploymentAccess, model: str) -> tuple[int, str]:
    """Return the highest sequence in Snowflake's projection, or 0 and the reason why it is unknown."""
    try:
        with access.warehouse() as session:
            return session.highest_projected(model), ""
    except WarehouseUnreachableError as error:
        return 0, f"{_PROJECTION_LAGS}: {error}"


def _project(access: DeploymentAccess, model: str) -> tuple[int, str]:
    """Update Snowflake's projection; return how many publications were missing, or why it failed."""
    try:
        with access.warehouse() as session:
            return len(session.follow(access.registry, model, access.home)), ""
    except (WarehouseUnreachableError, InvalidServingError, PublicationsMoveError) as error:
        return 0, f"{_PROJECTION_LAGS}: {error}"
