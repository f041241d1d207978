"""What is live, and its predictions: one look at the pointer per request, then one item of that batch."""

from __future__ import annotations

import time
from dataclasses import dataclass
from typing import TYPE_CHECKING, Any

from api_lambda.bounded_cache import BoundedCache
from prediction_contract.moments import parse_moment
from prediction_contract.online_item import BATCH_ATTRIBUTE, KEY_ATTRIBUTE, DamagedItemError, OnlineItems
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
    from collections.abc import Callable, Iterable

    from api_lambda.dynamodb import ItemReader
    from prediction_contract.online_item import StoredPrediction
    from prediction_contract.resource_names import Deployment

MOST_MODELS = 256
_MODELS_SECONDS = 60
_READY_SECONDS = 5
# What DynamoDB reads in one go.
MOST_KEYS = 100


class UnknownModelError(Exception):
    """Nothing of this model is live in this region: there is no such model, or it was never published."""


class UnknownEntityError(Exception):
    """The live batch has no prediction for the entity."""


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
    """

    model: str
    batch_id: str
    partition: str
    sequence: int
    published_at: str
    published: float
    serving: Serving
    items: OnlineItems


class OnlineStore:
    """Reads pointers, publications and predictions of one region."""

    def __init__(
        self,
        reader: ItemReader,
        deployment: Deployment,
        *,
        pointer_seconds: float,
        clock: Callable[[], float] = time.monotonic,
    ) -> None:
        """Take the store's parts.

        Args:
            reader: Of the region's tables.
            deployment: Whose tables; its region says which pointer counts.
            pointer_seconds: For how long a pointer is believed.
            clock: Seconds, never going back.
        """
        self._reader = reader
        self._deployment = deployment
        self._pointer_seconds = pointer_seconds
        self._clock = clock
        self._live: BoundedCache[str, tuple[float, LivePointer, LiveBatch]] = BoundedCache(MOST_MODELS)
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
        cached = self._live.get(model)
        if cached is not None and now - cached[0] < self._pointer_seconds:
            return cached[2]
        item = self._record(pointer_key(model, self._deployment.region), until)
        pointer = LivePointer.from_item(item) if item else None
        if pointer is None or pointer.batch_id is None:
            raise UnknownModelError
        live = cached[2] if cached is not None and cached[1] == pointer else self._resolve(pointer, until)
        self._live.put(model, (now, pointer, live))
        return live

    def prediction(self, live: LiveBatch, entity_id: str, until: float) -> StoredPrediction:
        """Return an entity's prediction in a batch.

        Args:
            live: The batch.
            entity_id: The entity.
            until: The moment, by `time.monotonic`, to give up.

        Raises:
            UnknownEntityError: The batch has none.
            DamagedItemError: The item is not what was written.
            StoreUnavailableError: The table gave no answer.
            StoreRefusedError: The table refused.
        """
        table = self._deployment.online_table(live.model)
        key = {KEY_ATTRIBUTE: entity_id, BATCH_ATTRIBUTE: live.batch_id}
        item = self._reader.get_item(table, key, consistent=False, until=until)
        if item is None:
            # The cheap read may miss what was written a moment ago; "there is none" must be certain.
            item = self._reader.get_item(table, key, consistent=True, until=until)
        if item is None:
            raise UnknownEntityError
        return self._read(live, item)

    def predictions(
        self, live: LiveBatch, entity_ids: Iterable[str], until: float
    ) -> dict[str, StoredPrediction]:
        """Return the predictions of those of up to 100 entities that a batch has, by entity.

        The rest is as with `prediction`.
        """
        keys = {entity_id: (entity_id, live.batch_id) for entity_id in entity_ids}
        items = self._items(live.model, list(keys.values()), until)
        return {entity_id: self._read(live, items[key]) for entity_id, key in keys.items() if key in items}

    def predictions_of(
        self, batches: Iterable[LiveBatch], entity_id: str, until: float
    ) -> dict[str, StoredPrediction]:
        """Return one entity's predictions in those of up to 100 batches that have one, by batch id."""
        by_id = {batch.batch_id: batch for batch in batches}
        model = next((batch.model for batch in by_id.values()), "")
        items = self._items(model, [(entity_id, batch_id) for batch_id in by_id], until)
        return {batch_id: self._read(by_id[batch_id], item) for (_, batch_id), item in items.items()}

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
        names = {"model": first.model, "record": first.record}
        items = self._reader.query_backwards(
            self._deployment.registry_table, names, highest.record, most=most, until=until
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
        """Return the names of the deployment's models, published or not; at most a minute old."""
        now = self._clock()
        if self._models is None or now - self._models[0] >= _MODELS_SECONDS:
            prefix = self._deployment.online_tables_prefix
            tables = self._reader.table_names(prefix, most=MOST_MODELS, until=until)
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
        keys = [pointer_key(model, self._deployment.region) for model in self.models(until)[:MOST_KEYS]]
        # Without any model there is a question all the same.
        names = [{"model": key.model, "record": key.record} for key in keys or [pointer_key("none", "none")]]
        items = self._reader.batch_get(self._deployment.registry_table, names, consistent=True, until=until)
        for item in items:
            LivePointer.from_item(item)
        self._ready_at = now

    def _items(
        self, model: str, keys: list[tuple[str, str]], until: float
    ) -> dict[tuple[str, str], dict[str, Any]]:
        """Return the items of these entities and batches that there are."""
        found: dict[tuple[str, str], dict[str, Any]] = {}
        for consistent in (False, True):
            # As with one: "there is none" must be certain.
            missing = [key for key in keys if key not in found]
            if missing:
                names = [{KEY_ATTRIBUTE: entity, BATCH_ATTRIBUTE: batch} for entity, batch in missing]
                table = self._deployment.online_table(model)
                for item in self._reader.batch_get(table, names, consistent=consistent, until=until):
                    found[item[KEY_ATTRIBUTE]["S"], item[BATCH_ATTRIBUTE]["S"]] = item
        return found

    def _read(self, live: LiveBatch, item: dict[str, Any]) -> StoredPrediction:
        stored = live.items.read(item)
        if not stored.is_intact:
            raise DamagedItemError(
                "An item of a published batch does not have the checksum it was written with",
                remedy="Load the batch again, or roll back",
                model=live.model,
                batch_id=live.batch_id,
            )
        return stored

    def _resolve(self, pointer: LivePointer, until: float) -> LiveBatch:
        entry = self._publication(pointer, until)
        if pointer.batch_id is None or entry.batch_id != pointer.batch_id or entry.serving is None:
            raise BrokenPublicationError(
                f"publication {entry.sequence} of {pointer.model} does not tell how to serve the live batch"
            )
        return _live_batch(pointer.model, entry, pointer.published_at or entry.published_at)

    def _publication(self, pointer: LivePointer, until: float) -> PublicationEntry:
        """Return the entry that made the live batch live.

        It has the pointer's sequence, unless a later entry changed something else, say the hold; then the
        batch's own record tells.
        """
        entry = self._entry(pointer.model, pointer.sequence, until)
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
        names = {"model": key.model, "record": key.record}
        return self._reader.get_item(self._deployment.registry_table, names, consistent=True, until=until)


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
    return LiveBatch(
        model=model,
        batch_id=entry.batch_id or "",
        partition=entry.partition or "",
        sequence=entry.sequence,
        published_at=published_at,
        published=published,
        serving=serving,
        items=OnlineItems(serving.schema),
    )
