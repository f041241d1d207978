"""The issuer's keys: fetched when needed and not too often, forgotten when withdrawn, none that is weak."""

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


def test_a_new_key_is_fetched_and_a_withdrawn_one_forgotten(issuer: TokenIssuer) -> None:
    """After a rotation the new key's tokens are taken, the old one's are not."""
    clock = Clock()
    verifier = TokenVerifier(SigningKeys(HttpConnections(), issuer.url, clock=clock), SETTINGS)
    old = issuer.token()
    verifier.verify(bearer(old))
    issuer.rotate("key-2")
    clock.now += 60
    verifier.verify(bearer(issuer.token()))
    with pytest.raises(InvalidTokenError):
        verifier.verify(bearer(old))


def test_a_token_that_was_good_is_judged_by_the_moment_and_the_keys_of_the_moment(
    issuer: TokenIssuer,
) -> None:
    """What is remembered of it is its signature alone: it ends when it ends, and with its key."""
    now, clock = [time.time()], Clock()
    keys = SigningKeys(HttpConnections(), issuer.url, clock=clock)
    verifier = TokenVerifier(keys, SETTINGS, clock=lambda: now[0])
    token = issuer.token(exp=int(now[0]) + 600)
    for _ in range(2):
        verifier.verify(bearer(token))
    # The same keys, fetched again.
    clock.now += FRESH_SECONDS + 1
    verifier.verify(bearer(token))
    assert issuer.fetches == 2
    now[0] += 600 + LEEWAY_SECONDS
    with pytest.raises(InvalidTokenError, match="expired"):
        verifier.verify(bearer(token))
    now[0] -= 300 + LEEWAY_SECONDS
    verifier.verify(bearer(token))
    # Another key under the same id.
    issuer.rotate("key-1")
    clock.now += FRESH_SECONDS + 1
    with pytest.raises(InvalidTokenError, match="signature"):
        verifier.verify(bearer(token))


def test_invented_key_ids_do_not_make_us_ask_each_time(issuer: TokenIssuer, verifier: TokenVerifier) -> None:
    """A hundred unknown keys cost the issuer one question."""
    for number in range(100):
        with pytest.raises(InvalidTokenError):
            verifier.verify(bearer(issuer.token(header={"kid": f"invented-{number}"})))
    assert issuer.fetches == 1


def test_keys_outlive_an_issuer_that_is_down_but_not_for_ever(issuer: TokenIssuer) -> None:
    """Known keys serve on for a day; then, and without any keys, tokens cannot be judged."""
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


def test_an_issuer_that_is_down_from_the_start_is_not_asked_by_every_request(issuer: TokenIssuer) -> None:
    """Without keys nobody can be judged; whether the issuer is back is asked once a second."""
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


def test_a_key_set_has_bounds(issuer: TokenIssuer) -> None:
    """Of very many keys the first count; a document that is too long is none."""
    good = issuer.key_set()["keys"][0]
    many = [{**good, "kid": f"other-{number}"} for number in range(32)]
    for served in ({"keys": [*many, good]}, {"keys": [good], "padding": "x" * 70_000}):
        issuer.served = served
        with pytest.raises((InvalidTokenError, KeysUnavailableError)):
            TokenVerifier(SigningKeys(HttpConnections(), issuer.url), SETTINGS).verify(bearer(issuer.token()))
    issuer.served = {"keys": [*many[1:], good]}
    TokenVerifier(SigningKeys(HttpConnections(), issuer.url), SETTINGS).verify(bearer(issuer.token()))


def test_a_key_too_short_to_trust_is_left_out(issuer: TokenIssuer) -> None:
    """1,024 bits can be broken; a token signed with such a key proves nothing."""
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
def test_keys_that_are_no_rs256_keys_are_left_out(issuer: TokenIssuer, change: dict[str, object]) -> None:
    """Short, symmetric or broken entries of a key set verify nothing, and good ones beside them do."""
    good = issuer.key_set()["keys"][0]
    issuer.served = {"keys": [{**good, **change}]}
    token = issuer.token()
    with pytest.raises(KeysUnavailableError):
        TokenVerifier(SigningKeys(HttpConnections(), issuer.url), SETTINGS).verify(bearer(token))
    issuer.served = {"keys": [{**good, "kid": "other", **change}, "text", good]}
    TokenVerifier(SigningKeys(HttpConnections(), issuer.url), SETTINGS).verify(bearer(token))
