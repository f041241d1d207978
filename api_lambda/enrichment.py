"""Facts of third parties, beside a prediction: asked in parallel within one time budget, never in its way."""

from __future__ import annotations

import queue
import re
import threading
import time
from dataclasses import dataclass
from typing import TYPE_CHECKING

from api_lambda.bounded_cache import BoundedCache
from api_lambda.http_connections import HttpFaultError, Outgoing
from prediction_contract.canonical_json import InvalidJsonError, canonical_bytes, parse_json

if TYPE_CHECKING:
    from collections.abc import Callable, Iterable

    from api_lambda.http_connections import HttpConnections
    from prediction_contract.row import Row
    from prediction_contract.serving import Enrichment

STALE_SECONDS = 24 * 3_600
_MOST_BYTES = 65_536
_MOST_CACHED = 2_000
# A provider that swallows requests holds a thread until its timeout; it shall not hold them all for ever.
_MOST_CALLS = 16
_OK = 200
_WRITTEN_AS_ADDRESS = re.compile(r"https?://(?:[0-9.]+|\[[0-9a-f:]+\])(?::[0-9]+)?")


@dataclass(frozen=True, slots=True)
class Outcome:
    """What became of one enrichment.

    Attributes:
        status: `ok`, `stale` (the provider failed; an older answer), `unavailable`, or `not_applicable` (the
            row has no value to ask with).
        data: The declared fields as a JSON object; None unless `ok` or `stale`.
        age_seconds: How old the data is; None without data.
        reason: For the log: why it is not `ok`.
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


class ProviderFaultError(Exception):
    """A provider gave no usable answer."""


@dataclass(frozen=True, slots=True)
class _Cached:
    data: str
    fetched_at: float


class Enricher:
    """Calls providers that the deployment allows, and remembers what they said."""

    def __init__(
        self,
        connections: HttpConnections,
        allowed_origins: frozenset[str],
        *,
        budget_seconds: float,
        clock: Callable[[], float] = time.monotonic,
    ) -> None:
        """Take the deployment's word on whom to call.

        Args:
            connections: To call with.
            allowed_origins: `https://host[:port]`. An origin that is written as an address may lie in a
                private network, since the operator wrote just that; a name may not lead there.
            budget_seconds: For all providers of a request together.
            clock: Seconds, never going back.
        """
        self._connections = connections
        self._allowed = allowed_origins
        self._budget = budget_seconds
        self._clock = clock
        self._cache: BoundedCache[tuple[str, tuple[str, ...]], _Cached] = BoundedCache(_MOST_CACHED)
        self._calls = threading.BoundedSemaphore(_MOST_CALLS)

    def enrich(self, enrichments: Iterable[Enrichment], row: Row) -> dict[str, Outcome]:
        """Return every enrichment's outcome by name, in order, when all are there or the budget is spent."""
        deadline = time.monotonic() + self._budget
        outcomes: dict[str, Outcome | None] = {}
        asked: dict[str, tuple[Enrichment, str]] = {}
        answers: queue.SimpleQueue[tuple[str, str | None, str]] = queue.SimpleQueue()
        for enrichment in enrichments:
            outcome, url = self._without_asking(enrichment, row)
            outcomes[enrichment.name] = outcome
            if url is not None:
                asked[enrichment.name] = enrichment, url
                self._ask(enrichment, url, answers)
        for _ in asked:
            try:
                name, data, reason = answers.get(timeout=max(0.0, deadline - time.monotonic()))
            except queue.Empty:
                break
            ok = data is not None
            outcomes[name] = Outcome("ok", data, 0) if ok else self._stale(*asked[name], reason)
        return {
            name: outcome or self._stale(*asked[name], "the time budget was spent")
            for name, outcome in outcomes.items()
        }

    def _without_asking(self, enrichment: Enrichment, row: Row) -> tuple[Outcome | None, str | None]:
        """Return the outcome if it is known already, else the URL to ask."""
        if enrichment.origin not in self._allowed:
            return Outcome("unavailable", reason="the origin is not on the deployment's list"), None
        url = enrichment.url_for(row)
        if url is None:
            return Outcome("not_applicable"), None
        cached = self._cache.get((url, enrichment.fields))
        if cached is not None:
            age = self._clock() - cached.fetched_at
            if age < enrichment.cache_seconds:
                return Outcome("ok", cached.data, int(age)), None
        return None, url

    def _ask(
        self, enrichment: Enrichment, url: str, answers: queue.SimpleQueue[tuple[str, str | None, str]]
    ) -> None:
        if not self._calls.acquire(blocking=False):
            answers.put((enrichment.name, None, "too many calls are under way"))
            return
        # A daemon: one that hangs in a name look-up must not keep the process from ending.
        threading.Thread(target=self._call, args=(enrichment, url, answers), daemon=True).start()

    def _call(
        self, enrichment: Enrichment, url: str, answers: queue.SimpleQueue[tuple[str, str | None, str]]
    ) -> None:
        try:
            data, reason = self._fetch(enrichment, url), ""
            # Kept although the request may have gone by now: the next one asks for the same.
            self._cache.put((url, enrichment.fields), _Cached(data, self._clock()))
        except ProviderFaultError as error:
            data, reason = None, str(error)
        except Exception as error:  # noqa: BLE001 -- a thread's last boundary: the request waits for its word
            data, reason = None, type(error).__name__
        finally:
            self._calls.release()
        answers.put((enrichment.name, data, reason))

    def _fetch(self, enrichment: Enrichment, url: str) -> str:
        """Return the declared fields of the provider's answer as a JSON object, numbers as they were spelt.

        Raises:
            ProviderFaultError: It gave none.
        """
        request = Outgoing(
            url,
            headers={"Accept": "application/json", "User-Agent": "mlpipe"},
            most_bytes=_MOST_BYTES,
            public_only=not _WRITTEN_AS_ADDRESS.fullmatch(enrichment.origin),
        )
        try:
            answer = self._connections.send(request, enrichment.timeout_milliseconds / 1000)
            if answer.status != _OK:
                raise ProviderFaultError(f"status {answer.status}")
            document = parse_json(answer.body)
            if not isinstance(document, dict):
                raise ProviderFaultError("no JSON object")
            return canonical_bytes({name: document.get(name) for name in enrichment.fields}).decode()
        except HttpFaultError as error:
            raise ProviderFaultError(str(error)) from error
        except InvalidJsonError as error:
            raise ProviderFaultError("not JSON") from error

    def _stale(self, enrichment: Enrichment, url: str, reason: str) -> Outcome:
        cached = self._cache.get((url, enrichment.fields))
        age = self._clock() - cached.fetched_at if cached is not None else STALE_SECONDS
        if cached is None or age >= STALE_SECONDS:
            return Outcome("unavailable", reason=reason)
        return Outcome("stale", cached.data, int(age), reason)
