"""Tests of access tokens: who may read, and forged or altered tokens."""

from __future__ import annotations

import hashlib
import hmac
import json
import time
from dataclasses import replace
from typing import Any

import pytest
from cryptography.hazmat.primitives.asymmetric.rsa import generate_private_key
from cryptography.hazmat.primitives.serialization import Encoding, PublicFormat

from api_lambda.http.http_connections import HttpConnections
from api_lambda.tokens.signing_keys import SigningKeys
from api_lambda.tokens.token_verifier import (
    LEEWAY_SECONDS,
    LONGEST_TOKEN,
    InsufficientScopeError,
    InvalidTokenError,
    MissingTokenError,
    TokenVerifier,
)
from tests.api.token_checks import ALPHABET, SETTINGS, bearer
from tests.fakes.token_issuer import CLIENT, SCOPE, TokenIssuer, base64url, serving_keys


@pytest.mark.parametrize("form", ["Bearer {}", "bearer {}", "BEARER   {}", " Bearer {} "])
def test_valid_token_is_accepted(issuer: TokenIssuer, verifier: TokenVerifier, form: str) -> None:
    """The scheme's case and spaces around the token do not matter."""
    verifier.verify((form.format(issuer.token()),))


@pytest.mark.parametrize("audience", ["api", ["other", "api"]])
def test_audience_replaces_client_id(
    issuer: TokenIssuer, verifier: TokenVerifier, audience: str | list[str]
) -> None:
    """A token without client id is accepted if its audience is this API."""
    verifier.verify(bearer(issuer.token(client_id=None, aud=audience)))


@pytest.mark.parametrize("values", [(), ("Basic dXNlcjpwYXNz",), ("token",), ("",)])
def test_missing_bearer_token_has_its_own_error(verifier: TokenVerifier, values: tuple[str, ...]) -> None:
    """No header, another scheme or no scheme counts as a missing token."""
    with pytest.raises(MissingTokenError):
        verifier.verify(values)


@pytest.mark.parametrize(
    "changes",
    [
        {"iss": "https://evil.example"},
        {"iss": None},
        {"exp": None},
        {"exp": 1},
        {"exp": int(time.time()) - LEEWAY_SECONDS - 5},
        {"exp": "9999999999"},
        {"exp": True},
        {"nbf": int(time.time()) + 3600},
        {"iat": int(time.time()) + 3600},
        {"client_id": "client-2"},
        {"client_id": None},
        {"client_id": [CLIENT]},
        {"client_id": None, "aud": "other"},
        {"client_id": None, "aud": {"api": 1}},
        {"aud": "other"},
        {"aud": []},
        {"aud": ""},
        {"aud": CLIENT},
        {"token_use": "id", "aud": "api"},
    ],
    # Without the values, which differ between test workers that import this in different seconds.
    ids=",".join,
)
def test_invalid_claims_are_refused(
    issuer: TokenIssuer, verifier: TokenVerifier, changes: dict[str, Any]
) -> None:
    """Another issuer, client or audience, wrong times and identity tokens are refused."""
    with pytest.raises(InvalidTokenError):
        verifier.verify(bearer(issuer.token(**changes)))


@pytest.mark.parametrize("name", ["exp", "nbf", "iat"])
@pytest.mark.parametrize("spelling", ["1e9999999", "-1e9999999", "1e-9999999", "1E+1000000"])
def test_time_claim_out_of_range_is_refused(
    issuer: TokenIssuer, verifier: TokenVerifier, name: str, spelling: str
) -> None:
    """A signed time claim that cannot be computed with makes the token invalid."""
    claims = json.dumps(issuer.claims(**{name: "moment"})).replace('"moment"', spelling)
    with pytest.raises(InvalidTokenError):
        verifier.verify(bearer(issuer.sign(claims.encode())))


def test_small_clock_difference_is_accepted(issuer: TokenIssuer, verifier: TokenVerifier) -> None:
    """A token that ended or begins within the leeway is accepted."""
    now = int(time.time())
    verifier.verify(bearer(issuer.token(exp=now - 5, nbf=now + 10, iat=now + 10)))


@pytest.mark.parametrize(
    "scope", [None, "", "predictions:read", f"{SCOPE}x", f"x{SCOPE}", [SCOPE], SCOPE.upper()]
)
def test_token_without_scope_has_its_own_error(
    issuer: TokenIssuer, verifier: TokenVerifier, scope: object
) -> None:
    """A valid token needs the exact scope as a whole word, else the scope is reported as insufficient."""
    with pytest.raises(InsufficientScopeError):
        verifier.verify(bearer(issuer.token(scope=scope)))


@pytest.mark.parametrize(
    "header",
    [
        {"alg": "none"},
        {"alg": "HS256"},
        {"alg": "RS512"},
        {"alg": ["RS256"]},
        {"alg": None},
        {"kid": "key-2"},
        {"kid": None},
        {"kid": "k" * 300},
        {"crit": ["b64"], "b64": False},
        {"zip": "DEF", "alg": "rs256"},
    ],
    ids=str,
)
def test_header_cannot_choose_the_verification(
    issuer: TokenIssuer, verifier: TokenVerifier, header: dict[str, object]
) -> None:
    """The algorithm is RS256 and the key is the issuer's, whatever the header says."""
    with pytest.raises(InvalidTokenError):
        verifier.verify(bearer(issuer.token(header=header)))


