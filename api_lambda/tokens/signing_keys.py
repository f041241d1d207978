"""The token issuer's public keys: fetched on demand, cached, and renewed when an unknown key appears."""

from __future__ import annotations

import base64
import binascii
import re
import time
from typing import TYPE_CHECKING, Any

from cryptography.exceptions import InvalidSignature
from cryptography.hazmat.primitives.asymmetric.padding import PKCS1v15
from cryptography.hazmat.primitives.asymmetric.rsa import RSAPublicKey, RSAPublicNumbers
from cryptography.hazmat.primitives.hashes import SHA256

from api_lambda.http.http_connections import HttpFaultError, OutgoingRequest
from prediction_contract.text.canonical_json import InvalidJsonError, parse_json

if TYPE_CHECKING:
    from collections.abc import Callable

    from api_lambda.http.http_connections import HttpConnections

FRESH_SECONDS = 3_600
# Cached keys bridge an issuer's outage, but a withdrawn key must stop working at some point.
LONGEST_SECONDS = 24 * 3_600
# Tokens with made-up key ids must not cause a fetch on every request.
_SECONDS_BETWEEN_FETCHES = 30
# Without any key every request waits for a fetch, which must not take the whole timeout.
_SECONDS_WITHOUT_KEYS = 1
_FETCH_SECONDS = 2.0
_MAX_KEYS = 32
_MAX_BYTES = 65_536
_LEAST_BITS, _MAX_BITS = 2_048, 8_192
LONGEST_KEY_ID = 256
_OK = 200
_BASE64URL = re.compile(r"[A-Za-z0-9_-]*")


class KeysUnavailableError(Exception):
    """The issuer's keys could not be fetched, so no token can be checked."""


def decode_base64url(text: str) -> bytes:
    """Return the bytes of unpadded base64url.

    Raises:
        ValueError: The text has padding or invalid characters, or its unused last bits are not zero.
    """
    if not _BASE64URL.fullmatch(text):
        raise ValueError("not base64url")
    try:
        decoded = base64.urlsafe_b64decode(text + "=" * (-len(text) % 4))
    except binascii.Error as error:
        raise ValueError("not base64url") from error
    if base64.urlsafe_b64encode(decoded).rstrip(b"=").decode() != text:
        raise ValueError("not base64url as an encoder writes it")
    return decoded


def has_signed(key: RSAPublicKey, message: bytes, signature: bytes) -> bool:
    """Return whether the key made this RS256 signature of the message."""
    try:
        key.verify(signature, message, PKCS1v15(), SHA256())
    except InvalidSignature:
        return False
    return True


class SigningKeys:
    """The keys of one issuer."""

    def __init__(
        self, connections: HttpConnections, jwks_url: str, *, clock: Callable[[], float] = time.monotonic
    ) -> None:
        self._connections = connections
        self._request = OutgoingRequest(
            jwks_url, headers={"Accept": "application/json"}, max_bytes=_MAX_BYTES
        )
        self._clock = clock
        self._keys: dict[str, RSAPublicKey] = {}
        self._fetched_at: float | None = None
        self._tried_at: float | None = None

    def find(self, key_id: str) -> RSAPublicKey | None:
        """Return the issuer's key with that id; None if it is unknown.

        Raises:
            KeysUnavailableError: The keys could not be fetched and none are cached.
        """
        if self._age() > FRESH_SECONDS or key_id not in self._keys:
            self._renew()
        if self._age() > LONGEST_SECONDS:
            raise KeysUnavailableError("The token issuer's keys could not be fetched")
        return self._keys.get(key_id)

    def _age(self) -> float:
        return float("inf") if self._fetched_at is None else self._clock() - self._fetched_at

    def _renew(self) -> None:
        pause = _SECONDS_BETWEEN_FETCHES if self._keys else _SECONDS_WITHOUT_KEYS
        if self._tried_at is not None and self._clock() - self._tried_at < pause:
            return
        try:
            answer = self._connections.send(self._request, _FETCH_SECONDS)
            keys = _parse_keys(answer.body) if answer.status == _OK else {}
        except (HttpFaultError, InvalidJsonError):
            return
        finally:
            self._tried_at = self._clock()
        if keys:
            self._keys, self._fetched_at = keys, self._clock()


def _parse_keys(document: bytes) -> dict[str, RSAPublicKey]:
    """Return the usable RSA keys of a key set by id; others are left out."""
    keys: dict[str, RSAPublicKey] = {}
    members = parse_json(document)
    listed = members.get("keys") if isinstance(members, dict) else None
    for entry in listed[:_MAX_KEYS] if isinstance(listed, list) else []:
        found = _parse_key(entry)
        if found is not None:
            keys[found[0]] = found[1]
    return keys


def _parse_key(entry: Any) -> tuple[str, RSAPublicKey] | None:
    if not isinstance(entry, dict) or entry.get("kty") != "RSA":
        return None
    if entry.get("use", "sig") != "sig" or entry.get("alg", "RS256") != "RS256":
        return None
    key_id, modulus, exponent = entry.get("kid"), entry.get("n"), entry.get("e")
    if not (isinstance(key_id, str) and isinstance(modulus, str) and isinstance(exponent, str)):
        return None
    try:
        n = int.from_bytes(decode_base64url(modulus), "big")
        e = int.from_bytes(decode_base64url(exponent), "big")
        if not (1 <= len(key_id) <= LONGEST_KEY_ID and _LEAST_BITS <= n.bit_length() <= _MAX_BITS):
            return None
        return key_id, RSAPublicNumbers(e, n).public_key()
    except ValueError:
        return None
