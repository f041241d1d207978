"""`mlpipe models`: shows a model's versions, and which of them scores new batches."""

from __future__ import annotations

import argparse
from collections import Counter
from itertools import islice
from typing import Any

from mlpipe_dagster.cli.command_output import CommandResult, Fields, Table
from mlpipe_dagster.cli.deployment_access import DeploymentAccess
from mlpipe_dagster.cli.options import Commands, add_command, at_least_one
from mlpipe_dagster.cli.versions import register
from mlpipe_dagster.cli.versions.version_documents import (
    VersionHistory,
    champion_document,
    version_document,
    waits_for,
)
from prediction_contract.registry.version_records import ChampionPointer, PromotionEntry, VersionState

_SHOWN_VERSIONS = 20
_SHOWN_CHANGES = 100
# How many of the newest batches are counted; an hourly model has a thousand in six weeks.
_COUNTED_BATCHES = 1000
_OPEN = frozenset({VersionState.CANDIDATE, VersionState.APPROVED})
_CHANGE = (
    "sequence",
    "action",
    "version",
    "previous_version",
    "challenger",
    "changed_at",
    "actor",
    "reason",
    "request_id",
)


def add_to(commands: Commands) -> None:
    """Add the command."""
    listing = add_command(commands, "models", models)
    listing.add_argument(
        "words",
        nargs="*",
        metavar="[register] model",
        help="the model whose versions to show, by default an overview of all models; `register` before it "
        "registers a model that was trained elsewhere as a version",
    )
    listing.add_argument(
        "--newest",
        type=at_least_one,
        metavar="N",
        help=f"show the newest N versions; by default {_SHOWN_VERSIONS} in a table and all as JSON",
    )
    register.add_options(listing)


def models(options: argparse.Namespace, access: DeploymentAccess) -> CommandResult:
    """Show the versions of a model, how they were judged, and which of them scores new batches."""
    match options.words:
        case []:
            return _all_models(access)
        case ["register", model]:
            return register.register(model, options, access)
        case [model]:
            return _one_model(model, options, access)
        case words:
            raise register.ModelsArgumentsError(words)


def _all_models(access: DeploymentAccess) -> CommandResult:
    rows = [_overview(access, model) for model in access.models()]
    columns = ("model", "version", "digest", "since", "hold", "challenger", "newest_version", "waiting")
    return CommandResult(
        document={"models": rows}, sections=[Table(columns=columns, rows=rows, whole=frozenset({"model"}))]
    )


def _overview(access: DeploymentAccess, model: str) -> dict[str, Any]:
    pointer = access.registry.champion(model) or ChampionPointer(model=model)
    versions = list(islice(access.registry.model_versions(model, page_size=_SHOWN_VERSIONS), _SHOWN_VERSIONS))
    return {
        "model": model,
        **champion_document(pointer),
        "newest_version": versions[0].version if versions else None,
        "waiting": [
            {"version": version.version, "waits_for": waits_for(version, pointer)}
            for version in versions
            if version.state in _OPEN and version.version > (pointer.version or 0)
        ],
    }


def _one_model(model: str, options: argparse.Namespace, access: DeploymentAccess) -> CommandResult:
    access.require_declared(model)
    registry, bucket = access.registry, access.bucket
    newest = options.newest or (None if options.json else _SHOWN_VERSIONS)
    pointer = registry.champion(model) or ChampionPointer(model=model)
    # One more than is shown, to know whether there are others.
    found = list(
        islice(registry.model_versions(model, page_size=newest and newest + 1), newest and newest + 1)
    )
    changes = list(islice(registry.promotions(model, page_size=_SHOWN_CHANGES), _SHOWN_CHANGES))
    batches = islice(registry.batches(model, newest_first=True, page_size=_COUNTED_BATCHES), _COUNTED_BATCHES)
    history = VersionHistory(
        pointer=pointer,
        entries={entry.sequence: entry for entry in changes},
        batches=Counter(batch.version_number for batch in batches if batch.version_number is not None),
    )
    document = {
        "model": model,
        "champion": champion_document(pointer),
        "versions": [version_document(bucket, version, history) for version in found[:newest][::-1]],
        "changes": [_change_document(entry) for entry in changes[::-1]],
        "has_older_versions": newest is not None and len(found) > newest,
    }
    return CommandResult(document=document, sections=_sections(document))


def _change_document(entry: PromotionEntry) -> dict[str, Any]:
    return {name: getattr(entry, name) for name in _CHANGE}


def _sections(document: dict[str, Any]) -> list[Table | Fields]:
    rows = [_row(version) for version in document["versions"]]
    columns = (
        *("champion", "version", "state", "trained_until", "judged_on", "metric", "value", "champion_value"),
        *("gain", "gain_low", "worse_slices", "cause", "execution", "champion_since", "batches", "says"),
    )
    return [
        Fields(members={"model": document["model"], **document["champion"]}),
        Table(
            title=f"versions, the newest {len(rows)}" if document["has_older_versions"] else "versions",
            columns=columns,
            rows=rows,
            whole=frozenset({"version", "state"}),
        ),
        Table(title="changes", columns=_CHANGE[:-1], rows=document["changes"]),
    ]


def _row(version: dict[str, Any]) -> dict[str, Any]:
    """Return a version as one row: its deciding metric and its state."""
    metric = version["metrics"][0] if version["metrics"] else {}
    return {
        **version,
        "champion": "*" if version["state"] == VersionState.CHAMPION else " ",
        "judged_on": " to ".join(version["judged_on"]) if version["judged_on"] else None,
        "metric": metric.get("name"),
        "value": metric.get("candidate"),
        "champion_value": metric.get("champion"),
        "gain": metric.get("gain"),
        "gain_low": metric.get("gain_low"),
        "execution": (version["execution_arn"] or "").rpartition("/")[2] or None,
        "says": version["waits_for"] or version["reason"] or version["verdict_trouble"] or version["verdict"],
    }
