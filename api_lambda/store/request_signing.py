"""AWS Signature Version 4 for the one kind of request that AWS's JSON protocols have.

The signer of botocore would do the same after importing a hundred modules; a test compares the two.
"""

from __future__ import annotations

import hashlib
import hmac
import time
from typing import TYPE_CHECKING

if TYPE_CHECKING:
    from api_lambda.settings import Credentials

_ALGORITHM = "AWS4-HMAC-SHA256"


class RequestSigner:
    """Signs requests to one endpoint; the day's key is derived once a day."""

    def __init__(
        self, credentials: Credentials, region: str, host: str, *, service: str, content_type: str
    ) -> None:
        """Take what stays the same for every request.

        Args:
            credentials: Of the function's role.
            region: The endpoint's region.
            host: As the Host header will have it, with a port that is not the scheme's own.
            service: As signatures name it, say `dynamodb`.
            content_type: Of the service's protocol.
        """
        self._service = service
        self._content_type = content_type
        self._credentials = credentials
        self._region = region
        self._host = host
        self._day = ""
        self._key = b""

    def headers(self, target: str, body: bytes, moment: float | None = None) -> dict[str, str]:
        """Return all headers of a POST to `/`.

        Args:
            target: `X-Amz-Target`, say `DynamoDB_20120810.GetItem`.
            body: The request's body.
            moment: Seconds since 1970; now if None.
        """
        stamp = time.strftime("%Y%m%dT%H%M%SZ", time.gmtime(moment))
        signed = {
            "content-type": self._content_type,
            "host": self._host,
            "x-amz-date": stamp,
            "x-amz-target": target,
        }
        if self._credentials.session_token:
            signed["x-amz-security-token"] = self._credentials.session_token
        names = ";".join(sorted(signed))
        lines = "".join(f"{name}:{signed[name]}\n" for name in sorted(signed))
        canonical = f"POST\n/\n\n{lines}\n{names}\n{hashlib.sha256(body).hexdigest()}"
        scope = f"{stamp[:8]}/{self._region}/{self._service}/aws4_request"
        digest = hashlib.sha256(canonical.encode()).hexdigest()
        to_sign = f"{_ALGORITHM}\n{stamp}\n{scope}\n{digest}"
        signature = hmac.digest(self._day_key(stamp[:8]), to_sign.encode(), "sha256").hex()
        credential = f"{self._credentials.access_key}/{scope}"
        authorization = f"{_ALGORITHM} Credential={credential}, SignedHeaders={names}, Signature={signature}"
        return {**signed, "authorization": authorization}

    def _day_key(self, day: str) -> bytes:
        if day != self._day:
            key = f"AWS4{self._credentials.secret_key}".encode()
            for part in (day, self._region, self._service, "aws4_request"):
                key = hmac.digest(key, part.encode(), "sha256")
            self._day, self._key = day, key
        return self._key
