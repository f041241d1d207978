"""AWS Signature Version 4 for the POST requests of AWS's JSON protocols.

`botocore.auth.SigV4Auth` makes the same signatures, but is many times slower and imports a hundred modules.
"""

from __future__ import annotations

import hashlib
import hmac
import time
from dataclasses import dataclass, field
from typing import TYPE_CHECKING

if TYPE_CHECKING:
    from collections.abc import Callable

_ALGORITHM = "AWS4-HMAC-SHA256"


@dataclass(frozen=True, slots=True)
class SigningCredentials:
    """The keys that sign requests. botocore's frozen credentials have the same attributes.

    Attributes:
        access_key: The id of the secret key.
        secret_key: The secret key, which is never sent.
        token: The session token; None for a user's long-term keys.
    """

    access_key: str
    secret_key: str = field(repr=False)
    token: str | None = field(repr=False)


@dataclass(frozen=True, slots=True)
class _Second:
    """The parts that all requests of one second and target share.

    Attributes:
        second: The time in seconds since 1970.
        headers: The headers without the authorization.
        authorization: The authorization header up to the signature.
        canonical: The hash of the canonical request up to the body's digest.
        signature: The HMAC of the text to sign up to the canonical request's digest.
    """

    second: int
    headers: dict[str, str]
    authorization: str
    canonical: hashlib._Hash
    signature: hmac.HMAC


class RequestSigner:
    """Signs POST requests to one endpoint; threads may share it.

    Args:
        credentials: Returns the current credentials. It is called at most once per second and target.
        region: The endpoint's region.
        host: The `Host` header, with the port unless it is the scheme's default.
        service: The service's name in signatures, for example `dynamodb`.
        content_type: The content type of the service's protocol.
        path: The path of every request.
        clock: Returns the seconds since 1970.
    """

    def __init__(
        self,
        credentials: Callable[[], SigningCredentials],
        region: str,
        host: str,
        *,
        service: str,
        content_type: str,
        path: str = "/",
        clock: Callable[[], float] = time.time,
    ) -> None:
        self._credentials = credentials
        self._region = region
        self._host = host
        self._service = service
        self._content_type = content_type
        self._path = path
        self._clock = clock
        self._seconds: dict[str, _Second] = {}
        self._day_key: tuple[tuple[str, str], bytes] | None = None

    def headers(self, target: str, body: bytes) -> dict[str, str]:
        """Return a request's headers by lower-case name, without `content-length`.

        Args:
            target: The `X-Amz-Target`, for example `DynamoDB_20120810.GetItem`.
            body: The request's body.
        """
        now = int(self._clock())
        shared = self._seconds.get(target)
        if shared is None or shared.second != now:
            shared = self._seconds[target] = self._shared(target, now)
        canonical, signature = shared.canonical.copy(), shared.signature.copy()
        canonical.update(hashlib.sha256(body).hexdigest().encode())
        signature.update(canonical.hexdigest().encode())
        return {**shared.headers, "authorization": shared.authorization + signature.hexdigest()}

    def _shared(self, target: str, now: int) -> _Second:
        credentials = self._credentials()
        moment = time.strftime("%Y%m%dT%H%M%SZ", time.gmtime(now))
        scope = f"{moment[:8]}/{self._region}/{self._service}/aws4_request"
        headers = {
            "content-type": self._content_type,
            "host": self._host,
            "x-amz-date": moment,
            "x-amz-target": target,
        }
        if credentials.token:
            headers["x-amz-security-token"] = credentials.token
        names = ";".join(sorted(headers))
        lines = "".join(f"{name}:{headers[name]}\n" for name in sorted(headers))
        credential = f"{credentials.access_key}/{scope}"
        return _Second(
            second=now,
            headers=headers,
            authorization=f"{_ALGORITHM} Credential={credential}, SignedHeaders={names}, Signature=",
            canonical=hashlib.sha256(f"POST\n{self._path}\n\n{lines}\n{names}\n".encode()),
            signature=hmac.new(
                self._key(credentials.secret_key, moment[:8]),
                f"{_ALGORITHM}\n{moment}\n{scope}\n".encode(),
                "sha256",
            ),
        )

    def _key(self, secret_key: str, day: str) -> bytes:
        """Return the cached signing key of a day."""
        # Read only once, because another thread may replace it at midnight or with renewed credentials.
        known = self._day_key
        if known is not None and known[0] == (secret_key, day):
            return known[1]
        key = f"AWS4{secret_key}".encode()
        for part in (day, self._region, self._service, "aws4_request"):
            key = hmac.digest(key, part.encode(), "sha256")
        self._day_key = (secret_key, day), key
        return key
