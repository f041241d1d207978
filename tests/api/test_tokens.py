"""Tokens: who may read, and every way to pretend."""

from __future__ import annotations

import hashlib
import hmac
import json
import time
from dataclasses import replace
from typing import TYPE_CHECKING, Any

import pytest
from cryptography.hazmat.primitives.asymmetric.rsa import generate_private_key
from cryptography.hazmat.primitives.serialization import Encoding, PublicFormat
from hypothesis import HealthCheck, assume, given, settings
from hypothesis import strategies as st

from api_lambda.auth import (
    LEEWAY_SECONDS,
    LONGEST_TOKEN,
    InsufficientScopeError,
    InvalidTokenError,
    MissingTokenError,
    TokenVerifier,
)
from api_lambda.http_connections import HttpConnections
from api_lambda.settings import Settings
from api_lambda.signing_keys import FRESH_SECONDS, LONGEST_SECONDS, KeysUnavailableError, SigningKeys
from tests.fakes.token_issuer import CLIENT, ISSUER, SCOPE, TokenIssuer, base64url, serving_keys

if TYPE_CHECKING:
    from collections.abc import Iterator

_SHARED = TokenIssuer()
ALPHABET = "ABCDEFGHIJKLMNOPQRSTUVWXYZabcdefghijklmnopqrstuvwxyz0123456789-_"
ENVIRONMENT = {
    "AWS_REGION": "us-east-1",
    "AWS_ACCESS_KEY_ID": "test",
    "AWS_SECRET_ACCESS_KEY": "test",
    "MLPIPE_STAGE": "local",
    "MLPIPE_ACCOUNT_ID": "000000000000",
    "MLPIPE_TOKEN_ISSUER": ISSUER,
    "MLPIPE_JWKS_URL": "https://issuer.example/jwks.json",
    "MLPIPE_TOKEN_CLIENT_IDS": CLIENT,
    "MLPIPE_TOKEN_AUDIENCES": "api",
    "MLPIPE_TOKEN_SCOPE": SCOPE,
}
SETTINGS = Settings.from_environment(ENVIRONMENT)


class Clock:
    """A clock that tests set."""

    def __init__(self) -> None:
        self.now = 1000.0

    def __call__(self) -> float:
        """Return the time."""
        return self.now


@pytest.fixture
def issuer() -> Iterator[TokenIssuer]:
    """Give an issuer whose keys are served at `issuer.url`; making a key is slow, so it is shared."""
    issuer = TokenIssuer.__new__(TokenIssuer)
    issuer.keys, issuer.fetches = dict(_SHARED.keys), 0
    issuer.served = issuer.key_set()
    with serving_keys(issuer) as url:
        issuer.url = url
        yield issuer


@pytest.fixture
def verifier(issuer: TokenIssuer) -> TokenVerifier:
    """Give a verifier that trusts the issuer."""
    return TokenVerifier(SigningKeys(HttpConnections(), issuer.url), SETTINGS)


def bearer(token: str) -> tuple[str, ...]:
    """Return the Authorization header's values."""
    return (f"Bearer {token}",)


@pytest.mark.parametrize("form", ["Bearer {}", "bearer {}", "BEARER   {}", " Bearer {} "])
def test_a_good_token_lets_pass(issuer: TokenIssuer, verifier: TokenVerifier, form: str) -> None:
    """The scheme's case and spaces around the token do not matter."""
    verifier.reader((form.format(issuer.token()),))


@pytest.mark.parametrize("audience", ["api", ["other", "api"]])
def test_an_audience_stands_for_a_client(
    issuer: TokenIssuer, verifier: TokenVerifier, audience: str | list[str]
) -> None:
    """A token without client id is taken if it is meant for this API."""
    verifier.reader(bearer(issuer.token(client_id=None, aud=audience)))


@pytest.mark.parametrize("values", [(), ("Basic dXNlcjpwYXNz",), ("token",), ("",)])
def test_no_bearer_token_is_said_so(verifier: TokenVerifier, values: tuple[str, ...]) -> None:
    """Nothing, another scheme, or no scheme."""
    with pytest.raises(MissingTokenError):
        verifier.reader(values)


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
    ids=str,
)
def test_claims_that_are_not_for_us_are_refused(
    issuer: TokenIssuer, verifier: TokenVerifier, changes: dict[str, Any]
) -> None:
    """Another issuer, client or audience; expired, not yet valid, without end; an identity token."""
    with pytest.raises(InvalidTokenError):
        verifier.reader(bearer(issuer.token(**changes)))


