"""What is live and what was published, in one region: pointers are believed for seconds, entries for ever."""

from __future__ import annotations

import json
import time
from dataclasses import dataclass
from typing import TYPE_CHECKING, Any

from api_lambda.bounded_cache import BoundedCache
from prediction_contract.aws_limits import MOST_BATCH_READS
from prediction_contract.moments import parse_moment
from prediction_contract.online_item import OnlineItems
from prediction_contract.registry.records import (
    BatchRecord,
    LivePointer,
    PublicationEntry,
    RecordKey,
    batch_key,
    pointer_key,
    publication_key,
)
from prediction_contract.serving import InvalidServingError, Serving

if TYPE_CHECKING:
    from collections.abc import Callable, Sequence

    from api_lambda.dynamodb import ItemReader
    from prediction_contract.resource_names import Deployment

MOST_MODELS = MOST_BATCH_READS
_MOST_POINTERS = 512
_MODELS_SECONDS = 60
_READY_SECONDS = 5


class UnknownModelError(Exception):
    """Nothing of this model is live in this region: there is no such model, or it was never published."""


class BrokenPublicationError(Exception):
    """A pointer stands, and what it points at cannot be served; a person has to look."""


@dataclass(frozen=True, slots=True)
class LiveBatch:
    """One published batch, and how to read and serve it.

    Attributes:
        model: The model's name.
        batch_id: The batch.
        partition: The data date or hour that it scores.
        sequence: The publication that made it live.
        published_at: When it became live here.
        published: The same in seconds since 1970.
        serving: Schema, model version, enrichments.
        items: Reads its items.
        provenance: What answers say of where they come from, as JSON.
    """

    model: str
    batch_id: str
    partition: str
    sequence: int
    published_at: str
    published: float
    serving: Serving
    items: OnlineItems
    provenance: str


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
        self._live: BoundedCache[str, tuple[float, LivePointer, LiveBatch]] = BoundedCache(_MOST_POINTERS)
        self._models: tuple[float, list[str]] | None = None
        self._ready_at: float | None = None

    def live(self, model: str, until: float) -> LiveBatch:
        """Return the batch that a model serves now, at most `pointer_seconds` late.

        Args:
            model: The model's name.
            until: The moment, by `time.monotonic`, to give up.

        Raises:
            UnknownModelError: The region serves nothing of the model.
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
        moved = [publication_key(each.model, each.sequence) for each in live if not self._followed_to(each)]
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
        last = min(live.sequence, before - 1)
        if last < 1:
            return [], None
        first, highest = publication_key(live.model, 1), publication_key(live.model, last)
        items = self._reader.query_backwards(
            self._deployment.registry_table, _names(first), highest.record, most=most, until=until
        )
        entries = [PublicationEntry.from_item(item) for item in items]
        following = entries[-1].sequence if len(entries) == most and entries[-1].sequence > 1 else None
        # A hold makes nothing live.
        return [
            _live_batch(live.model, entry, entry.published_at)
            for entry in entries
            if entry.batch_id and entry.serving
        ], following

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
        cached = self._live.get(model)
        return cached[2] if cached is not None and now - cached[0] < self._pointer_seconds else None

    def _followed_to(self, pointer: LivePointer) -> LiveBatch | None:
        """Return what a pointer points at if it was followed before: a publication never changes."""
        cached = self._live.get(pointer.model)
        return cached[2] if cached is not None and cached[1] == pointer else None

    def _followed(
        self, pointer: LivePointer, read_at: float, entry: PublicationEntry | None, until: float
    ) -> LiveBatch:
        """Return what a pointer points at, and believe it from the moment it was read.

        Args:
            pointer: It, with a batch.
            read_at: The moment.
            entry: The publication of the pointer's sequence, if it was read already.
            until: The moment to give up.
        """
        live = self._followed_to(pointer)
        if live is None:
            entry = self._publication(pointer, entry, until)
            if pointer.batch_id is None or entry.batch_id != pointer.batch_id or entry.serving is None:
                raise BrokenPublicationError(
                    f"publication {entry.sequence} of {pointer.model} does not tell how to serve what is live"
                )
            live = _live_batch(pointer.model, entry, pointer.published_at or entry.published_at)
        self._live.put(pointer.model, (read_at, pointer, live))
        return live

    def _publication(
        self, pointer: LivePointer, entry: PublicationEntry | None, until: float
    ) -> PublicationEntry:
        """Return the entry that made the live batch live.

        It has the pointer's sequence, unless a later entry changed something else, say the hold; then the
        batch's own record tells.
        """
        entry = entry or self._entry(pointer.model, pointer.sequence, until)
        if entry is not None and entry.serving is not None:
            return entry
        item = self._record(batch_key(pointer.model, pointer.batch_id or ""), until)
        sequence = BatchRecord.from_item(item).published_sequence if item else None
        entry = self._entry(pointer.model, sequence, until) if sequence is not None else None
        if entry is None:
            raise BrokenPublicationError(
                f"{pointer.model} points at {pointer.batch_id}, and no publication of it is recorded"
            )
        return entry

    def _entry(self, model: str, sequence: int, until: float) -> PublicationEntry | None:
        item = self._record(publication_key(model, sequence), until)
        return PublicationEntry.from_item(item) if item else None

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


def _live_batch(model: str, entry: PublicationEntry, published_at: str) -> LiveBatch:
    """Return the batch that a publication made live.

    Raises:
        BrokenPublicationError: It does not tell how to serve it.
    """
    try:
        serving = Serving.from_json(entry.serving or "")
        published = parse_moment(published_at).timestamp()
    except (InvalidServingError, ValueError) as error:
        raise BrokenPublicationError(f"publication {entry.sequence} of {model}: {error}") from error
    batch_id, partition = entry.batch_id or "", entry.partition or ""
    provenance = {
        "batch_id": batch_id,
        "partition": partition,
        "model_version": serving.model_version,
        "published_at": published_at,
        "sequence": entry.sequence,
    }
    return LiveBatch(
        model=model,
        batch_id=batch_id,
        partition=partition,
        sequence=entry.sequence,
        published_at=published_at,
        published=published,
        serving=serving,
        items=OnlineItems(serving.schema),
        provenance=json.dumps(provenance, ensure_ascii=False, separators=(",", ":")),
    )