def test_public_key_as_hs256_secret_is_refused(issuer: TokenIssuer, verifier: TokenVerifier) -> None:
    """A token signed by HS256 with the published key as secret is refused."""
    public = issuer.keys["key-1"].public_key().public_bytes(Encoding.PEM, PublicFormat.SubjectPublicKeyInfo)
    signed = ".".join(
        base64url(json.dumps(part).encode()) for part in ({"alg": "HS256", "kid": "key-1"}, issuer.claims())
    )
    signature = hmac.digest(public, signed.encode(), hashlib.sha256)
    with pytest.raises(InvalidTokenError):
        verifier.verify(bearer(f"{signed}.{base64url(signature)}"))


def test_key_inside_a_token_is_ignored(issuer: TokenIssuer, verifier: TokenVerifier) -> None:
    """A key or key address in a token's header is neither used nor fetched."""
    foreign = TokenIssuer.__new__(TokenIssuer)
    foreign.keys, foreign.fetches = {"foreign": generate_private_key(65537, 2048)}, 0
    foreign.served = foreign.key_set()
    with serving_keys(foreign) as url:
        for member in ({"jwk": foreign.key_set()["keys"][0]}, {"jku": url}, {"x5u": url}):
            for key_id in ("foreign", "key-1"):
                with pytest.raises(InvalidTokenError):
                    verifier.verify(bearer(foreign.token(header={"kid": key_id, **member})))
        assert (foreign.fetches, issuer.fetches) == (0, 1)


def test_signature_has_one_encoding(issuer: TokenIssuer, verifier: TokenVerifier) -> None:
    """A different last character that decodes to the same bytes is refused."""
    good = issuer.token()
    other = good[:-1] + ALPHABET[ALPHABET.index(good[-1]) + 1]
    verifier.verify(bearer(good))
    with pytest.raises(InvalidTokenError):
        verifier.verify(bearer(other))


@pytest.mark.parametrize("scope", [f"{SCOPE}:one", f"{SCOPE}:one {SCOPE}:two", f"x {SCOPE}:one"])
def test_scope_may_be_limited_to_models(issuer: TokenIssuer, verifier: TokenVerifier, scope: str) -> None:
    """The read scope with a model's name allows only that model."""
    caller = verifier.verify(bearer(issuer.token(scope=scope)))
    caller.require_access("one")
    assert [caller.may_read(model) for model in ("one", "on", "ones", "three", "")] == [True] + [False] * 4
    with pytest.raises(InsufficientScopeError):
        caller.require_access("three")
    assert verifier.verify(bearer(issuer.token())).may_read("three")


def test_altered_token_is_refused(issuer: TokenIssuer, verifier: TokenVerifier) -> None:
    """New claims under an old signature, no signature and a foreign signature are refused."""
    header, _, signature = issuer.token().split(".")
    claims = base64url(json.dumps(issuer.claims(client_id="client-2")).encode())
    foreign = TokenIssuer.__new__(TokenIssuer)
    foreign.keys = {"key-1": generate_private_key(65537, 2048)}
    for token in (f"{header}.{claims}.{signature}", f"{header}.{claims}.", foreign.token()):
        with pytest.raises(InvalidTokenError):
            verifier.verify(bearer(token))


def test_malformed_token_is_refused_without_keys(issuer: TokenIssuer, verifier: TokenVerifier) -> None:
    """Oversized, padded, incomplete or doubled tokens are refused before any key is fetched."""
    good = issuer.token()
    doubled = base64url(b'{"alg":"RS256","alg":"none","kid":"key-1"}')
    for values in (
        bearer(issuer.token(padding="x" * LONGEST_TOKEN)),
        bearer(f"{good}="),
        bearer(f"{good}.{good}"),
        bearer("a.b"),
        bearer(""),
        bearer(f"{doubled}.{good.partition('.')[2]}"),
        bearer(f"{good.partition('.')[0]}.\ud800.{good.rpartition('.')[2]}"),
        bearer(f"{good.partition('.')[0]}.é.{good.rpartition('.')[2]}"),
        bearer(good) + bearer(good),
        (*bearer(good), ""),
    ):
        with pytest.raises(InvalidTokenError):
            verifier.verify(values)
    assert issuer.fetches == 0


def test_scope_belongs_to_its_deployment(issuer: TokenIssuer) -> None:
    """A token with another deployment's scope is refused."""
    other = replace(SETTINGS, read_scope="mlpipe-prod-api/predictions:read")
    with pytest.raises(InsufficientScopeError):
        TokenVerifier(SigningKeys(HttpConnections(), issuer.url), other).verify(bearer(issuer.token()))