def test_clocks_may_differ_a_little(issuer: TokenIssuer, verifier: TokenVerifier) -> None:
    """A token that ended or begins within the leeway is taken."""
    now = int(time.time())
    verifier.reader(bearer(issuer.token(exp=now - 5, nbf=now + 10, iat=now + 10)))


@pytest.mark.parametrize(
    "scope", [None, "", "predictions:read", f"{SCOPE}x", f"x{SCOPE}", [SCOPE], SCOPE.upper()]
)
def test_a_valid_token_without_the_scope_is_refused_as_such(
    issuer: TokenIssuer, verifier: TokenVerifier, scope: object
) -> None:
    """The scope must be there as a whole word."""
    with pytest.raises(InsufficientScopeError):
        verifier.reader(bearer(issuer.token(scope=scope)))


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
def test_headers_that_would_choose_how_to_verify_are_refused(
    issuer: TokenIssuer, verifier: TokenVerifier, header: dict[str, object]
) -> None:
    """The algorithm is RS256 and the key the issuer's, whatever a header says."""
    with pytest.raises(InvalidTokenError):
        verifier.reader(bearer(issuer.token(header=header)))


def test_the_public_key_as_a_shared_secret_is_refused(issuer: TokenIssuer, verifier: TokenVerifier) -> None:
    """HS256 with the published key as its secret, the classic confusion, proves nothing."""
    public = issuer.keys["key-1"].public_key().public_bytes(Encoding.PEM, PublicFormat.SubjectPublicKeyInfo)
    signed = ".".join(
        base64url(json.dumps(part).encode()) for part in ({"alg": "HS256", "kid": "key-1"}, issuer.claims())
    )
    signature = hmac.digest(public, signed.encode(), hashlib.sha256)
    with pytest.raises(InvalidTokenError):
        verifier.reader(bearer(f"{signed}.{base64url(signature)}"))


def test_a_key_that_a_token_brings_is_not_looked_at(issuer: TokenIssuer, verifier: TokenVerifier) -> None:
    """Neither the key itself nor an address of keys: the issuer's own are asked for, and nobody else."""
    foreign = TokenIssuer.__new__(TokenIssuer)
    foreign.keys, foreign.fetches = {"foreign": generate_private_key(65537, 2048)}, 0
    foreign.served = foreign.key_set()
    with serving_keys(foreign) as url:
        for member in ({"jwk": foreign.key_set()["keys"][0]}, {"jku": url}, {"x5u": url}):
            for key_id in ("foreign", "key-1"):
                with pytest.raises(InvalidTokenError):
                    verifier.reader(bearer(foreign.token(header={"kid": key_id, **member})))
        assert (foreign.fetches, issuer.fetches) == (0, 1)


def test_a_signature_has_one_spelling(issuer: TokenIssuer, verifier: TokenVerifier) -> None:
    """Another last character that stands for the same bytes is no token that was issued."""
    good = issuer.token()
    other = good[:-1] + ALPHABET[ALPHABET.index(good[-1]) + 1]
    verifier.reader(bearer(good))
    with pytest.raises(InvalidTokenError):
        verifier.reader(bearer(other))


@pytest.mark.parametrize("scope", [f"{SCOPE}:one", f"{SCOPE}:one {SCOPE}:two", f"x {SCOPE}:one"])
def test_a_scope_may_allow_one_model(issuer: TokenIssuer, verifier: TokenVerifier, scope: str) -> None:
    """The read scope with a model's name after it allows that model and no other."""
    reader = verifier.reader(bearer(issuer.token(scope=scope)))
    reader.require("one")
    assert [reader.may_read(model) for model in ("one", "on", "ones", "three", "")] == [True] + [False] * 4
    with pytest.raises(InsufficientScopeError):
        reader.require("three")
    assert verifier.reader(bearer(issuer.token())).may_read("three")


def test_an_altered_token_is_refused(issuer: TokenIssuer, verifier: TokenVerifier) -> None:
    """New claims under an old signature, no signature, and a foreign key's signature."""
    header, _, signature = issuer.token().split(".")
    claims = base64url(json.dumps(issuer.claims(client_id="client-2")).encode())
    foreign = TokenIssuer.__new__(TokenIssuer)
    foreign.keys = {"key-1": generate_private_key(65537, 2048)}
    for token in (f"{header}.{claims}.{signature}", f"{header}.{claims}.", foreign.token()):
        with pytest.raises(InvalidTokenError):
            verifier.reader(bearer(token))


