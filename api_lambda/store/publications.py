"""What is live and what was published, in one region: pointers are believed for seconds, entries for ever."""

from __future__ import annotations

import time
from dataclasses import dataclass, replace
from typing import TYPE_CHECKING, Any

from api_lambda.http.bounded_cache import BoundedCache
from api_lambda.store.live_batch import BrokenPublicationError, LiveBatch, live_batch
from prediction_contract.limits import MAX_BATCH_READS
from prediction_contract.registry.records import (
    BatchRecord,
    LivePointer,
    LoadState,
    PublicationEntry,
    RecordKey,
    ReleaseState,
    batch_key,
    pointer_key,
    publication_key,
)
from prediction_contract.text.utc_time import parse_utc

if TYPE_CHECKING:
    from collections.abc import Callable, Iterator, Sequence

    from api_lambda.store.item_reader import ItemReader
    from prediction_contract.naming.resource_names import Deployment

MAX_MODELS = MAX_BATCH_READS
_MAX_POINTERS = 512
_MODELS_SECONDS = 60
_READY_SECONDS = 5
# So many entries are searched for a publication of the live batch, in pages of so many.
_MAX_EARLIER = 100
_PAGE = 25
# While a publication is awaited, what is served is believed for so long without a look at the batch's record.
_SURE_SECONDS = 60
# If that record is not here, nothing tells whether the batch was withdrawn or expires: it is served on for no
# longer than this after it was last confirmed.
_LONGEST_UNSURE_SECONDS = 3600


class UnknownModelError(Exception):
    """Nothing of this model is live in this region: there is no such model, or it was never published."""


class PublicationNotReplicatedError(BrokenPublicationError):
    """The pointer has arrived in this region, its publication has not, and no earlier one can be served."""


@dataclass(frozen=True, slots=True)
class _Served:
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


