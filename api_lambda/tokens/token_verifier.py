"""Checks bearer tokens: signed by the issuer with RS256, for a known client, with the read scope.

The load balancer may check tokens too; the function does not rely on it.
"""

from __future__ import annotations

import time
from dataclasses import dataclass
from decimal import Decimal
from typing import TYPE_CHECKING, Any

from api_lambda.bounded_cache import BoundedCache
from api_lambda.tokens.signing_keys import LONGEST_KEY_ID, decode_base64url, has_signed
from prediction_contract.text.canonical_json import InvalidJsonError, parse_json

if TYPE_CHECKING:
    from collections.abc import Callable

    from cryptography.hazmat.primitives.asymmetric.rsa import RSAPublicKey

    from api_lambda.settings import Settings
    from api_lambda.tokens.signing_keys import SigningKeys

LONGEST_TOKEN = 8_192
# The clocks of issuer and function may differ by this much.
LEEWAY_SECONDS = 30
_PARTS = 3
_MAX_VERIFIED = 128


class MissingTokenError(Exception):
    """The request carries no bearer token."""


class InvalidTokenError(Exception):
    """The token is malformed, not signed by the issuer, expired, or meant for another service.

    The reason is for the log; the client learns only that the token is invalid.
    """


class InsufficientScopeError(Exception):
    """The token is valid but does not allow reading this."""


@dataclass(frozen=True, slots=True)
class Caller:
    """The sender of a valid token.

    Attributes:
        scopes: The token's scopes.
        read_scope: The scope that allows every model; `<read_scope>:<model>` allows one model.
    """

    scopes: frozenset[str]
    read_scope: str

    def may_read(self, model: str) -> bool:
        """Return whether the token allows reading a model."""
        return self.read_scope in self.scopes or f"{self.read_scope}:{model}" in self.scopes

    def require_access(self, model: str) -> None:
        """Require that the caller may read the model.

        Raises:
            InsufficientScopeError: The token does not allow it.
        """
        if not self.may_read(model):
            raise InsufficientScopeError

    @property
    def may_read_any(self) -> bool:
        """Whether the token allows reading at least one model."""
        return any(
            scope == self.read_scope or scope.startswith(f"{self.read_scope}:") for scope in self.scopes
        )


@dataclass(frozen=True, slots=True)
class _Verified:
    """Claims with a verified signature, valid as long as the issuer has the key."""

    key_id: str
    key: RSAPublicKey
    claims: dict[str, Any]


class TokenVerifier:
    """Checks the Authorization header.

    Clients reuse a token until it expires, so a verified signature is cached with its key. Each request still
    checks the token's times, and that the issuer still has the key.
    """

    def __init__(
        self, keys: SigningKeys, settings: Settings, *, clock: Callable[[], float] = time.time
    ) -> None:
        self._keys = keys
        self._issuer = settings.token_issuer
        self._client_ids = settings.client_ids
        self._audiences = settings.audiences
        self._scope = settings.read_scope
        self._clock = clock
        self._verified: BoundedCache[str, _Verified] = BoundedCache(_MAX_VERIFIED)

    def verify(self, authorization: tuple[str, ...]) -> Caller:
        """Return the caller that a request's token names.

        Args:
            authorization: The values of the Authorization headers.

        Raises:
            MissingTokenError: There is no bearer token.
            InvalidTokenError: There are several tokens, or the token is invalid.
            InsufficientScopeError: The token allows no model at all.
            KeysUnavailableError: The issuer's keys could not be fetched.
        """
        if len(authorization) > 1:
            raise InvalidTokenError("several Authorization headers")
        scheme, _, token = "".join(authorization).strip(" ").partition(" ")
        if scheme.lower() != "bearer":
            raise MissingTokenError
        claims = self._verified_claims(token.strip(" "))
        scopes = claims.get("scope")
        caller = Caller(frozenset(scopes.split(" ") if isinstance(scopes, str) else ()), self._scope)
        if not caller.may_read_any:
            raise InsufficientScopeError
        return caller

    def _verified_claims(self, token: str) -> dict[str, Any]:
        if len(token) > LONGEST_TOKEN:
            raise InvalidTokenError("oversized")
        verified = self._verified.get(token)
        if verified is None or self._keys.find(verified.key_id) is not verified.key:
            verified = self._check_signature(token)
            self._verified.put(token, verified)
        self._check_claims(verified.claims)
        return verified.claims

    def _check_signature(self, token: str) -> _Verified:
        parts = token.split(".")
        if len(parts) != _PARTS:
            raise InvalidTokenError("not three parts")
        header = _object(_decoded(parts[0]))
        # The verifier fixes the algorithm: letting the token choose it is a known attack.
        if header.get("alg") != "RS256":
            raise InvalidTokenError("not RS256")
        if "crit" in header:
            raise InvalidTokenError("unknown critical extensions")
        key_id = header.get("kid")
        if not isinstance(key_id, str) or not 1 <= len(key_id) <= LONGEST_KEY_ID:
            raise InvalidTokenError("no key id")
        # Decoded first, because invalid base64url cannot have been signed.
        content, signature = _decoded(parts[1]), _decoded(parts[2])
        key = self._keys.find(key_id)
        if key is None or not has_signed(key, f"{parts[0]}.{parts[1]}".encode(), signature):
            raise InvalidTokenError("unknown key or wrong signature")
        return _Verified(key_id, key, _object(content))

    def _check_claims(self, claims: dict[str, Any]) -> None:
        if claims.get("iss") != self._issuer:
            raise InvalidTokenError("another issuer")
        # Cognito signs identity tokens with the same keys, but they authorize nothing.
        if claims.get("token_use", "access") != "access":
            raise InvalidTokenError("not an access token")
        now = self._clock()
        expires = _time_claim(claims, "exp")
        if expires is None or now >= expires + LEEWAY_SECONDS:
            raise InvalidTokenError("expired")
        for name in ("nbf", "iat"):
            begins = _time_claim(claims, name)
            if begins is not None and begins > now + LEEWAY_SECONDS:
                raise InvalidTokenError("not valid yet")
        if not self._is_for_this_api(claims):
            raise InvalidTokenError("unknown client or another audience")

    def _is_for_this_api(self, claims: dict[str, Any]) -> bool:
        audience = claims.get("aud")
        if audience is not None:
            # If there is an audience, it must name this service (RFC 7519, section 4.1.3).
            named = audience if isinstance(audience, list) else [audience]
            return any(isinstance(name, str) and name in self._audiences for name in named)
        client = claims.get("client_id")
        return isinstance(client, str) and client in self._client_ids


def _decoded(part: str) -> bytes:
    try:
        return decode_base64url(part)
    except ValueError as error:
        raise InvalidTokenError("not base64url") from error


def _object(content: bytes) -> dict[str, Any]:
    try:
        document = parse_json(content)
    except InvalidJsonError as error:
        raise InvalidTokenError("not JSON") from error
    if not isinstance(document, dict):
        raise InvalidTokenError("not a JSON object")
    return document


def _time_claim(claims: dict[str, Any], name: str) -> int | Decimal | None:
    value = claims.get(name)
    if value is None:
        return None
    if isinstance(value, bool) or not isinstance(value, int | Decimal):
        raise InvalidTokenError(f"{name} is not a number")
    return value