def test_what_is_no_token_is_refused(issuer: TokenIssuer, verifier: TokenVerifier) -> None:
    """Oversized, padded, not three parts, twice, doubled members: refused before a key is asked for."""
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
            verifier.reader(values)
    assert issuer.fetches == 0


@settings(deadline=None, suppress_health_check=[HealthCheck.function_scoped_fixture], max_examples=200)
@given(
    text=st.text(max_size=200) | st.builds(".".join, st.lists(st.text("aeyJ{}_-=", max_size=40), max_size=5))
)
def test_any_text_is_refused_and_breaks_nothing(verifier: TokenVerifier, text: str) -> None:
    """Whatever stands in the header, the verdict is one of the three."""
    with pytest.raises((InvalidTokenError, MissingTokenError)):
        verifier.reader((f"Bearer {text}",))


@settings(deadline=None, suppress_health_check=[HealthCheck.function_scoped_fixture], max_examples=200)
@given(data=st.data())
def test_a_token_with_any_character_changed_is_refused(verifier: TokenVerifier, data: st.DataObject) -> None:
    """One character replaced, put in or taken out, anywhere: nobody signed that."""
    good = _SHARED.token()
    place = data.draw(st.integers(0, len(good) - 1))
    letter = data.draw(st.sampled_from(f"{ALPHABET}.=+/ ") | st.characters())
    kept = data.draw(st.sampled_from([place, place + 1]))
    changed = f"{good[:place]}{data.draw(st.sampled_from([letter, '']))}{good[kept:]}"
    # Spaces around a token are not part of it.
    assume(changed.strip(" ") != good)
    with pytest.raises(InvalidTokenError):
        verifier.reader(bearer(changed))
    verifier.reader(bearer(good))


JSON_VALUES = st.recursive(
    st.none() | st.booleans() | st.integers() | st.floats(allow_nan=False) | st.text(max_size=9),
    lambda inner: st.lists(inner, max_size=3) | st.dictionaries(st.text(max_size=5), inner, max_size=3),
    max_leaves=6,
)


@settings(deadline=None, suppress_health_check=[HealthCheck.function_scoped_fixture], max_examples=200)
@given(
    header=st.dictionaries(st.sampled_from(["alg", "kid", "typ", "crit", "x"]), JSON_VALUES, max_size=3),
    claims=st.dictionaries(
        st.sampled_from(["iss", "aud", "client_id", "exp", "nbf", "iat", "token_use", "scope"]),
        JSON_VALUES,
        min_size=1,
        max_size=4,
    ),
)
def test_signed_tokens_of_any_form_get_a_verdict(
    verifier: TokenVerifier, header: dict[str, Any], claims: dict[str, Any]
) -> None:
    """Even the issuer's own signature under values of any type breaks nothing and lets nobody else pass."""
    token = _SHARED.token(header=header, **claims)
    try:
        verifier.reader(bearer(token))
    except (InvalidTokenError, InsufficientScopeError):
        return
    # Only what does not matter may have changed, or was taken away where it may be missing.
    assert set(header) <= {"typ", "x"}
    assert all(value is None or name in {"nbf", "iat", "exp"} for name, value in claims.items())


def test_a_new_key_is_fetched_and_a_withdrawn_one_forgotten(issuer: TokenIssuer) -> None:
    """After a rotation the new key's tokens are taken, the old one's are not."""
    clock = Clock()
    verifier = TokenVerifier(SigningKeys(HttpConnections(), issuer.url, clock=clock), SETTINGS)
    old = issuer.token()
    verifier.reader(bearer(old))
    issuer.rotate("key-2")
    clock.now += 60
    verifier.reader(bearer(issuer.token()))
    with pytest.raises(InvalidTokenError):
        verifier.reader(bearer(old))


