"""`mlpipe promote`, `demote`, `challenge` and `hold --models`: a person decides about the champion."""

from __future__ import annotations

import argparse
import uuid
from collections.abc import Callable
from datetime import UTC, datetime
from itertools import islice
from typing import TYPE_CHECKING, Any

from mlpipe_dagster.cli.command_output import CommandResult, Fields
from mlpipe_dagster.cli.deployment_access import DeploymentAccess
from mlpipe_dagster.cli.options import Commands, add_command, add_model, add_request, at_least_one
from mlpipe_dagster.cli.publication_changes import change_publication, overtaken_note
from mlpipe_dagster.cli.versions.champion_changes import ChampionChanges, ChampionOutcome, ChampionResult
from mlpipe_dagster.cli.versions.version_documents import champion_document
from mlpipe_dagster.done_files.registration import registered_manifest
from mlpipe_dagster.versions.model_packages import ModelPackages
from prediction_contract.errors import ContractError
from prediction_contract.registry.records import BatchRecord, ChangeRequest

if TYPE_CHECKING:
    from prediction_contract.registry.version_records import ModelVersion

# How many of the newest batches are searched for one to roll back to.
_SEARCHED_BATCHES = 200
_COMPARED = ("version", "digest", "challenger", "hold", "withdrawn_before")


class NoOtherBatchError(ContractError):
    """No batch of another version can be rolled back to."""


def add_to(commands: Commands) -> None:
    """Add the commands."""
    promote_command = add_command(commands, "promote", promote)
    add_model(promote_command)
    _add_version(promote_command)
    demote_command = add_command(commands, "demote", demote)
    add_model(demote_command)
    demote_command.add_argument(
        "--to",
        type=at_least_one,
        metavar="VERSION",
        help="the version to make champion; by default the one that was champion before",
    )
    demote_command.add_argument(
        "--with-batch",
        action="store_true",
        help="also roll back to the newest formerly live batch of another version",
    )
    challenge_command = add_command(commands, "challenge", challenge)
    add_model(challenge_command)
    which = challenge_command.add_mutually_exclusive_group(required=True)
    _add_version(which, nargs="?")
    which.add_argument("--none", action="store_true", help="let no version challenge the champion")
    for command in (promote_command, demote_command, challenge_command):
        add_request(command)


def _add_version(command: Any, **more: Any) -> None:
    command.add_argument(
        "version", type=at_least_one, help="the version's number, from `mlpipe models`", **more
    )


def promote(options: argparse.Namespace, access: DeploymentAccess) -> CommandResult:
    """Make a version the champion, which scores new batches; approves a candidate first."""
    result, request = _changed(
        options, access, lambda changes, request: changes.promote(options.version, request)
    )
    is_in_effect = result.after.version == options.version
    return _answer(options, access, result, request, is_in_effect=is_in_effect)


def demote(options: argparse.Namespace, access: DeploymentAccess) -> CommandResult:
    """Withdraw the champion and let another version score new batches."""
    # Both changes share the id, so that a repeated request repeats neither.
    options.request_id = options.request_id or uuid.uuid4().hex
    result, request = _changed(options, access, lambda changes, request: changes.demote(request, options.to))
    demoted = result.version
    is_in_effect = demoted is None or result.after.version != demoted.version
    answer = _answer(options, access, result, request, is_in_effect=is_in_effect)
    if not options.with_batch or demoted is None:
        return answer
    return _with_rollback(options, access, answer, demoted)


def challenge(options: argparse.Namespace, access: DeploymentAccess) -> CommandResult:
    """Let a version score beside the champion without being served; --none ends it."""
    result, request = _changed(
        options, access, lambda changes, request: changes.challenge(options.version, request)
    )
    return _answer(options, access, result, request, is_in_effect=result.after.challenger == options.version)


def hold_versions(options: argparse.Namespace, access: DeploymentAccess) -> CommandResult:
    """Stop the automatic promotion of versions, or end such a hold."""
    held = not options.release
    result, request = _changed(options, access, lambda changes, request: changes.hold(request, held=held))
    return _answer(options, access, result, request, is_in_effect=result.after.hold is held)


