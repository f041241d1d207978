"""AWS's signature, version 4, of many requests that differ in their bodies alone."""

from __future__ import annotations

import hashlib
import hmac
import time
from dataclasses import dataclass
from typing import TYPE_CHECKING, Any

if TYPE_CHECKING:
    from collections.abc import Callable

_SERVICE = "dynamodb"
_CONTENT_TYPE = "application/x-amz-json-1.0"


@dataclass(frozen=True, slots=True)
class _Second:
    """What all requests of one second and operation share."""

    head: bytes
    canonical: bytes
    to_sign: bytes
    key: bytes


class RequestSigner:
    """Writes the heads of signed requests; `botocore.auth.SigV4Auth` signs alike, at many times the cost.

    Args:
        credentials: botocore's, which it refreshes by itself when they are asked for.
        region: The region.
        host: As the header `Host` says it.
        path: The request's path.
        line: The request line's target if it is not the path: a plain proxy wants the whole address.
        clock: Returns the seconds since 1970.
    """

    def __init__(
        self,
        credentials: Any,
        region: str,
        host: str,
        path: str,
        *,
        line: str | None = None,
        clock: Callable[[], float] = time.time,
    ) -> None:
        self._credentials = credentials
        self._region = region
        self._host = host
        self._path = path
        self._line = line or path
        self._clock = clock
        self._made: dict[str, tuple[int, _Second]] = {}
        self._day_key: tuple[tuple[str, str], bytes] | None = None

    def head(self, operation: str, body: bytes) -> bytes:
        """Return everything of a POST that comes before its body.

        Args:
            operation: Say, `BatchWriteItem`.
            body: The body.
        """
        now = int(self._clock())
        made = self._made.get(operation)
        if made is None or made[0] != now:
            made = self._made[operation] = (now, self._second(operation, now))
        second = made[1]
        canonical = second.canonical + hashlib.sha256(body).hexdigest().encode()
        to_sign = second.to_sign + hashlib.sha256(canonical).hexdigest().encode()
        signature = hmac.digest(second.key, to_sign, "sha256").hex().encode()
        return b"%b%b\r\nContent-Length: %d\r\n\r\n" % (second.head, signature, len(body))

    def _second(self, operation: str, now: int) -> _Second:
        # Once a second, which is when credentials near their end are renewed.
        frozen = self._credentials.get_frozen_credentials()
        moment = time.strftime("%Y%m%dT%H%M%SZ", time.gmtime(now))
        scope = f"{moment[:8]}/{self._region}/{_SERVICE}/aws4_request"
        headers = {
            "content-type": _CONTENT_TYPE,
            "host": self._host,
            "x-amz-date": moment,
            "x-amz-target": f"DynamoDB_20120810.{operation}",
        }
        if frozen.token:
            headers["x-amz-security-token"] = frozen.token
        signed = ";".join(sorted(headers))
        listed = "".join(f"{name}:{headers[name]}\n" for name in sorted(headers))
        sent = "".join(f"{name}: {value}\r\n" for name, value in headers.items())
        authorization = (
            f"AWS4-HMAC-SHA256 Credential={frozen.access_key}/{scope}, SignedHeaders={signed}, Signature="
        )
        # In the order in which the signature ends the head but for the body's length.
        head = f"POST {self._line} HTTP/1.1\r\n{sent}Authorization: {authorization}"
        return _Second(
            head=head.encode(),
            canonical=f"POST\n{self._path}\n\n{listed}\n{signed}\n".encode(),
            to_sign=f"AWS4-HMAC-SHA256\n{moment}\n{scope}\n".encode(),
            key=self._key(frozen.secret_key, moment[:8]),
        )

    def _key(self, secret: str, day: str) -> bytes:
        if self._day_key is None or self._day_key[0] != (secret, day):
            key = f"AWS4{secret}".encode()
            for text in (day, self._region, _SERVICE, "aws4_request"):
                key = hmac.digest(key, text.encode(), "sha256")
            self._day_key = ((secret, day), key)
        return self._day_key[1]
