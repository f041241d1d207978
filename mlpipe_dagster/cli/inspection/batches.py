"""`mlpipe batches`: lists a model's batches, and which of them each region serves."""

from __future__ import annotations

import argparse
from itertools import islice
from typing import Any

from mlpipe_dagster.cli.command_output import CommandResult, Fields, Table
from mlpipe_dagster.cli.deployment_access import DeploymentAccess
from mlpipe_dagster.cli.options import Commands, add_command, add_model, at_least_one, partition
from prediction_contract.registry.records import BatchRecord, LivePointer, LivePointers

_SHOWN_BATCHES = 30
_COLUMNS = (
    "batch_id",
    "partition",
    "load_state",
    "release_state",
    "row_count",
    "accepted_rows",
    "quarantined_rows",
    "load_attempts",
    "items_expire_at",
    "refusal_reason",
)


def add_to(commands: Commands) -> None:
    """Add the command."""
    listing = add_command(commands, "batches", batches)
    add_model(listing)
    listing.add_argument(
        "--newest",
        type=at_least_one,
        metavar="N",
        help=f"show the newest N; by default {_SHOWN_BATCHES} in a table and all as JSON",
    )
    listing.add_argument(
        "--partition",
        type=partition,
        help="show only one partition: 2013-02-01T05, 2013-02-01, 2013-W06 or 2013-02",
    )


def batches(options: argparse.Namespace, access: DeploymentAccess) -> CommandResult:
    """List a model's batches, newest last, and the batch that each region serves."""
    access.require_declared(options.model)
    live_pointers = access.registry.live_pointers(
        options.model, home_region=access.home, regions=access.settings.serving_regions
    )
    newest = options.newest or (None if options.json else _SHOWN_BATCHES)
    found = (
        access.registry.batches_of(options.model, options.partition)
        if options.partition
        else access.registry.batches(options.model, newest_first=True, page_size=newest and newest + 1)
    )
    # One more than is shown, to know whether there are others.
    records = list(islice(found, newest and newest + 1))
    listed = records[:newest][::-1]
    pointers = region_documents(live_pointers)
    document = {
        "model": options.model,
        "live": pointer_document(live_pointers.home or LivePointer(model=options.model)),
        "regions": pointers,
        "batches": [batch_document(record, pointers) for record in listed],
        "has_older_batches": len(records) > len(listed),
    }
    return CommandResult(document=document, sections=_sections(document))


def _sections(document: dict[str, Any]) -> list[Table | Fields]:
    rows = [
        {"live": "*" if row["release_state"] == "live" else " ", **row, "regions": row["served_in"]}
        for row in document["batches"]
    ]
    shown = (name for name in _COLUMNS if name not in {"row_count", "refusal_reason"})
    columns = ("live", *shown, "model_package_version", "regions", "refusal_reason")
    return [
        Fields(members={"model": document["model"], **document["live"]}),
        Table(
            title=f"batches, the newest {len(rows)}" if document["has_older_batches"] else "batches",
            columns=columns,
            rows=rows,
        ),
        Table(
            title="regions",
            columns=("region", "is_home", "batch_id", "sequence", "published_at", "publications_behind"),
            rows=document["regions"],
        ),
    ]


def batch_document(record: BatchRecord, regions: list[dict[str, Any]]) -> dict[str, Any]:
    """Return a batch's entry in the list, with the regions that serve it."""
    served_in = [region["region"] for region in regions if region["batch_id"] == record.batch_id]
    known = {name: getattr(record, name) for name in _COLUMNS}
    return {**known, "model_package_version": record.version_number, "served_in": served_in}


def pointer_document(pointer: LivePointer) -> dict[str, Any]:
    """Return the home region's pointer; `batch_id` is null before the first publication."""
    return {
        "batch_id": pointer.batch_id,
        "partition": pointer.partition,
        "sequence": pointer.sequence,
        "published_at": pointer.published_at,
        "previous_batch_id": pointer.previous_batch_id,
        "hold": pointer.hold,
        "withdrawn_before": pointer.withdrawn_before,
    }


def region_documents(live_pointers: LivePointers) -> list[dict[str, Any]]:
    """Return each region's pointer, home first, and how many publications it lags behind home."""
    home = live_pointers.home.sequence if live_pointers.home else 0
    found = []
    for region, pointer in {live_pointers.home_region: live_pointers.home, **live_pointers.regions}.items():
        # A hold takes a number too, but other regions need not follow it.
        same = live_pointers.home and pointer and pointer.batch_id == live_pointers.home.batch_id
        found.append(
            {
                "region": region,
                "is_home": region == live_pointers.home_region,
                "batch_id": pointer.batch_id if pointer else None,
                "sequence": pointer.sequence if pointer else 0,
                "published_at": pointer.published_at if pointer else None,
                "publications_behind": 0 if same else home - (pointer.sequence if pointer else 0),
            }
        )
    return found