class Publications:
    """Reads the registry of one region."""

    def __init__(
        self,
        reader: ItemReader,
        deployment: Deployment,
        *,
        pointer_seconds: float,
        clock: Callable[[], float] = time.monotonic,
    ) -> None:
        """Take the registry's parts.

        Args:
            reader: Of the region's tables.
            deployment: Whose registry; its region says which pointer counts.
            pointer_seconds: For how long a pointer is believed.
            clock: Seconds, never going back.
        """
        self._reader = reader
        self._deployment = deployment
        self._pointer_seconds = pointer_seconds
        self._clock = clock
        self._live: BoundedCache[str, _Served] = BoundedCache(_MAX_POINTERS)
        self._models: tuple[float, list[str]] | None = None
        self._ready_at: float | None = None

    def live(self, model: str, until: float) -> LiveBatch:
        """Return the batch that a model serves now, at most `pointer_seconds` late.

        Args:
            model: The model's name.
            until: The moment, by `time.monotonic`, to give up.

        Raises:
            UnknownModelError: The region serves nothing of the model.
            PublicationNotReplicatedError: Neither the publication nor an earlier one has arrived.
            BrokenPublicationError: The publication cannot be served.
            StoreUnavailableError: The registry gave no answer.
            StoreRefusedError: The registry refused.
        """
        now = self._clock()
        known = self._known(model, now)
        if known is not None:
            return known
        item = self._record(pointer_key(model, self._deployment.region), until)
        pointer = LivePointer.from_item(item) if item else None
        if pointer is None or pointer.batch_id is None:
            raise UnknownModelError
        return self._followed(pointer, now, None, until)

    def live_of(self, models: Sequence[str], until: float) -> dict[str, LiveBatch | BrokenPublicationError]:
        """Return what each of up to 100 models serves, as `live` does; one that serves nothing is not there.

        A publication that cannot be served stands in its model's place and hides no other.

        Raises:
            StoreUnavailableError: The registry gave no answer.
            StoreRefusedError: The registry refused.
        """
        now, region = self._clock(), self._deployment.region
        found: dict[str, LiveBatch | BrokenPublicationError] = {}
        asked: list[RecordKey] = []
        for model in models:
            known = self._known(model, now)
            if known is not None:
                found[model] = known
            else:
                asked.append(pointer_key(model, region))
        pointers = [LivePointer.from_item(item) for item in self._records(asked, until)]
        live = [pointer for pointer in pointers if pointer.batch_id is not None]
        moved = [publication_key(each.model, each.sequence) for each in live if not self._is_final(each)]
        entries = map(PublicationEntry.from_item, self._records(moved, until))
        by_model = {entry.model: entry for entry in entries}
        for pointer in live:
            try:
                found[pointer.model] = self._followed(pointer, now, by_model.get(pointer.model), until)
            except BrokenPublicationError as error:
                found[pointer.model] = error
        return found

    def published(
        self, live: LiveBatch, *, before: int, most: int, until: float
    ) -> tuple[list[LiveBatch], int | None]:
        """Return what was published up to a live batch, the newest first, and where the next page begins.

        Args:
            live: What the region serves; later publications are none of its readers' business yet.
            before: Publications of this sequence and later ones are left out.
            most: How many publication entries to look at.
            until: The moment, by `time.monotonic`, to give up.
        """
        entries = self._entries(live.model, min(live.sequence, before - 1), most, until)
        following = entries[-1].sequence if len(entries) == most and entries[-1].sequence > 1 else None
        # A hold makes nothing live.
        shown = [entry for entry in entries if entry.makes_live and entry.serving]
        return [live_batch(entry, entry.published_at) for entry in shown], following

    def models(self, until: float) -> list[str]:
        """Return the names of the deployment's models, published or not, in order; at most a minute old."""
        now = self._clock()
        if self._models is None or now - self._models[0] >= _MODELS_SECONDS:
            prefix = self._deployment.online_tables_prefix
            tables = self._reader.table_names(prefix, until=until)
            self._models = now, [name.removeprefix(prefix) for name in tables]
        return self._models[1]

    def require_ready(self, until: float) -> None:
        """Let pass if the region's store answers and its pointers can be read; looks every few seconds.

        Raises:
            StoreUnavailableError: The store gave no answer.
            StoreRefusedError: The store refused.
        """
        now = self._clock()
        if self._ready_at is not None and now - self._ready_at < _READY_SECONDS:
            return
        keys = [pointer_key(model, self._deployment.region) for model in self.models(until)[:MAX_MODELS]]
        # Without any model there is a question all the same.
        for item in self._records(keys or [pointer_key("none", "none")], until):
            LivePointer.from_item(item)
        self._ready_at = now

    def _known(self, model: str, now: float) -> LiveBatch | None:
        """Return what a model serves if its pointer was read a moment ago."""
        served = self._live.get(model)
        return served.live if served is not None and now - served.read_at < self._pointer_seconds else None

    def _is_final(self, pointer: LivePointer) -> bool:
        """Whether a pointer was followed before: a publication never changes."""
        served = self._live.get(pointer.model)
        return served is not None and served.pointer == pointer

    def _followed(
        self, pointer: LivePointer, read_at: float, entry: PublicationEntry | None, until: float
    ) -> LiveBatch:
        """Return what a pointer points at, and believe it from the moment it was read.

        One transaction writes a pointer and its publication, but they replicate to other regions one by one.

        Args:
            pointer: It, with a batch.
            read_at: The moment.
            entry: The publication of the pointer's sequence, if it was read already.
            until: The moment to give up.
        """
        served = self._live.get(pointer.model)
        if served is None or served.pointer != pointer:
            served = (
                self._arrived(pointer, entry, read_at, until)
                or _behind(served, read_at)
                or self._newest_fit(pointer, served, read_at, until)
            )
        else:
            served = replace(served, confirmed_at=read_at)
        self._live.put(pointer.model, replace(served, read_at=read_at))
        return served.live

    def _arrived(
        self, pointer: LivePointer, entry: PublicationEntry | None, read_at: float, until: float
    ) -> _Served | None:
        """Return the pointer's batch if any publication of it is here: each tells how to read it."""
        model, sequence = pointer.model, pointer.sequence
        entry = entry or self._entry(model, sequence, until)
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
        return _Served(live, pointer if is_final else None, sequence, read_at, confirmed_at=read_at)

    def _recorded(self, pointer: LivePointer, until: float) -> PublicationEntry | None:
        """Return the publication that the batch's record names, if both are here."""
        record = self._batch(pointer.model, pointer.batch_id or "", until)
        if record is None or record.published_sequence is None:
            return None
        if record.published_sequence > pointer.sequence:
            # The record names a later publication, which the region's pointer has not reached yet.
            return None
        entry = self._entry(pointer.model, record.published_sequence, until)
        return entry if entry is not None and _makes_live(entry, pointer) else None

    def _searched(self, pointer: LivePointer, until: float) -> PublicationEntry | None:
        """Return the newest publication of the pointer's batch that is here, if it is not too far back."""
        for page in self._pages(pointer.model, pointer.sequence, until):
            for entry in page:
                if _makes_live(entry, pointer):
                    return entry
        return None

    def _newest_fit(
        self, pointer: LivePointer, served: _Served | None, read_at: float, until: float
    ) -> _Served:
        """Return the newest that may be served until the pointer's publication arrives.

        That is a publication whose batch this region was found to hold whole, or what this process served.

        Raises:
            PublicationNotReplicatedError: There is none.
        """
        model = pointer.model
        kept = served and self._kept(served, read_at, until)
        for page in self._pages(model, pointer.sequence, until):
            later = [each for each in page if each.makes_live and (not kept or each.sequence > kept.sequence)]
            keys = dict.fromkeys(batch_key(model, each.batch_id or "") for each in later)
            records = map(BatchRecord.from_item, self._records(list(keys), until))
            fit = {record.batch_id for record in records if self._is_held_whole(record)}
            for entry in later:
                if entry.batch_id in fit:
                    live = replace(live_batch(entry, entry.published_at), is_behind=True)
                    return _Served(live, None, entry.sequence, read_at, confirmed_at=read_at)
            if kept and page and page[-1].sequence <= kept.sequence:
                break
        if kept:
            return kept
        raise PublicationNotReplicatedError(
            f"{model} points at {pointer.batch_id}, and publication {pointer.sequence} has not arrived here"
        )

    def _kept(self, served: _Served, read_at: float, until: float) -> _Served | None:
        """Return what was served, unless its batch was withdrawn or has expired, as far as is known here."""
        record = self._batch(served.live.model, served.live.batch_id, until)
        if record is not None and not _is_fit(record):
            return None
        if record is not None and record.items_expire_at is not None:
            return _awaiting(replace(served, confirmed_at=read_at))
        return _awaiting(served) if read_at - served.confirmed_at < _LONGEST_UNSURE_SECONDS else None

    def _is_held_whole(self, record: BatchRecord) -> bool:
        """Whether the region was verified to hold all items of an earlier batch that may still be served."""
        return (
            self._deployment.region in record.verified_regions
            and record.items_expire_at is not None
            and _is_fit(record)
        )

    def _batch(self, model: str, batch_id: str, until: float) -> BatchRecord | None:
        item = self._record(batch_key(model, batch_id), until)
        return BatchRecord.from_item(item) if item else None

    def _entry(self, model: str, sequence: int, until: float) -> PublicationEntry | None:
        item = self._record(publication_key(model, sequence), until)
        return PublicationEntry.from_item(item) if item else None

    def _pages(self, model: str, last: int, until: float) -> Iterator[list[PublicationEntry]]:
        """Yield the entries that are here from a sequence on downwards, up to a limit, as they are needed."""
        for _ in range(_MAX_EARLIER // _PAGE):
            page = self._entries(model, last, _PAGE, until)
            yield page
            if len(page) < _PAGE:
                return
            last = page[-1].sequence - 1

    def _entries(self, model: str, last: int, most: int, until: float) -> list[PublicationEntry]:
        """Return the entries that are here up to a sequence, the newest first."""
        if last < 1:
            return []
        first, highest = publication_key(model, 1), publication_key(model, last)
        items = self._reader.query_backwards(
            self._deployment.registry_table, _names(first), highest.record, most=most, until=until
        )
        return [PublicationEntry.from_item(item) for item in items]

    def _record(self, key: RecordKey, until: float) -> dict[str, Any] | None:
        table = self._deployment.registry_table
        return self._reader.get_item(table, _names(key), consistent=True, until=until)

    def _records(self, keys: Sequence[RecordKey], until: float) -> list[dict[str, Any]]:
        """Return those of up to 100 records that there are, in no order."""
        if not keys:
            return []
        table = self._deployment.registry_table
        return self._reader.batch_get(table, [_names(key) for key in keys], consistent=True, until=until)


def _names(key: RecordKey) -> dict[str, str]:
    return {"model": key.model, "record": key.record}


def _behind(served: _Served | None, read_at: float) -> _Served | None:
    """Return what was served, if that was confirmed a moment ago."""
    if served is None or read_at - served.confirmed_at >= _SURE_SECONDS:
        return None
    return _awaiting(served)


def _awaiting(served: _Served) -> _Served:
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
