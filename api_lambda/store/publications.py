"""What is live and what was published, in one region: pointers are believed for seconds, entries for ever."""

from __future__ import annotations

import time
from dataclasses import replace
from typing import TYPE_CHECKING

from api_lambda.bounded_cache import BoundedCache
from api_lambda.store.live_batch import BrokenPublicationError, LiveBatch, live_batch
from api_lambda.store.pointer_resolver import PointerResolver, ServedBatch
from api_lambda.store.registry_reader import MAX_MODELS, RegistryReader

if TYPE_CHECKING:
    from collections.abc import Callable, Sequence

    from api_lambda.store.item_reader import ItemReader
    from prediction_contract.naming.resource_names import Deployment
    from prediction_contract.registry.records import LivePointer, PublicationEntry

_MAX_POINTERS = 512
_MODELS_SECONDS = 60
_READY_SECONDS = 5


class ModelNotLiveError(Exception):
    """Nothing of this model is live in this region: there is no such model, or it was never published."""


class Publications:
    """Answers from one region's registry, and remembers what was read a moment ago.

    Args:
        reader: Of the region's tables.
        deployment: Whose registry; its region says which pointer counts.
        pointer_seconds: For how long a pointer is believed.
        clock: Seconds, never going back.
    """

    def __init__(
        self,
        reader: ItemReader,
        deployment: Deployment,
        *,
        pointer_seconds: float,
        clock: Callable[[], float] = time.monotonic,
    ) -> None:
        self._registry = RegistryReader(reader, deployment)
        self._resolver = PointerResolver(self._registry, deployment.region)
        self._pointer_seconds = pointer_seconds
        self._clock = clock
        self._served: BoundedCache[str, ServedBatch] = BoundedCache(_MAX_POINTERS)
        self._models: tuple[float, list[str]] | None = None
        self._ready_at: float | None = None

    def live(self, model: str, until: float) -> LiveBatch:
        """Return the batch that a model serves now, at most `pointer_seconds` late.

        Args:
            model: The model's name.
            until: The moment, by `time.monotonic`, to give up.

        Raises:
            ModelNotLiveError: The region serves nothing of the model.
            PublicationNotReplicatedError: Neither the publication nor an earlier one has arrived.
            BrokenPublicationError: The publication cannot be served.
            StoreUnavailableError: The registry gave no answer.
            StoreRefusedError: The registry refused.
        """
        now = self._clock()
        recent = self._recent(model, now)
        if recent is not None:
            return recent
        pointer = self._registry.pointer(model, until)
        if pointer is None or pointer.batch_id is None:
            raise ModelNotLiveError
        return self._resolved(pointer, None, now, until)

    def live_of(self, models: Sequence[str], until: float) -> dict[str, LiveBatch | BrokenPublicationError]:
        """Return what each of up to 100 models serves, as `live` does; one that serves nothing is not there.

        A publication that cannot be served stands in its model's place and hides no other.

        Raises:
            StoreUnavailableError: The registry gave no answer.
            StoreRefusedError: The registry refused.
        """
        now = self._clock()
        recent = {model: self._recent(model, now) for model in models}
        found: dict[str, LiveBatch | BrokenPublicationError] = {
            model: live for model, live in recent.items() if live is not None
        }
        pointers = self._registry.pointers([model for model in models if model not in found], until)
        live = [pointer for pointer in pointers if pointer.batch_id is not None]
        moved = [pointer for pointer in live if not self._is_resolved(pointer)]
        entries = {entry.model: entry for entry in self._registry.publications_of(moved, until)}
        for pointer in live:
            try:
                found[pointer.model] = self._resolved(pointer, entries.get(pointer.model), now, until)
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
        entries = self._registry.publications_up_to(live.model, last, most, until)
        following = entries[-1].sequence if len(entries) == most and entries[-1].sequence > 1 else None
        # A hold makes nothing live.
        shown = [entry for entry in entries if entry.makes_live and entry.serving]
        return [live_batch(entry, entry.published_at) for entry in shown], following

    def models(self, until: float) -> list[str]:
        """Return the names of the deployment's models, published or not, in order; at most a minute old."""
        now = self._clock()
        if self._models is None or now - self._models[0] >= _MODELS_SECONDS:
            self._models = now, self._registry.models(until)
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
        # Without any model there is a question all the same.
        self._registry.pointers(self.models(until)[:MAX_MODELS] or ["none"], until)
        self._ready_at = now

    def _recent(self, model: str, now: float) -> LiveBatch | None:
        """Return what a model serves if its pointer was read a moment ago."""
        served = self._served.get(model)
        return served.live if served is not None and now - served.read_at < self._pointer_seconds else None

    def _is_resolved(self, pointer: LivePointer) -> bool:
        """Whether the pointer's publication was read before: it never changes."""
        served = self._served.get(pointer.model)
        return served is not None and served.pointer == pointer

    def _resolved(
        self, pointer: LivePointer, entry: PublicationEntry | None, read_at: float, until: float
    ) -> LiveBatch:
        """Return what a pointer stands for, and believe it from the moment it was read."""
        served = self._served.get(pointer.model)
        if served is None or served.pointer != pointer:
            served = self._resolver.resolve(pointer, entry, served, read_at=read_at, until=until)
        else:
            served = replace(served, confirmed_at=read_at)
        self._served.put(pointer.model, replace(served, read_at=read_at))
        return served.live
