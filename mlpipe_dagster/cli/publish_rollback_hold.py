"""`mlpipe publish`, `rollback` and `hold`: a person decides what is live."""

from __future__ import annotations

import argparse
import dataclasses

from mlpipe_dagster.cli.command_output import CommandResult
from mlpipe_dagster.cli.deployment_access import DeploymentAccess
from mlpipe_dagster.cli.options import Commands, add_command, add_model, add_model_and_batch, add_request
from mlpipe_dagster.cli.publication_changes import change_publication
from mlpipe_dagster.cli.versions.champion import hold_versions
from mlpipe_dagster.done_files.registration import registered_manifest
from mlpipe_dagster.publication.publisher import serving_text


def add_to(commands: Commands) -> None:
    """Add the commands."""
    publish_command = add_command(commands, "publish", publish)
    add_model_and_batch(publish_command)
    rollback_command = add_command(commands, "rollback", rollback)
    add_model(rollback_command)
    rollback_command.add_argument(
        "--to", metavar="BATCH_ID", help="the batch; by default the one that was live before"
    )
    hold_command = add_command(commands, "hold", hold)
    add_model(hold_command)
    hold_command.add_argument("--release", action="store_true", help="end the hold")
    hold_command.add_argument(
        "--models",
        action="store_true",
        help="stop the promotion of model versions instead of the publication of batches",
    )
    for command in (publish_command, rollback_command, hold_command):
        add_request(command)


def publish(options: argparse.Namespace, access: DeploymentAccess) -> CommandResult:
    """Make a batch live."""
    record = access.registered_batch(options.model, options.batch_id)
    manifest = registered_manifest(access.bucket, record)
    declaration = access.declaration(options.model)
    serving = serving_text(declaration, manifest, record, access.settings.provider_url)
    return change_publication(
        options,
        access,
        declaration,
        lambda publisher, request: publisher.publish(options.batch_id, request, serving),
    )


def rollback(options: argparse.Namespace, access: DeploymentAccess) -> CommandResult:
    """Make a batch that was live before live again."""
    result = change_publication(
        options,
        access,
        access.declaration(options.model),
        lambda publisher, request: publisher.roll_back(request, options.to),
    )
    champion = access.registry.champion(options.model)
    if not result.ok or champion is None or champion.version is None:
        return result
    note = (
        f"Version {champion.version} stays the champion and scores the next batch. "
        f"`mlpipe hold {options.model}` keeps that batch from being published, "
        f"`mlpipe demote {options.model}` lets another version score it"
    )
    return dataclasses.replace(result, notes=[*result.notes, note])


def hold(options: argparse.Namespace, access: DeploymentAccess) -> CommandResult:
    """Stop automatic publication or the promotion of model versions, or end such a hold."""
    if options.models:
        return hold_versions(options, access)
    return change_publication(
        options,
        access,
        access.declaration(options.model),
        lambda publisher, request: publisher.hold(request, held=not options.release),
    )