def _changed(
    options: argparse.Namespace,
    access: DeploymentAccess,
    change: Callable[[ChampionChanges, ChangeRequest], ChampionResult],
) -> tuple[ChampionResult, ChangeRequest]:
    access.require_declared(options.model)
    sagemaker = access.client("sagemaker")
    changes = ChampionChanges(
        registry=access.registry,
        sagemaker=sagemaker,
        packages=ModelPackages(sagemaker, access.settings.deployment, access.bucket),
        model=options.model,
        clock=lambda: datetime.now(UTC),
    )
    request = ChangeRequest(
        request_id=options.request_id or uuid.uuid4().hex, actor=options.actor, reason=options.reason
    )
    return change(changes, request), request


def _answer(
    options: argparse.Namespace,
    access: DeploymentAccess,
    result: ChampionResult,
    request: ChangeRequest,
    *,
    is_in_effect: bool,
) -> CommandResult:
    pointer = access.registry.pointer(options.model, access.home)
    before, after = champion_document(result.before), champion_document(result.after)
    document: dict[str, Any] = {
        "model": options.model,
        "outcome": result.outcome,
        "version": result.version.version if result.version else None,
        "before": before,
        "after": after,
        "live_batch_id": pointer.batch_id if pointer else None,
        "request_id": request.request_id,
    }
    changed = {name: f"{_or_none(before[name])} -> {_or_none(after[name])}" for name in _COMPARED}
    shown = {
        **{name: document[name] for name in ("model", "outcome", "version")},
        **{name: changed[name] for name in _COMPARED if before[name] != after[name]},
        "not changed": _unchanged(document["live_batch_id"]),
        "request_id": request.request_id,
    }
    notes = [] if is_in_effect else [overtaken_note(request.request_id)]
    if result.outcome is ChampionOutcome.DEMOTED and result.after.version is None:
        notes.append(
            "No earlier champion is left: the model is not scored until a version is promoted. "
            f"See `mlpipe models {options.model}`"
        )
    return CommandResult(document=document, sections=[Fields(members=shown)], ok=is_in_effect, notes=notes)


def _or_none(value: Any) -> str:
    if isinstance(value, bool):
        return "yes" if value else "no"
    return "none" if value is None else str(value)


def _unchanged(live_batch_id: str | None) -> str:
    live = f"readers still get batch {live_batch_id}; " if live_batch_id else ""
    return f"{live}batches that have already begun keep their version"


def _with_rollback(
    options: argparse.Namespace, access: DeploymentAccess, answer: CommandResult, demoted: ModelVersion
) -> CommandResult:
    """Roll back to the newest formerly live batch of another version."""
    pointer = access.registry.pointer(options.model, access.home)
    live = pointer and pointer.batch_id and access.registry.batch(options.model, pointer.batch_id)
    if not live or _digest(access, live) != demoted.digest:
        document = {**answer.document, "rollback": None}
        note = f"No rollback is needed: version {demoted.version} did not score the live batch"
        return CommandResult(
            document=document, sections=answer.sections, ok=answer.ok, notes=[*answer.notes, note]
        )
    target = _other_batch(options, access, demoted)
    rollback = change_publication(
        options,
        access,
        access.declaration(options.model),
        lambda publisher, request: publisher.roll_back(request, target),
    )
    return CommandResult(
        document={
            **answer.document,
            "live_batch_id": rollback.document["live_batch_id"],
            "rollback": rollback.document,
        },
        sections=[*answer.sections, *rollback.sections],
        ok=answer.ok and rollback.ok,
        notes=[*answer.notes, *rollback.notes],
    )


def _other_batch(options: argparse.Namespace, access: DeploymentAccess, demoted: ModelVersion) -> str:
    """Return the newest batch that can be rolled back to and that the demoted version did not score.

    Raises:
        NoOtherBatchError: No such batch exists.
    """
    newest = access.registry.batches(options.model, newest_first=True, page_size=_SEARCHED_BATCHES)
    targets = (batch for batch in islice(newest, _SEARCHED_BATCHES) if batch.is_rollback_target)
    newest_first = sorted(targets, key=lambda batch: (batch.partition, batch.batch_id), reverse=True)
    for batch in newest_first:
        if _digest(access, batch) != demoted.digest:
            return batch.batch_id
    raise NoOtherBatchError(
        f"Version {demoted.version} is demoted, but no batch of another version can be rolled back to",
        remedy="Score the partition again, and publish that batch",
        model=options.model,
    )


def _digest(access: DeploymentAccess, batch: BatchRecord) -> str:
    return registered_manifest(access.bucket, batch).model_version
