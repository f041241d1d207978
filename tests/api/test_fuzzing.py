"""Random tokens, paths, queries and events always get a verdict and never an internal error."""

from __future__ import annotations

from typing import TYPE_CHECKING, Any
from urllib.parse import quote

import pytest
from hypothesis import HealthCheck, assume, given, settings
from hypothesis import strategies as st

from api_lambda.http.load_balancer import decode_part
from api_lambda.routes import find_route
from api_lambda.tokens.token_verifier import InsufficientScopeError, InvalidTokenError, MissingTokenError
from prediction_contract.limits import MAX_PARTITION_KEY_BYTES
from tests.api.api_calls import ApiUnderTest
from tests.api.token_checks import ALPHABET, SHARED_ISSUER, bearer
from tests.fakes.item_readers import UnavailableReader

if TYPE_CHECKING:
    from api_lambda.tokens.token_verifier import TokenVerifier
    from tests.fakes.token_issuer import TokenIssuer


@pytest.fixture
def silent(session_issuer: TokenIssuer) -> ApiUnderTest:
    """Return an application whose store fails at once, so that no request waits for it."""
    alone = ApiUnderTest(session_issuer, {"AWS_ENDPOINT_URL": "http://127.0.0.1:1"})
    services = alone.application._services
    services.publications._registry._reader = services.store._reader = UnavailableReader()
    return alone


@settings(deadline=None, suppress_health_check=[HealthCheck.function_scoped_fixture], max_examples=200)
@given(
    text=st.text(max_size=200) | st.builds(".".join, st.lists(st.text("aeyJ{}_-=", max_size=40), max_size=5))
)
def test_random_text_is_refused_as_token(verifier: TokenVerifier, text: str) -> None:
    """Any text in the header is refused as an invalid or missing token."""
    with pytest.raises((InvalidTokenError, MissingTokenError)):
        verifier.verify((f"Bearer {text}",))


@settings(deadline=None, suppress_health_check=[HealthCheck.function_scoped_fixture], max_examples=200)
@given(data=st.data())
def test_token_with_one_changed_character_is_refused(verifier: TokenVerifier, data: st.DataObject) -> None:
    """A token with one character replaced, inserted or removed anywhere is refused."""
    good = SHARED_ISSUER.token()
    place = data.draw(st.integers(0, len(good) - 1))
    letter = data.draw(st.sampled_from(f"{ALPHABET}.=+/ ") | st.characters())
    kept = data.draw(st.sampled_from([place, place + 1]))
    changed = f"{good[:place]}{data.draw(st.sampled_from([letter, '']))}{good[kept:]}"
    # Surrounding spaces are not part of a token.
    assume(changed.strip(" ") != good)
    with pytest.raises(InvalidTokenError):
        verifier.verify(bearer(changed))
    verifier.verify(bearer(good))


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
def test_signed_tokens_with_random_claims_get_a_verdict(
    verifier: TokenVerifier, header: dict[str, Any], claims: dict[str, Any]
) -> None:
    """Properly signed tokens with random headers and claims cause no error, and invalid ones never pass."""
    token = SHARED_ISSUER.token(header=header, **claims)
    try:
        verifier.verify(bearer(token))
    except (InvalidTokenError, InsufficientScopeError):
        return
    # A token may pass only if irrelevant members changed or optional ones were removed.
    assert set(header) <= {"typ", "x"}
    assert all(value is None or name in {"nbf", "iat", "exp"} for name, value in claims.items())


@settings(deadline=None, max_examples=200, suppress_health_check=[HealthCheck.function_scoped_fixture])
@given(
    event=st.one_of(
        st.none() | st.integers() | st.text(),
        st.fixed_dictionaries(
            {},
            optional={
                "httpMethod": st.none() | st.sampled_from(["GET", "HEAD", "POST"]) | st.integers(),
                "path": st.none() | st.text(max_size=50) | st.integers(),
                "headers": st.none() | st.dictionaries(st.text(max_size=9), st.none() | st.text(max_size=9)),
                "multiValueHeaders": st.none()
                | st.dictionaries(st.text(max_size=9), st.none() | st.lists(st.text(max_size=9))),
                "body": st.none() | st.text(max_size=20),
                "isBase64Encoded": st.none() | st.booleans(),
            },
        ),
    )
)
def test_random_events_get_a_valid_response(silent: ApiUnderTest, event: Any) -> None:
    """Any event gets a response that the load balancer accepts and that is not an internal error."""
    answer = silent.send(event)
    assert answer.status in {200, 400, 401, 404, 405, 503}
    assert isinstance(answer.event["body"], str)
    assert all(isinstance(value, str) for value in answer.headers.values())


@settings(deadline=None, max_examples=300)
@given(
    entity_id=st.text(min_size=1, max_size=60), model=st.from_regex(r"[a-z][a-z0-9_]{0,40}", fullmatch=True)
)
def test_percent_encoded_keys_survive_the_path(entity_id: str, model: str) -> None:
    """Any percent-encoded key reaches the predictions route and is decoded unchanged."""
    assume(len(entity_id.encode(errors="surrogatepass")) <= MAX_PARTITION_KEY_BYTES)
    assume(not any("\ud800" <= character <= "\udfff" for character in entity_id))
    for encoded in (quote(entity_id, safe=""), "".join(f"%{octet:02x}" for octet in entity_id.encode())):
        route, parts = find_route(f"/v1/models/{model}/predictions/{encoded}")
        assert (route.name, parts["model"]) == ("/v1/models/{model}/predictions/{entity_id}", model)
        assert decode_part(parts["entity_id"]) == entity_id


PIECES = ["v1", "models", "predictions", "history", "predictions:batchGet", "m", "", ".", "..", "healthz"]
ODDITIES = [
    "%",
    "%2",
    "%2F",
    "%2f..",
    "%00",
    "%C3",
    "%FF",
    "%25",
    "%u0041",
    "\x00",
    "\n",
    "\\",
    "?",
    "#",
    ";",
]


@settings(deadline=None, max_examples=300, suppress_health_check=[HealthCheck.function_scoped_fixture])
@given(
    pieces=st.lists(st.sampled_from(PIECES) | st.sampled_from(ODDITIES) | st.text(max_size=5), max_size=7),
    method=st.sampled_from(["GET", "HEAD", "POST", "DELETE"]),
    query=st.dictionaries(
        st.sampled_from(["fields", "enrich", "limit", "before", "after", "x"]),
        st.sampled_from(["", ",", "1", "0", "-1", "none", "9" * 30, "%", "%FF", "%2C", "\ud800"]) | st.text(),
        max_size=2,
    ),
)
def test_random_paths_and_queries_get_a_response(
    silent: ApiUnderTest, pieces: list[str], method: str, query: dict[str, str]
) -> None:
    """Any path and query gets a refusal, or 503 where the store is needed, and never an internal error."""
    answer = silent.get(f"/{'/'.join(pieces)}", method=method, query=query, body="{}")
    assert answer.status in {200, 400, 404, 405, 503}
    assert silent.last_line["level"] == ("ERROR" if answer.status == 503 else "INFO")
    assert answer.status != 200 or silent.last_line["route"] == "/healthz"
