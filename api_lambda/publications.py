"""What is live and what was published, in one region: pointers are believed for seconds, entries for ever."""

from __future__ import annotations

import time
from dataclasses import dataclass, replace
from typing import TYPE_CHECKING, Any

from api_lambda.bounded_cache import BoundedCache
from api_lambda.live_batch import BrokenPublicationError, LiveBatch, live_batch
from prediction_contract.aws_limits import MOST_BATCH_READS
from prediction_contract.moments import parse_moment
from prediction_contract.registry.records import (
    BatchRecord,
    LivePointer,
    PublicationEntry,
    RecordKey,
    ReleaseState,
    batch_key,
    pointer_key,
    publication_key,
)

if TYPE_CHECKING:
    from collections.abc import Callable, Iterator, Sequence

    from api_lambda.dynamodb import ItemReader
    from prediction_contract.resource_names import Deployment

MOST_MODELS = MOST_BATCH_READS
_MOST_POINTERS = 512
_MODELS_SECONDS = 60
_READY_SECONDS = 5
# So many entries are searched for a publication of the live batch, in pages of so many.
_MOST_EARLIER = 100
_PAGE = 25
# How long what was live before is served on: its items do not expire meanwhile, since a live batch is loaded
# again hours before.
_LONGEST_BEHIND_SECONDS = 3600


class UnknownModelError(Exception):
    """Nothing of this model is live in this region: there is no such model, or it was never published."""


class PublicationNotReplicatedError(BrokenPublicationError):
    """The pointer has arrived in this region, its publication has not, and no earlier one can be served."""


@dataclass(frozen=True, slots=True)
class _Served:
    """What a model's readers get.

    Attributes:
        live: The batch.
        pointer: The pointer that it is the final answer to; None while a publication is awaited.
        read_at: When the pointer was read last.
        behind_since: Since when a later publication has been awaited; None if none is.
    """

    live: LiveBatch
    pointer: LivePointer | None
    read_at: float
    behind_since: float | None = None


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
        self._live: BoundedCache[str, _Served] = BoundedCache(_MOST_POINTERS)
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
        keys = [pointer_key(model, self._deployment.region) for model in self.models(until)[:MOST_MODELS]]
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
                or _kept(served, read_at)
                or self._before(pointer, read_at, until)
            )
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
            return _Served(live_batch(entry, pointer.published_at or entry.published_at), pointer, read_at)
        # The sequence is a hold's, or its entry has not arrived.
        for looked_at, earlier in enumerate(self._backwards(model, sequence, until), 1):
            if earlier.makes_live and earlier.batch_id == pointer.batch_id:
                has_gap = looked_at <= sequence - earlier.sequence
                live = live_batch(earlier, pointer.published_at or earlier.published_at)
                return _Served(live, None if has_gap else pointer, read_at)
        return None

    def _before(self, pointer: LivePointer, read_at: float, until: float) -> _Served:
        """Return the newest earlier publication whose batch this region was found to hold whole.

        Raises:
            PublicationNotReplicatedError: There is none.
        """
        model = pointer.model
        earlier = [each for each in self._entries(model, pointer.sequence, _PAGE, until) if each.makes_live]
        keys = dict.fromkeys(batch_key(model, each.batch_id or "") for each in earlier)
        records = map(BatchRecord.from_item, self._records(list(keys), until))
        fit = {record.batch_id for record in records if self._may_serve(record)}
        for entry in earlier:
            if entry.batch_id in fit:
                live = replace(live_batch(entry, entry.published_at), is_behind=True)
                return _Served(live, None, read_at, behind_since=read_at)
        raise PublicationNotReplicatedError(
            f"{model} points at {pointer.batch_id}, and publication {pointer.sequence} has not arrived here"
        )

    def _may_serve(self, record: BatchRecord) -> bool:
        """Whether all items of an earlier batch are here for sure, and nobody took the batch back."""
        return (
            self._deployment.region in record.verified_regions
            and record.release_state != ReleaseState.WITHDRAWN
            and record.items_expire_at is not None
            and parse_moment(record.items_expire_at).timestamp() > time.time()
        )

    def _entry(self, model: str, sequence: int, until: float) -> PublicationEntry | None:
        item = self._record(publication_key(model, sequence), until)
        return PublicationEntry.from_item(item) if item else None

    def _backwards(self, model: str, last: int, until: float) -> Iterator[PublicationEntry]:
        """Yield the entries that are here from a sequence on downwards, up to a limit, as they are needed."""
        for _ in range(_MOST_EARLIER // _PAGE):
            page = self._entries(model, last, _PAGE, until)
            yield from page
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


def _kept(served: _Served | None, read_at: float) -> _Served | None:
    """Return what was served, while a publication that has not arrived may be awaited."""
    if served is None:
        return None
    since = read_at if served.behind_since is None else served.behind_since
    if read_at - since >= _LONGEST_BEHIND_SECONDS:
        return None
    return replace(served, live=replace(served.live, is_behind=True), pointer=None, behind_since=since)
