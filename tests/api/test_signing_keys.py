"""Tests of the issuer's signing keys: fetched when needed, cached, dropped when withdrawn or weak."""

from __future__ import annotations

import time
from typing import TYPE_CHECKING

import pytest
from cryptography.hazmat.primitives.asymmetric.rsa import generate_private_key

from api_lambda.http.http_connections import HttpConnections
from api_lambda.tokens.signing_keys import FRESH_SECONDS, LONGEST_SECONDS, KeysUnavailableError, SigningKeys
from api_lambda.tokens.token_verifier import LEEWAY_SECONDS, InvalidTokenError, TokenVerifier
from tests.api.token_checks import SETTINGS, Clock, bearer

if TYPE_CHECKING:
    from tests.fakes.token_issuer import TokenIssuer


def test_rotated_key_replaces_the_old_one(issuer: TokenIssuer) -> None:
    """After a rotation tokens of the new key are accepted and those of the old key refused."""
    clock = Clock()
    verifier = TokenVerifier(SigningKeys(HttpConnections(), issuer.url, clock=clock), SETTINGS)
    old = issuer.token()
    verifier.verify(bearer(old))
    issuer.rotate("key-2")
    clock.now += 60
    verifier.verify(bearer(issuer.token()))
    with pytest.raises(InvalidTokenError):
        verifier.verify(bearer(old))


def test_known_token_is_checked_against_time_and_keys(
    issuer: TokenIssuer,
) -> None:
    """A token that was accepted before is refused once it expires or its key is replaced."""
    now, clock = [time.time()], Clock()
    keys = SigningKeys(HttpConnections(), issuer.url, clock=clock)
    verifier = TokenVerifier(keys, SETTINGS, clock=lambda: now[0])
    token = issuer.token(exp=int(now[0]) + 600)
    for _ in range(2):
        verifier.verify(bearer(token))
    # The same keys are fetched again.
    clock.now += FRESH_SECONDS + 1
    verifier.verify(bearer(token))
    assert issuer.fetches == 2
    now[0] += 600 + LEEWAY_SECONDS
    with pytest.raises(InvalidTokenError, match="expired"):
        verifier.verify(bearer(token))
    now[0] -= 300 + LEEWAY_SECONDS
    verifier.verify(bearer(token))
    # Another key gets the same id.
    issuer.rotate("key-1")
    clock.now += FRESH_SECONDS + 1
    with pytest.raises(InvalidTokenError, match="signature"):
        verifier.verify(bearer(token))


def test_unknown_key_ids_do_not_cause_fetches(issuer: TokenIssuer, verifier: TokenVerifier) -> None:
    """A hundred tokens with unknown key ids cause one fetch of the keys."""
    for number in range(100):
        with pytest.raises(InvalidTokenError):
            verifier.verify(bearer(issuer.token(header={"kid": f"invented-{number}"})))
    assert issuer.fetches == 1


def test_cached_keys_survive_an_outage_for_a_day(issuer: TokenIssuer) -> None:
    """While the issuer is down, known keys are used for a limited time; then tokens cannot be checked."""
    clock = Clock()
    verifier = TokenVerifier(SigningKeys(HttpConnections(), issuer.url, clock=clock), SETTINGS)
    token = issuer.token()
    verifier.verify(bearer(token))
    issuer.served = None
    clock.now += FRESH_SECONDS + 1
    verifier.verify(bearer(token))
    clock.now += LONGEST_SECONDS
    with pytest.raises(KeysUnavailableError):
        verifier.verify(bearer(token))
    with pytest.raises(KeysUnavailableError):
        TokenVerifier(SigningKeys(HttpConnections(), issuer.url), SETTINGS).verify(bearer(token))


def test_unavailable_issuer_is_asked_once_a_second(issuer: TokenIssuer) -> None:
    """Without keys, requests fail, and the issuer is asked again only after a second."""
    clock, token = Clock(), issuer.token()
    issuer.served = None
    verifier = TokenVerifier(SigningKeys(HttpConnections(), issuer.url, clock=clock), SETTINGS)
    for _ in range(20):
        with pytest.raises(KeysUnavailableError):
            verifier.verify(bearer(token))
    assert issuer.fetches == 1
    issuer.served = issuer.key_set()
    clock.now += 1
    verifier.verify(bearer(token))


def test_key_set_size_is_limited(issuer: TokenIssuer) -> None:
    """Keys beyond the limit are ignored, and an oversized document is refused."""
    good = issuer.key_set()["keys"][0]
    many = [{**good, "kid": f"other-{number}"} for number in range(32)]
    for served in ({"keys": [*many, good]}, {"keys": [good], "padding": "x" * 70_000}):
        issuer.served = served
        with pytest.raises((InvalidTokenError, KeysUnavailableError)):
            TokenVerifier(SigningKeys(HttpConnections(), issuer.url), SETTINGS).verify(bearer(issuer.token()))
    issuer.served = {"keys": [*many[1:], good]}
    TokenVerifier(SigningKeys(HttpConnections(), issuer.url), SETTINGS).verify(bearer(issuer.token()))


def test_short_key_is_ignored(issuer: TokenIssuer) -> None:
    """A 1,024-bit key is not used."""
    issuer.keys = {"key-1": generate_private_key(65537, 1024)}
    issuer.served = issuer.key_set()
    with pytest.raises(KeysUnavailableError):
        TokenVerifier(SigningKeys(HttpConnections(), issuer.url), SETTINGS).verify(bearer(issuer.token()))


@pytest.mark.parametrize(
    "change",
    [
        {"kty": "oct"},
        {"use": "enc"},
        {"alg": "RS512"},
        {"n": "AQAB"},
        {"n": 5},
        {"e": "="},
        {"kid": 7},
        {"e": "Ag"},
    ],
    ids=str,
)
def test_keys_unfit_for_rs256_are_ignored(issuer: TokenIssuer, change: dict[str, object]) -> None:
    """Short, symmetric or broken entries of a key set are ignored, and valid ones beside them work."""
    good = issuer.key_set()["keys"][0]
    issuer.served = {"keys": [{**good, **change}]}
    token = issuer.token()
    with pytest.raises(KeysUnavailableError):
        TokenVerifier(SigningKeys(HttpConnections(), issuer.url), SETTINGS).verify(bearer(token))
    issuer.served = {"keys": [{**good, "kid": "other", **change}, "text", good]}
    TokenVerifier(SigningKeys(HttpConnections(), issuer.url), SETTINGS).verify(bearer(token))
