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
# A provider that never answers holds a thread per call until the timeout.
_MAX_CALLS = 8
# In less time than this, another try cannot succeed.
_LEAST_SECONDS = 0.05
_OK = 200
_REFUSED = frozenset({401, 403})
_TOO_MANY = 429
_SERVER_ERRORS = 500
_WRITTEN_AS_ADDRESS = re.compile(r"https?://(?:[0-9.]+|\[[0-9a-f:]+\])(?::[0-9]+)?")


class ProviderFaultError(Exception):
    """A provider gave no usable answer."""


class _PassingFaultError(ProviderFaultError):
    """A fault that may pass: the provider was unreachable or busy, or had an internal error."""


class CircuitBreaker:
    """Opens after several failures in a row; then it admits one trial call per `OPEN_SECONDS`."""

    def __init__(self, clock: Callable[[], float]) -> None:
        self._clock = clock
        self._lock = threading.Lock()
        self._failures = 0
        self._tried_at = 0.0

    def admits(self) -> bool:
        """Return whether a call may be made now; report its outcome by `succeeded` or `failed`."""
        with self._lock:
            now = self._clock()
            if self._failures < FAILURES_TO_OPEN:
                return True
            if now - self._tried_at < OPEN_SECONDS:
                return False
            # This call is the trial; the next one is admitted even if this one's outcome is never reported.
            self._tried_at = now
            return True

    def succeeded(self) -> None:
        """Close the breaker after an answer."""
        with self._lock:
            self._failures = 0

    def failed(self) -> None:
        """Count a failure; open the breaker after enough of them."""
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
            connections: The HTTP connections to use.
            origin: `https://host[:port]`. An IP address may be private, because the operator chose it; a host
                name must resolve to public addresses.
            secret: The headers that this provider requires; they are sent to it alone.
            clock: Returns monotonic seconds.
        """
        self._connections = connections
        self._secret = secret
        self._public_only = not _WRITTEN_AS_ADDRESS.fullmatch(origin)
        self._breaker = CircuitBreaker(clock)
        self._calls = threading.BoundedSemaphore(_MAX_CALLS)

    def reserve(self) -> str | None:
        """Reserve one call of `fetch`; return None, or the reason why it is refused."""
        if not self._calls.acquire(blocking=False):
            return "too many calls are under way"
        if not self._breaker.admits():
            self._calls.release()
            return "it failed several times in a row"
        return None

    def give_back(self) -> None:
        """Release a reservation without calling `fetch`."""
        self._calls.release()

    def fetch(self, enrichment: Enrichment, url: str, until: float) -> str:
        """Return the declared fields of the answer as a JSON object, with numbers written as received.

        Retries once after a transient fault if there is time. The call must have been reserved.

        Args:
            enrichment: Its fields and its timeout for one try.
            url: A URL of this origin.
            until: The deadline, by `time.monotonic`.

        Raises:
            ProviderFaultError: The provider gave no usable answer.
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
            # It answers, even if not usefully, so the breaker stays closed.
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
            if answer.status in _REFUSED and self._secret is not None and self._secret.reload_after_refusal():
                answer = self._send(url, seconds)
            if answer.status == _TOO_MANY or answer.status >= _SERVER_ERRORS:
                raise _PassingFaultError(f"status {answer.status}")
            if answer.status != _OK:
                raise ProviderFaultError(f"status {answer.status}")
            document = parse_json(answer.body)
            if not isinstance(document, dict):
                raise ProviderFaultError("the answer is not a JSON object")
            return canonical_bytes({name: document.get(name) for name in enrichment.fields}).decode()
        except HttpFaultError as error:
            raise _PassingFaultError(str(error)) from error
        except SecretUnavailableError as error:
            raise _PassingFaultError(str(error)) from error
        except (InvalidJsonError, RecursionError) as error:
            raise ProviderFaultError("the answer is not valid JSON") from error

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
