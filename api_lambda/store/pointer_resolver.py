"""The batch that a live pointer stands for, also while the publication it names has not been replicated."""

from __future__ import annotations

import time
from dataclasses import dataclass, replace
from typing import TYPE_CHECKING

from api_lambda.store.live_batch import BrokenPublicationError, LiveBatch, live_batch
from prediction_contract.registry.records import (
    BatchRecord,
    LivePointer,
    LoadState,
    PublicationEntry,
    ReleaseState,
)
from prediction_contract.text.utc_time import parse_utc

if TYPE_CHECKING:
    from api_lambda.store.registry_reader import RegistryReader

# While a publication is awaited, what is served is believed for so long without a look at the batch's record.
_SURE_SECONDS = 60
# If that record is not here, nothing tells whether the batch was withdrawn or expires: it is served on for no
# longer than this after it was last confirmed.
_LONGEST_UNSURE_SECONDS = 3600


class PublicationNotReplicatedError(BrokenPublicationError):
    """The pointer has arrived in this region, its publication has not, and no earlier one can be served."""


@dataclass(frozen=True, slots=True)
class ServedBatch:
    """What a model's readers get.

    Attributes:
        live: The batch.
        pointer: The pointer whose publication was found; None while that publication is awaited.
        sequence: The highest sequence that the answer accounts for.
        read_at: When the pointer was read last.
        confirmed_at: When the pointer or the batch's own record last said that it may be served.
    """

    live: LiveBatch
    pointer: LivePointer | None
    sequence: int
    read_at: float
    confirmed_at: float


class PointerResolver:
    """Finds the batch to serve. One transaction writes a pointer and its publication; they replicate singly.

    Args:
        registry: The region's.
        region: The region.
    """

    def __init__(self, registry: RegistryReader, region: str) -> None:
        self._registry = registry
        self._region = region

    def resolve(
        self,
        pointer: LivePointer,
        entry: PublicationEntry | None,
        served: ServedBatch | None,
        *,
        read_at: float,
        until: float,
    ) -> ServedBatch:
        """Return the pointer's batch, or what may be served until a publication of it arrives.

        Args:
            pointer: A pointer with a batch.
            entry: The publication of the pointer's sequence, if it was read already.
            served: What this process served of the model before.
            read_at: When the pointer was read.
            until: The moment, by `time.monotonic`, to give up.

        Raises:
            PublicationNotReplicatedError: Neither a publication of it nor an earlier one has arrived.
            BrokenPublicationError: The publication cannot be served.
        """
        return (
            self._arrived(pointer, entry, read_at, until)
            or _recently_confirmed(served, read_at)
            or self._newest_fit(pointer, served, read_at, until)
        )

    def _arrived(
        self, pointer: LivePointer, entry: PublicationEntry | None, read_at: float, until: float
    ) -> ServedBatch | None:
        """Return the pointer's batch if any publication of it is here: each tells how to read it."""
        model, sequence = pointer.model, pointer.sequence
        entry = entry or self._registry.publication(model, sequence, until)
        if entry is not None and entry.makes_live:
            if entry.batch_id != pointer.batch_id:
                raise BrokenPublicationError(f"publication {sequence} of {model} is not of the live batch")
            is_final = True
        else:
            # The sequence is a hold's, or its entry has not arrived.
            entry = self._recorded(pointer, until) or self._searched(pointer, until)
            # A follower's pointer has a time of its own. Its answer stays open, and costs three reads.
            is_final = entry is not None and entry.published_at == pointer.published_at
        if entry is None:
            return None
        live = live_batch(entry, pointer.published_at or entry.published_at)
        return ServedBatch(live, pointer if is_final else None, sequence, read_at, confirmed_at=read_at)

    def _recorded(self, pointer: LivePointer, until: float) -> PublicationEntry | None:
        """Return the publication that the batch's record names, if both are here."""
        record = self._registry.batch(pointer.model, pointer.batch_id or "", until)
        if record is None or record.published_sequence is None:
            return None
        if record.published_sequence > pointer.sequence:
            # The record names a later publication, which the region's pointer has not reached yet.
            return None
        entry = self._registry.publication(pointer.model, record.published_sequence, until)
        return entry if entry is not None and _makes_live(entry, pointer) else None

    def _searched(self, pointer: LivePointer, until: float) -> PublicationEntry | None:
        """Return the newest publication of the pointer's batch that is here, if it is not too far back."""
        for page in self._registry.pages_up_to(pointer.model, pointer.sequence, until):
            for entry in page:
                if _makes_live(entry, pointer):
                    return entry
        return None

    def _newest_fit(
        self, pointer: LivePointer, served: ServedBatch | None, read_at: float, until: float
    ) -> ServedBatch:
        """Return the newest that may be served until the pointer's publication arrives.

        That is a publication whose batch this region was found to hold whole, or what this process served.

        Raises:
            PublicationNotReplicatedError: There is none.
        """
        model = pointer.model
        kept = served and self._kept(served, read_at, until)
        for page in self._registry.pages_up_to(model, pointer.sequence, until):
            later = [each for each in page if each.makes_live and (not kept or each.sequence > kept.sequence)]
            batch_ids = dict.fromkeys(each.batch_id or "" for each in later)
            records = self._registry.batches(model, batch_ids, until)
            fit = {record.batch_id for record in records if self._is_held_whole(record)}
            for entry in later:
                if entry.batch_id in fit:
                    live = replace(live_batch(entry, entry.published_at), is_behind=True)
                    return ServedBatch(live, None, entry.sequence, read_at, confirmed_at=read_at)
            if kept and page and page[-1].sequence <= kept.sequence:
                break
        if kept:
            return kept
        raise PublicationNotReplicatedError(
            f"{model} points at {pointer.batch_id}, and publication {pointer.sequence} has not arrived here"
        )

    def _kept(self, served: ServedBatch, read_at: float, until: float) -> ServedBatch | None:
        """Return what was served, unless its batch was withdrawn or has expired, as far as is known here."""
        record = self._registry.batch(served.live.model, served.live.batch_id, until)
        if record is not None and not _is_fit(record):
            return None
        if record is not None and record.items_expire_at is not None:
            return _awaiting(replace(served, confirmed_at=read_at))
        return _awaiting(served) if read_at - served.confirmed_at < _LONGEST_UNSURE_SECONDS else None

    def _is_held_whole(self, record: BatchRecord) -> bool:
        """Whether the region was verified to hold all items of an earlier batch that may still be served."""
        return (
            self._region in record.verified_regions and record.items_expire_at is not None and _is_fit(record)
        )


def _recently_confirmed(served: ServedBatch | None, read_at: float) -> ServedBatch | None:
    """Return what was served, if that was confirmed a moment ago."""
    if served is None or read_at - served.confirmed_at >= _SURE_SECONDS:
        return None
    return _awaiting(served)


def _awaiting(served: ServedBatch) -> ServedBatch:
    """Return what was served as what is served while a publication that has not arrived is awaited."""
    return replace(served, live=replace(served.live, is_behind=True), pointer=None)


def _makes_live(entry: PublicationEntry, pointer: LivePointer) -> bool:
    """Whether a publication made the pointer's batch live."""
    return entry.makes_live and entry.batch_id == pointer.batch_id


def _is_fit(record: BatchRecord) -> bool:
    """Whether nothing in a batch's record speaks against serving it."""
    return (
        record.release_state != ReleaseState.WITHDRAWN
        and record.load_state != LoadState.RETIRED
        and (record.items_expire_at is None or parse_utc(record.items_expire_at).timestamp() > time.time())
    )
