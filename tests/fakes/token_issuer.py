"""A token issuer with generated keys, which serves its key set over HTTP."""

from __future__ import annotations

import base64
import json
import time
from contextlib import contextmanager
from typing import TYPE_CHECKING, Any

from cryptography.hazmat.primitives.asymmetric.padding import PKCS1v15
from cryptography.hazmat.primitives.asymmetric.rsa import RSAPrivateKey, generate_private_key
from cryptography.hazmat.primitives.hashes import SHA256

from tests.fakes.http_answers import LocalHandler, LocalServer, serving_requests

if TYPE_CHECKING:
    from collections.abc import Iterator

ISSUER = "https://issuer.example/pool"
CLIENT = "client-1"
SCOPE = "mlpipe-local-api/predictions:read"


def base64url(content: bytes) -> str:
    """Return unpadded base64url."""
    return base64.urlsafe_b64encode(content).rstrip(b"=").decode()


def _number(value: int) -> str:
    return base64url(value.to_bytes((value.bit_length() + 7) // 8, "big"))


class TokenIssuer:
    """Signs tokens; `served` is the key set that clients get, or None while the issuer is down."""

    def __init__(self) -> None:
        self.keys: dict[str, RSAPrivateKey] = {"key-1": generate_private_key(65537, 2048)}
        self.served: dict[str, Any] | None = self.key_set()
        self.fetches = 0
        self.url = ""

    def key_set(self) -> dict[str, Any]:
        """Return the JWKS of all keys."""
        keys = []
        for key_id, key in self.keys.items():
            public = key.public_key().public_numbers()
            keys.append(
                {"kty": "RSA", "use": "sig", "alg": "RS256", "kid": key_id}
                | {"n": _number(public.n), "e": _number(public.e)}
            )
        return {"keys": keys}

    def rotate(self, key_id: str) -> None:
        """Replace all keys by a new one and serve it."""
        self.keys = {key_id: generate_private_key(65537, 2048)}
        self.served = self.key_set()

    def claims(self, **changes: Any) -> dict[str, Any]:
        """Return the claims of a valid access token with these changes; None removes a claim."""
        now = int(time.time())
        claims = {
            "iss": ISSUER,
            "client_id": CLIENT,
            "scope": f"other/scope {SCOPE}",
            "token_use": "access",
            "iat": now,
            "exp": now + 600,
        }
        return {name: value for name, value in {**claims, **changes}.items() if value is not None}

    def token(self, *, header: dict[str, Any] | None = None, **changes: Any) -> str:
        """Return a signed token with changed header members and claims."""
        return self.sign(json.dumps(self.claims(**changes)).encode(), header=header)

    def sign(self, claims: bytes, *, header: dict[str, Any] | None = None) -> str:
        """Return a signed token of exactly these claims, with changed header members."""
        key_id = next(iter(self.keys))
        joined = {"alg": "RS256", "kid": key_id, "typ": "JWT", **(header or {})}
        signed = f"{base64url(json.dumps(joined).encode())}.{base64url(claims)}"
        signature = self.keys[key_id].sign(signed.encode(), PKCS1v15(), SHA256())
        return f"{signed}.{base64url(signature)}"


@contextmanager
def serving_keys(issuer: TokenIssuer) -> Iterator[str]:
    """Serve an issuer's key set and give its address."""

    class _Handler(LocalHandler):
        # HTTP/1.0 closes the connection after each answer.
        protocol_version = "HTTP/1.0"

        def do_GET(self) -> None:  # noqa: N802 -- the name is the base class's
            issuer.fetches += 1
            self.respond(200 if issuer.served is not None else 503, json.dumps(issuer.served).encode())

    with LocalServer(_Handler) as server, serving_requests(server):
        yield f"{server.url}/jwks.json"
