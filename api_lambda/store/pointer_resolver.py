"""Finds the batch to serve for a live pointer, even before its publication has been replicated."""

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

# While a publication is awaited, the served batch's record is read again after this time.
_CONFIRMATION_SECONDS = 60
# Without that record the batch may have been withdrawn or have expired, so it is served no longer than this
# after it was last confirmed.
_MAX_UNCONFIRMED_SECONDS = 3600


class PublicationNotReplicatedError(BrokenPublicationError):
    """The pointer was replicated before its publication, and no earlier publication can be served."""


@dataclass(frozen=True, slots=True)
class ServedBatch:
    """The batch that a model serves.

    Attributes:
        live: The batch.
        pointer: The pointer, if its publication was found and `live` is final for it; otherwise None, and the
            pointer is resolved again at the next read.
        sequence: The pointer's sequence, or that of the publication served in its place.
        read_at: When the pointer was last read.
        confirmed_at: When the pointer or the batch's record last confirmed that the batch may be served.
    """

    live: LiveBatch
    pointer: LivePointer | None
    sequence: int
    read_at: float
    confirmed_at: float


class PointerResolver:
    """Finds the batch to serve.

    One transaction writes a pointer and its publication, but DynamoDB replicates them separately.

    Args:
        registry: The region's registry.
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
        """Return the pointer's batch, or an earlier batch if no publication of it has arrived yet.

        Args:
            pointer: A pointer with a batch.
            entry: The publication with the pointer's sequence; None to read it.
            served: The batch that this process last served for the model.
            read_at: When the pointer was read.
            until: The deadline, by `time.monotonic`.

        Raises:
            PublicationNotReplicatedError: No publication of the batch has arrived, and no earlier batch can
                be served.
            BrokenPublicationError: The publication cannot be served.
        """
        return (
            self._arrived(pointer, entry, read_at, until)
            or _recently_confirmed(served, read_at)
            or self._newest_servable(pointer, served, read_at, until)
        )

    def _arrived(
        self, pointer: LivePointer, entry: PublicationEntry | None, read_at: float, until: float
    ) -> ServedBatch | None:
        """Return the pointer's batch if any publication of it has arrived: each has its serving record."""
        model, sequence = pointer.model, pointer.sequence
        entry = entry or self._registry.publication(model, sequence, until)
        if entry is not None and entry.makes_live:
            if entry.batch_id != pointer.batch_id:
                raise BrokenPublicationError(f"publication {sequence} of {model} is not for the live batch")
            is_final = True
        else:
            # The sequence belongs to a hold, or its entry has not arrived.
            entry = self._recorded(pointer, until) or self._searched(pointer, until)
            # A follower region's pointer has its own time, so its result is never final and is read again.
            is_final = entry is not None and entry.published_at == pointer.published_at
        if entry is None:
            return None
        live = live_batch(entry, pointer.published_at or entry.published_at)
        return ServedBatch(live, pointer if is_final else None, sequence, read_at, confirmed_at=read_at)

    def _recorded(self, pointer: LivePointer, until: float) -> PublicationEntry | None:
        """Return the publication that the batch's record names, if both have arrived."""
        record = self._registry.batch(pointer.model, pointer.batch_id or "", until)
        if record is None or record.published_sequence is None:
            return None
        if record.published_sequence > pointer.sequence:
            # The record already names a later publication than the region's pointer.
            return None
        entry = self._registry.publication(pointer.model, record.published_sequence, until)
        return entry if entry is not None and _makes_live(entry, pointer) else None

    def _searched(self, pointer: LivePointer, until: float) -> PublicationEntry | None:
        """Search the latest publications for the newest one of the pointer's batch."""
        for page in self._registry.pages_up_to(pointer.model, pointer.sequence, until):
            for entry in page:
                if _makes_live(entry, pointer):
                    return entry
        return None

    def _newest_servable(
        self, pointer: LivePointer, served: ServedBatch | None, read_at: float, until: float
    ) -> ServedBatch:
        """Return the newest batch that may be served until the pointer's publication arrives.

        This is a published batch that this region was verified to hold completely, or the one that this
        process has been serving.

        Raises:
            PublicationNotReplicatedError: No such batch exists.
        """
        model = pointer.model
        kept = served and self._kept(served, read_at, until)
        for page in self._registry.pages_up_to(model, pointer.sequence, until):
            later = [each for each in page if each.makes_live and (not kept or each.sequence > kept.sequence)]
            batch_ids = dict.fromkeys(each.batch_id or "" for each in later)
            records = self._registry.batches(model, batch_ids, until)
            fit = {record.batch_id for record in records if self._is_replicated(record)}
            for entry in later:
                if entry.batch_id in fit:
                    live = replace(live_batch(entry, entry.published_at), is_behind=True)
                    return ServedBatch(live, None, entry.sequence, read_at, confirmed_at=read_at)
            if kept and page and page[-1].sequence <= kept.sequence:
                break
        if kept:
            return kept
        raise PublicationNotReplicatedError(
            f"{model} points at {pointer.batch_id}, but publication {pointer.sequence} has not arrived here"
        )

    def _kept(self, served: ServedBatch, read_at: float, until: float) -> ServedBatch | None:
        """Return the served batch, unless this region knows that it was withdrawn or has expired."""
        record = self._registry.batch(served.live.model, served.live.batch_id, until)
        if record is not None and not _may_be_served(record):
            return None
        if record is not None and record.items_expire_at is not None:
            return _awaiting(replace(served, confirmed_at=read_at))
        return _awaiting(served) if read_at - served.confirmed_at < _MAX_UNCONFIRMED_SECONDS else None

    def _is_replicated(self, record: BatchRecord) -> bool:
        """Return whether a batch may be served and this region was verified to hold all its items."""
        return (
            self._region in record.verified_regions
            and record.items_expire_at is not None
            and _may_be_served(record)
        )


def _recently_confirmed(served: ServedBatch | None, read_at: float) -> ServedBatch | None:
    """Return the served batch if it was confirmed less than `_CONFIRMATION_SECONDS` ago."""
    if served is None or read_at - served.confirmed_at >= _CONFIRMATION_SECONDS:
        return None
    return _awaiting(served)


def _awaiting(served: ServedBatch) -> ServedBatch:
    """Return the served batch, marked as behind the pointer."""
    return replace(served, live=replace(served.live, is_behind=True), pointer=None)


def _makes_live(entry: PublicationEntry, pointer: LivePointer) -> bool:
    """Return whether a publication made the pointer's batch live."""
    return entry.makes_live and entry.batch_id == pointer.batch_id


def _may_be_served(record: BatchRecord) -> bool:
    """Return whether a batch's record allows serving it."""
    return (
        record.release_state != ReleaseState.WITHDRAWN
        and record.load_state != LoadState.RETIRED
        and (record.items_expire_at is None or parse_utc(record.items_expire_at).timestamp() > time.time())
    )
