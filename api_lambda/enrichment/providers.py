"""The third-party APIs that the deployment allows, each with its secret, circuit breaker and call limit."""

from __future__ import annotations

import re
import threading
import time
from typing import TYPE_CHECKING

from api_lambda.enrichment.provider_secrets import SecretUnavailableError
from api_lambda.http.http_connections import HttpFaultError, OutgoingRequest
from prediction_contract.text.canonical_json import InvalidJsonError, canonical_bytes, parse_json

if TYPE_CHECKING:
    from collections.abc import Callable

    from api_lambda.enrichment.provider_secrets import ProviderSecret
    from api_lambda.http.http_connections import HttpConnections
    from aws_wire.http_answer import HttpAnswer
    from prediction_contract.stores.serving_record import Enrichment

FAILURES_TO_OPEN = 5
OPEN_SECONDS = 10.0
_MAX_BYTES = 65_536
# A provider that swallows requests holds a thread for each until its timeout; it shall not hold very many.
_MAX_CALLS = 8
# With less time than this another try would come to nothing.
_LEAST_SECONDS = 0.05
_OK = 200
_REFUSED = frozenset({401, 403})
_TOO_MANY = 429
_SERVER_ERRORS = 500
_WRITTEN_AS_ADDRESS = re.compile(r"https?://(?:[0-9.]+|\[[0-9a-f:]+\])(?::[0-9]+)?")


class ProviderFaultError(Exception):
    """A provider gave no usable answer."""


class _PassingFaultError(ProviderFaultError):
    """It may give one soon: it was not reached, was busy, or failed inside."""


class CircuitBreaker:
    """Opens after failures in a row; then it admits one trial call per `OPEN_SECONDS`."""

    def __init__(self, clock: Callable[[], float]) -> None:
        self._clock = clock
        self._lock = threading.Lock()
        self._failures = 0
        self._tried_at = 0.0

    def admits(self) -> bool:
        """Tell whether to call now; a call that is admitted is to be followed by its outcome."""
        with self._lock:
            now = self._clock()
            if self._failures < FAILURES_TO_OPEN:
                return True
            if now - self._tried_at < OPEN_SECONDS:
                return False
            # This call is the trial; should its outcome never come, the next one follows all the same.
            self._tried_at = now
            return True

    def succeeded(self) -> None:
        """Close: the callee answers."""
        with self._lock:
            self._failures = 0

    def failed(self) -> None:
        """Count a failure, and open after enough of them."""
        with self._lock:
            self._failures += 1
            self._tried_at = self._clock()


class Provider:
    """One origin that may be called."""

    def __init__(
        self,
        connections: HttpConnections,
        origin: str,
        *,
        secret: ProviderSecret | None = None,
        clock: Callable[[], float] = time.monotonic,
    ) -> None:
        """Configure one provider.

        Args:
            connections: To call with.
            origin: `https://host[:port]`. One that is written as an address may lie in a private network,
                since the operator wrote just that; a name may not lead there.
            secret: The headers that it requires; nobody else gets them.
            clock: Seconds, never going back.
        """
        self._connections = connections
        self._secret = secret
        self._public_only = not _WRITTEN_AS_ADDRESS.fullmatch(origin)
        self._breaker = CircuitBreaker(clock)
        self._calls = threading.BoundedSemaphore(_MAX_CALLS)

    def reserve(self) -> str | None:
        """Reserve one call of `fetch`; return why that is refused, or None."""
        if not self._calls.acquire(blocking=False):
            return "too many calls are under way"
        if not self._breaker.admits():
            self._calls.release()
            return "it failed again and again"
        return None

    def give_back(self) -> None:
        """Release a reservation that no call of `fetch` follows."""
        self._calls.release()

    def fetch(self, enrichment: Enrichment, url: str, until: float) -> str:
        """Return the declared fields of the answer as a JSON object, numbers as they were spelt.

        A fault that may pass is followed by one more try if there is time.

        Args:
            enrichment: Says which fields, and how long one try may take.
            url: Of this origin; the call must have been reserved.
            until: The moment, by `time.monotonic`, until which somebody waits.

        Raises:
            ProviderFaultError: There was no usable answer.
        """
        seconds = enrichment.timeout_milliseconds / 1000
        alive = False
        try:
            try:
                found = self._try(enrichment, url, seconds)
            except _PassingFaultError:
                left = until - time.monotonic()
                if left < _LEAST_SECONDS:
                    raise
                found = self._try(enrichment, url, min(seconds, left))
            alive = True
        except _PassingFaultError:
            raise
        except ProviderFaultError:
            # It answers, although not usefully: the breaker stays closed.
            alive = True
            raise
        finally:
            if alive:
                self._breaker.succeeded()
            else:
                self._breaker.failed()
            self._calls.release()
        return found

    def _try(self, enrichment: Enrichment, url: str, seconds: float) -> str:
        try:
            answer = self._send(url, seconds)
            if answer.status in _REFUSED and self._secret is not None and self._secret.was_refused():
                answer = self._send(url, seconds)
            if answer.status == _TOO_MANY or answer.status >= _SERVER_ERRORS:
                raise _PassingFaultError(f"status {answer.status}")
            if answer.status != _OK:
                raise ProviderFaultError(f"status {answer.status}")
            document = parse_json(answer.body)
            if not isinstance(document, dict):
                raise ProviderFaultError("no JSON object")
            return canonical_bytes({name: document.get(name) for name in enrichment.fields}).decode()
        except HttpFaultError as error:
            raise _PassingFaultError(str(error)) from error
        except SecretUnavailableError as error:
            raise _PassingFaultError(str(error)) from error
        except (InvalidJsonError, RecursionError) as error:
            raise ProviderFaultError("no JSON that can be held") from error

    def _send(self, url: str, seconds: float) -> HttpAnswer:
        secret = self._secret.headers() if self._secret is not None else {}
        return self._connections.send(
            OutgoingRequest(
                url,
                headers={"Accept": "application/json", "User-Agent": "mlpipe", **secret},
                max_bytes=_MAX_BYTES,
                public_only=self._public_only,
            ),
            seconds,
        )
