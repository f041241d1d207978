"""The request headers that a provider requires, for example an API key, from Secrets Manager."""

from __future__ import annotations

import json
import threading
import time
from typing import TYPE_CHECKING
from urllib.parse import urlsplit

from api_lambda.http.http_connections import HttpFaultError, OutgoingRequest
from aws_wire.request_signer import RequestSigner

if TYPE_CHECKING:
    from collections.abc import Callable, Mapping

    from api_lambda.http.http_connections import HttpConnections
    from api_lambda.settings import Settings

_CONTENT_TYPE = "application/x-amz-json-1.1"
_SECONDS = 1.0
# After a refusal the secret is read again at once; this limits the age of a secret that is still accepted.
_FRESH_SECONDS = 3_600
# A provider that refuses every secret must not make us read it on every request.
_SECONDS_BETWEEN_READS = 60
_OK = 200


class SecretUnavailableError(Exception):
    """A secret could not be read, or is not a JSON object of headers."""


class ProviderSecret:
    """One provider's secret, read when it is first needed."""

    def __init__(
        self,
        connections: HttpConnections,
        settings: Settings,
        name: str,
        *,
        clock: Callable[[], float] = time.monotonic,
    ) -> None:
        self._connections = connections
        self._url = f"{settings.secrets_url}/"
        self._signer = RequestSigner(
            lambda: settings.credentials,
            settings.deployment.region,
            urlsplit(settings.secrets_url).netloc,
            service="secretsmanager",
            content_type=_CONTENT_TYPE,
        )
        self._name = name
        self._clock = clock
        self._lock = threading.Lock()
        self._headers: Mapping[str, str] | None = None
        self._looked_at: float | None = None

    def headers(self) -> Mapping[str, str]:
        """Return the headers to send.

        Raises:
            SecretUnavailableError: The secret could not be read or is malformed.
        """
        with self._lock:
            if self._headers is None or self._age() >= _FRESH_SECONDS:
                if self._headers is None and self._age() < _SECONDS_BETWEEN_READS:
                    raise SecretUnavailableError("its secret could not be read a moment ago")
                self._looked_at = self._clock()
                self._headers = self._read()
            return self._headers

    def reload_after_refusal(self) -> bool:
        """Read the secret again after the provider refused it, and return whether it has changed."""
        with self._lock:
            before = self._headers
            if before is None or self._age() < _SECONDS_BETWEEN_READS:
                return False
            self._looked_at = self._clock()
            self._headers = self._read()
            return self._headers != before

    def _age(self) -> float:
        return float("inf") if self._looked_at is None else self._clock() - self._looked_at

    def _read(self) -> Mapping[str, str]:
        body = json.dumps({"SecretId": self._name}).encode()
        headers = self._signer.headers("secretsmanager.GetSecretValue", body)
        try:
            answer = self._connections.send(OutgoingRequest(self._url, "POST", headers, body), _SECONDS)
            if answer.status != _OK:
                raise SecretUnavailableError(f"reading its secret was refused with status {answer.status}")
            found = json.loads(json.loads(answer.body)["SecretString"])
        except HttpFaultError as error:
            raise SecretUnavailableError(f"its secret could not be read: {error}") from error
        except (KeyError, TypeError, ValueError) as error:
            # The error's message may quote the secret.
            raise SecretUnavailableError("its secret is not JSON") from error
        if not isinstance(found, dict) or not all(isinstance(value, str) for value in found.values()):
            raise SecretUnavailableError("its secret is not a JSON object of headers")
        return found