def test_a_token_that_was_good_is_judged_by_the_moment_and_the_keys_of_the_moment(
    issuer: TokenIssuer,
) -> None:
    """What is remembered of it is its signature alone: it ends when it ends, and with its key."""
    now, clock = [time.time()], Clock()
    keys = SigningKeys(HttpConnections(), issuer.url, clock=clock)
    verifier = TokenVerifier(keys, SETTINGS, clock=lambda: now[0])
    token = issuer.token(exp=int(now[0]) + 600)
    for _ in range(2):
        verifier.reader(bearer(token))
    # The same keys, fetched again.
    clock.now += FRESH_SECONDS + 1
    verifier.reader(bearer(token))
    assert issuer.fetches == 2
    now[0] += 600 + LEEWAY_SECONDS
    with pytest.raises(InvalidTokenError, match="expired"):
        verifier.reader(bearer(token))
    now[0] -= 300 + LEEWAY_SECONDS
    verifier.reader(bearer(token))
    # Another key under the same id.
    issuer.rotate("key-1")
    clock.now += FRESH_SECONDS + 1
    with pytest.raises(InvalidTokenError, match="signature"):
        verifier.reader(bearer(token))


def test_invented_key_ids_do_not_make_us_ask_each_time(issuer: TokenIssuer, verifier: TokenVerifier) -> None:
    """A hundred unknown keys cost the issuer one question."""
    for number in range(100):
        with pytest.raises(InvalidTokenError):
            verifier.reader(bearer(issuer.token(header={"kid": f"invented-{number}"})))
    assert issuer.fetches == 1


def test_keys_outlive_an_issuer_that_is_down_but_not_for_ever(issuer: TokenIssuer) -> None:
    """Known keys serve on for a day; then, and without any keys, tokens cannot be judged."""
    clock = Clock()
    verifier = TokenVerifier(SigningKeys(HttpConnections(), issuer.url, clock=clock), SETTINGS)
    token = issuer.token()
    verifier.reader(bearer(token))
    issuer.served = None
    clock.now += FRESH_SECONDS + 1
    verifier.reader(bearer(token))
    clock.now += LONGEST_SECONDS
    with pytest.raises(KeysUnavailableError):
        verifier.reader(bearer(token))
    with pytest.raises(KeysUnavailableError):
        TokenVerifier(SigningKeys(HttpConnections(), issuer.url), SETTINGS).reader(bearer(token))


def test_an_issuer_that_is_down_from_the_start_is_not_asked_by_every_request(issuer: TokenIssuer) -> None:
    """Without keys nobody can be judged; whether the issuer is back is asked once a second."""
    clock, token = Clock(), issuer.token()
    issuer.served = None
    verifier = TokenVerifier(SigningKeys(HttpConnections(), issuer.url, clock=clock), SETTINGS)
    for _ in range(20):
        with pytest.raises(KeysUnavailableError):
            verifier.reader(bearer(token))
    assert issuer.fetches == 1
    issuer.served = issuer.key_set()
    clock.now += 1
    verifier.reader(bearer(token))


def test_a_key_set_has_bounds(issuer: TokenIssuer) -> None:
    """Of very many keys the first count; a document that is too long is none."""
    good = issuer.key_set()["keys"][0]
    many = [{**good, "kid": f"other-{number}"} for number in range(32)]
    for served in ({"keys": [*many, good]}, {"keys": [good], "padding": "x" * 70_000}):
        issuer.served = served
        with pytest.raises((InvalidTokenError, KeysUnavailableError)):
            TokenVerifier(SigningKeys(HttpConnections(), issuer.url), SETTINGS).reader(bearer(issuer.token()))
    issuer.served = {"keys": [*many[1:], good]}
    TokenVerifier(SigningKeys(HttpConnections(), issuer.url), SETTINGS).reader(bearer(issuer.token()))


def test_a_key_too_short_to_trust_is_left_out(issuer: TokenIssuer) -> None:
    """1,024 bits can be broken; a token signed with such a key proves nothing."""
    issuer.keys = {"key-1": generate_private_key(65537, 1024)}
    issuer.served = issuer.key_set()
    with pytest.raises(KeysUnavailableError):
        TokenVerifier(SigningKeys(HttpConnections(), issuer.url), SETTINGS).reader(bearer(issuer.token()))


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
        TokenVerifier(SigningKeys(HttpConnections(), issuer.url), SETTINGS).reader(bearer(token))
    issuer.served = {"keys": [{**good, "kid": "other", **change}, "text", good]}
    TokenVerifier(SigningKeys(HttpConnections(), issuer.url), SETTINGS).reader(bearer(token))


def test_the_scope_is_the_settings(issuer: TokenIssuer) -> None:
    """Another deployment's scope does not open this one."""
    other = replace(SETTINGS, read_scope="mlpipe-prod-api/predictions:read")
    with pytest.raises(InsufficientScopeError):
        TokenVerifier(SigningKeys(HttpConnections(), issuer.url), other).reader(bearer(issuer.token()))
