"""One region's live batches and publications; pointers are cached for seconds, publications for good."""

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
    """The model does not exist, or has no live batch in this region."""


class Publications:
    """Reads live batches and publications from one region's registry, with a cache.

    Args:
        reader: Reads the region's tables.
        deployment: The deployment; its region determines the pointers.
        pointer_seconds: How long a pointer is cached.
        clock: Returns monotonic seconds.
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
        """Return the batch that a model serves, as of at most `pointer_seconds` ago.

        Args:
            model: The model's name.
            until: The deadline, by `time.monotonic`.

        Raises:
            ModelNotLiveError: The model has no live batch in this region.
            PublicationNotReplicatedError: Neither the publication nor an earlier one has arrived.
            BrokenPublicationError: The publication cannot be served.
            StoreUnavailableError: The registry gave no answer in time.
            StoreRefusedError: The registry refused the request.
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
        """Return the live batches of up to 100 models by name; models without one are left out.

        If a model's publication cannot be served, its value is the error.

        Raises:
            StoreUnavailableError: The registry gave no answer in time.
            StoreRefusedError: The registry refused the request.
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
        """Return the publications up to a live batch, newest first, and where the next page begins.

        Args:
            live: The batch that the region serves; later publications are left out.
            before: The sequence before which the page begins.
            most: How many publication entries to examine.
            until: The deadline, by `time.monotonic`.
        """
        last = min(live.sequence, before - 1)
        entries = self._registry.publications_up_to(live.model, last, most, until)
        following = entries[-1].sequence if len(entries) == most and entries[-1].sequence > 1 else None
        # Holds do not make a batch live.
        shown = [entry for entry in entries if entry.makes_live and entry.serving]
        return [live_batch(entry, entry.published_at) for entry in shown], following

    def models(self, until: float) -> list[str]:
        """Return the sorted names of all models of the deployment, as of at most a minute ago."""
        now = self._clock()
        if self._models is None or now - self._models[0] >= _MODELS_SECONDS:
            self._models = now, self._registry.models(until)
        return self._models[1]

    def require_ready(self, until: float) -> None:
        """Check that the region's pointers can be read; a result is reused for a few seconds.

        Raises:
            StoreUnavailableError: The store gave no answer in time.
            StoreRefusedError: The store refused the request.
        """
        now = self._clock()
        if self._ready_at is not None and now - self._ready_at < _READY_SECONDS:
            return
        # Without models, a made-up name still tests the store.
        self._registry.pointers(self.models(until)[:MAX_MODELS] or ["none"], until)
        self._ready_at = now

    def _recent(self, model: str, now: float) -> LiveBatch | None:
        """Return the model's live batch if its pointer is still cached."""
        served = self._served.get(model)
        return served.live if served is not None and now - served.read_at < self._pointer_seconds else None

    def _is_resolved(self, pointer: LivePointer) -> bool:
        """Return whether the pointer's publication, which never changes, was already read."""
        served = self._served.get(pointer.model)
        return served is not None and served.pointer == pointer

    def _resolved(
        self, pointer: LivePointer, entry: PublicationEntry | None, read_at: float, until: float
    ) -> LiveBatch:
        """Return the pointer's batch, and cache it from the time the pointer was read."""
        served = self._served.get(pointer.model)
        if served is None or served.pointer != pointer:
            served = self._resolver.resolve(pointer, entry, served, read_at=read_at, until=until)
        else:
            served = replace(served, confirmed_at=read_at)
        self._served.put(pointer.model, replace(served, read_at=read_at))
        return served.live
