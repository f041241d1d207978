"""Fetches third-party facts for a prediction, in parallel and within one time budget."""

from __future__ import annotations

import queue
import threading
import time
from contextvars import copy_context
from dataclasses import dataclass
from typing import TYPE_CHECKING

from api_lambda.bounded_cache import BoundedCache
from api_lambda.enrichment.providers import ProviderFaultError

if TYPE_CHECKING:
    from collections.abc import Callable, Iterable, Mapping

    from api_lambda.enrichment.providers import Provider
    from prediction_contract.rows.row_contract import Row
    from prediction_contract.stores.serving_record import Enrichment

    # The enrichment's name, its data or None, and the reason if it is None.
    _Answers = queue.SimpleQueue[tuple[str, str | None, str]]

STALE_SECONDS = 24 * 3_600
# The function has 1,024 MB.
_MAX_CACHED_BYTES = 32 * 1024 * 1024
# An entry's size without its texts.
_ENTRY_BYTES = 512
# Servers accept about 8,000 characters; a row's text may be longer.
_LONGEST_URL = 8_000


@dataclass(frozen=True, slots=True)
class EnrichmentOutcome:
    """The outcome of one enrichment.

    Attributes:
        status: `ok`, `stale` (the provider failed, so this is an older answer), `unavailable`, or
            `not_applicable` (the row lacks a value that the URL needs).
        data: The declared fields as a JSON object; None unless `ok` or `stale`.
        age_seconds: The data's age; None without data.
        reason: Why it is not `ok`, for the log.
    """

    status: str
    data: str | None = None
    age_seconds: int | None = None
    reason: str | None = None

    def to_json(self) -> str:
        """Return the outcome as the answer shows it."""
        if self.data is None:
            return f'{{"status":"{self.status}"}}'
        return f'{{"status":"{self.status}","age_seconds":{self.age_seconds},"data":{self.data}}}'


@dataclass(frozen=True, slots=True)
class _Cached:
    data: str
    fetched_at: float


def _bytes_of(key: tuple[str, tuple[str, ...]], cached: _Cached) -> int:
    # One character beyond ASCII makes every character of the text take up to four bytes.
    return _ENTRY_BYTES + len(key[0]) + len(cached.data) * (1 if cached.data.isascii() else 4)


class Enricher:
    """Calls the providers that the deployment allows, and caches their answers."""

    def __init__(
        self,
        providers: Mapping[str, Provider],
        *,
        budget_seconds: float,
        clock: Callable[[], float] = time.monotonic,
    ) -> None:
        """Configure the enricher.

        Args:
            providers: The providers by origin; no other origin is called.
            budget_seconds: The time for all enrichments of a request together.
            clock: Returns monotonic seconds.
        """
        self._providers = providers
        self._budget = budget_seconds
        self._clock = clock
        self._cache: BoundedCache[tuple[str, tuple[str, ...]], _Cached] = BoundedCache(
            _MAX_CACHED_BYTES, _bytes_of
        )

    def enrich(self, enrichments: Iterable[Enrichment], row: Row) -> dict[str, EnrichmentOutcome]:
        """Return the outcomes by name, in order, once all are known or the time budget is spent."""
        deadline = time.monotonic() + self._budget
        outcomes: dict[str, EnrichmentOutcome | None] = {}
        asked: dict[str, tuple[Enrichment, str]] = {}
        answers: _Answers = queue.SimpleQueue()
        for enrichment in enrichments:
            outcome, url = self._known_outcome(enrichment, row)
            outcomes[enrichment.name] = outcome
            if url is not None:
                asked[enrichment.name] = enrichment, url
                self._ask(enrichment, url, answers, deadline)
        for _ in asked:
            try:
                name, data, reason = answers.get(timeout=max(0.0, deadline - time.monotonic()))
            except queue.Empty:
                break
            ok = data is not None
            outcomes[name] = EnrichmentOutcome("ok", data, 0) if ok else self._stale(*asked[name], reason)
        return {
            name: outcome or self._stale(*asked[name], "the time budget was spent")
            for name, outcome in outcomes.items()
        }

    def _known_outcome(self, enrichment: Enrichment, row: Row) -> tuple[EnrichmentOutcome | None, str | None]:
        """Return the outcome if no call is needed, else the URL to call."""
        if enrichment.origin not in self._providers:
            return EnrichmentOutcome("unavailable", reason="the origin is not on the deployment's list"), None
        url = enrichment.url_for(row)
        if url is None or len(url) > _LONGEST_URL:
            return EnrichmentOutcome("not_applicable"), None
        cached = self._cache.get((url, enrichment.fields))
        if cached is not None:
            age = self._clock() - cached.fetched_at
            if age < enrichment.cache_seconds:
                return EnrichmentOutcome("ok", cached.data, int(age)), None
        return None, url

    def _ask(self, enrichment: Enrichment, url: str, answers: _Answers, until: float) -> None:
        provider = self._providers[enrichment.origin]
        reason = provider.reserve()
        if reason is not None:
            answers.put((enrichment.name, None, reason))
            return
        # In the request's context, for its trace id. A daemon, so that it never keeps the process alive.
        arguments = (self._call, provider, enrichment, url, answers, until)
        thread = threading.Thread(target=copy_context().run, args=arguments, daemon=True)
        try:
            thread.start()
        except RuntimeError:
            provider.give_back()
            answers.put((enrichment.name, None, "the process has no thread left"))

    def _call(
        self, provider: Provider, enrichment: Enrichment, url: str, answers: _Answers, until: float
    ) -> None:
        try:
            data, reason = provider.fetch(enrichment, url, until), ""
            # Cached even if the request has already been answered: the next one may need it.
            self._cache.put((url, enrichment.fields), _Cached(data, self._clock()))
        except ProviderFaultError as error:
            data, reason = None, str(error)
        except Exception as error:  # noqa: BLE001 -- a thread's last boundary: the request waits for an answer
            data, reason = None, type(error).__name__
        answers.put((enrichment.name, data, reason))

    def _stale(self, enrichment: Enrichment, url: str, reason: str) -> EnrichmentOutcome:
        cached = self._cache.get((url, enrichment.fields))
        age = self._clock() - cached.fetched_at if cached is not None else STALE_SECONDS
        if cached is None or age >= STALE_SECONDS:
            return EnrichmentOutcome("unavailable", reason=reason)
        return EnrichmentOutcome("stale", cached.data, int(age), reason)
