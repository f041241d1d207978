"""A published batch, and how to serve it, from the publication that made it live."""

from __future__ import annotations

import json
from dataclasses import dataclass
from typing import TYPE_CHECKING

from prediction_contract.stores.online_item import OnlineItems
from prediction_contract.stores.serving_record import InvalidServingError, ServingRecord
from prediction_contract.text.utc_time import parse_utc

if TYPE_CHECKING:
    from prediction_contract.registry.records import PublicationEntry


class BrokenPublicationError(Exception):
    """The live batch cannot be served although a pointer names it; a person has to look into it."""


@dataclass(frozen=True, slots=True)
class LiveBatch:
    """One published batch, and how to read and serve it.

    Attributes:
        model: The model's name.
        batch_id: The batch.
        partition: The hour, day, week or month that it scores.
        sequence: The publication that made it live.
        published_at: When it became live in this region, as text.
        published: When it became live in this region, in seconds since 1970.
        serving: The schema, model version and enrichments.
        items: Reads the batch's items.
        provenance: The provenance member of answers, as JSON.
        is_behind: Whether the pointer names a later publication, which this region does not have yet.
    """

    model: str
    batch_id: str
    partition: str
    sequence: int
    published_at: str
    published: float
    serving: ServingRecord
    items: OnlineItems
    provenance: str
    is_behind: bool = False


def model_members(serving: ServingRecord) -> dict[str, str | int]:
    """Return the members of answers that name the model version that scored a batch."""
    number = serving.model_package_version
    registered = {} if number is None else {"model_package_version": number}
    return {"model_version": serving.model_version, **registered}


def live_batch(entry: PublicationEntry, published_at: str) -> LiveBatch:
    """Return the batch that a publication made live.

    Args:
        entry: The publication.
        published_at: When the batch became live in this region.

    Raises:
        BrokenPublicationError: The publication lacks a valid serving record.
    """
    try:
        serving = ServingRecord.from_json(entry.serving or "")
        published = parse_utc(published_at).timestamp()
    except (InvalidServingError, ValueError) as error:
        raise BrokenPublicationError(f"publication {entry.sequence} of {entry.model}: {error}") from error
    batch_id, partition = entry.batch_id or "", entry.partition or ""
    provenance = {
        "batch_id": batch_id,
        "partition": partition,
        **model_members(serving),
        "published_at": published_at,
        "sequence": entry.sequence,
    }
    return LiveBatch(
        model=entry.model,
        batch_id=batch_id,
        partition=partition,
        sequence=entry.sequence,
        published_at=published_at,
        published=published,
        serving=serving,
        items=OnlineItems(serving.schema),
        provenance=json.dumps(provenance, ensure_ascii=False, separators=(",", ":")),
    )
