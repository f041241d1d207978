"""What is live, and its predictions: one look at the pointer per request, then one item of that batch."""

from __future__ import annotations

import time
from dataclasses import dataclass
from typing import TYPE_CHECKING, Any

from api_lambda.bounded_cache import BoundedCache
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
    from collections.abc import Callable

    from api_lambda.dynamodb import ItemReader
    from prediction_contract.online_item import StoredPrediction
    from prediction_contract.resource_names import Deployment

_MOST_MODELS = 256


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
        serving: Schema, model version, enrichments.
        items: Reads its items.
    """

    model: str
    batch_id: str
    partition: str
    sequence: int
    published_at: str
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
        self._live: BoundedCache[str, tuple[float, LivePointer, LiveBatch]] = BoundedCache(_MOST_MODELS)

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
        stored = live.items.read(item)
        if not stored.is_intact:
            raise DamagedItemError(
                "An item of the live batch does not have the checksum it was written with",
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
        try:
            serving = Serving.from_json(entry.serving)
        except InvalidServingError as error:
            raise BrokenPublicationError(
                f"publication {entry.sequence} of {pointer.model}: {error}"
            ) from error
        return LiveBatch(
            model=pointer.model,
            batch_id=pointer.batch_id,
            partition=pointer.partition or "",
            sequence=entry.sequence,
            published_at=pointer.published_at or entry.published_at,
            serving=serving,
            items=OnlineItems(serving.schema),
        )

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
