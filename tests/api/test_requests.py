"""Tests of routing, limits, problem documents and headers, before any store is read."""

from __future__ import annotations

import base64
import json
from types import SimpleNamespace
from typing import TYPE_CHECKING, Any

import pytest

from api_lambda import handler as entry
from api_lambda.http.load_balancer import LARGEST_BODY, LoadBalancerRequest, Response
from api_lambda.settings import Settings, SettingsError
from prediction_contract.limits import MAX_FUNCTION_ANSWER_BYTES
from tests.api.api_calls import REQUEST_ID, ApiUnderTest, environment, recorded_event

if TYPE_CHECKING:
    from tests.fakes.token_issuer import TokenIssuer


@pytest.fixture
def alone(session_issuer: TokenIssuer) -> ApiUnderTest:
    """Return an application without a store."""
    return ApiUnderTest(session_issuer, {"AWS_ENDPOINT_URL": "http://127.0.0.1:1"})


def test_health_check_needs_no_store(alone: ApiUnderTest) -> None:
    """The load balancer's recorded health check, without token and query, succeeds."""
    answer = alone.send(recorded_event("alb_health_check"))
    assert (answer.status, answer.document) == (200, {"status": "ok"})
    assert alone.last_line["route"] == "/healthz"


@pytest.mark.parametrize(
    "path",
    [
        "",
        "/",
        "/healthz/",
        "//healthz",
        "/%68ealthz",
        "/v1/models/m/predictions/",
        "/v1/models/m/",
        "/v1/models//predictions/a",
        "/v1/models/m/n/predictions/a",
        "/v2/models/m/predictions/a",
    ],
)
def test_unknown_routes_are_404(alone: ApiUnderTest, path: str) -> None:
    """A path that is not a route gets 404, with or without a token."""
    for token in (None, ""):
        answer = alone.get(path, token=token)
        assert (answer.status, answer.problem) == (404, "unknown-route")
    assert alone.last_line["route"] is None


def test_largest_response_fits_with_status_and_headers() -> None:
    """The limit counts all of the function's JSON, not only the body."""
    request = LoadBalancerRequest.from_event(recorded_event("alb_multi_value"))
    largest = Response(200, "x" * (LARGEST_BODY - 2), headers={"ETag": "e" * 34})
    assert largest.fits
    assert len(json.dumps(largest.to_event(request, "r" * 36))) <= MAX_FUNCTION_ANSWER_BYTES
    assert not Response(200, "x" * (LARGEST_BODY - 1)).fits


def test_oversized_requests_are_refused_first(alone: ApiUnderTest) -> None:
    """Oversized addresses, headers and bodies are refused, even without a token."""
    path = "/v1/models/m/predictions/a"
    asked: dict[str, dict[str, Any]] = {
        "address-too-long": {"path": f"/v1/models/m/predictions/{'x' * 6_300}"},
        "headers-too-large": {"headers": {"x": "y" * 40_000}},
        "body-too-large": {"body": "x" * 1_000_001},
    }
    answers = {
        kind: alone.send({"httpMethod": "GET", "path": path, **members}) for kind, members in asked.items()
    }
    assert {kind: answer.problem for kind, answer in answers.items()} == {kind: kind for kind in asked}
    assert [answer.status for answer in answers.values()] == [414, 431, 413]
    more: dict[int, list[dict[str, Any]]] = {
        414: [
            {"queryStringParameters": {"fields": "x" * 9_000}},
            {"multiValueQueryStringParameters": {"fields": ["x"] * 9_000}},
            {"multiValueQueryStringParameters": {f"{number}": [""] for number in range(9_000)}},
        ],
        431: [
            {"multiValueHeaders": {"x": ["yyyy"] * 9_000}},
            {"headers": dict.fromkeys(map(str, range(9_000)), "")},
        ],
        413: [
            {"body": base64.b64encode(b"x" * 1_000_001).decode(), "isBase64Encoded": True},
            {"body": "ü" * 500_001},
        ],
    }
    for status, events in more.items():
        for members in events:
            assert alone.send({"httpMethod": "GET", "path": path, **members}).status == status


@pytest.mark.parametrize("path", ["/healthz", "/v1/models", "/v1/models/m/predictions/a"])
def test_unknown_query_parameter_is_refused(alone: ApiUnderTest, path: str) -> None:
    """A misspelled parameter is refused, not ignored, and its value is not repeated."""
    answer = alone.get(path, query={"feilds": "marker-4711"})
    assert (answer.status, answer.problem) == (400, "invalid-query")
    assert "4711" not in json.dumps(answer.event)


@pytest.mark.parametrize("method", ["POST", "PUT", "PATCH", "DELETE", "OPTIONS", "TRACE", "get", "", "GET "])
@pytest.mark.parametrize("path", ["/healthz", "/v1/models/m/predictions/a"])
def test_other_methods_get_405_with_allow(alone: ApiUnderTest, method: str, path: str) -> None:
    """A wrong method gets the list of allowed methods, without a token."""
    answer = alone.get(path, method=method, token="")
    assert (answer.status, answer.problem) == (405, "method-not-allowed")
    assert answer.headers["Allow"] == "GET, HEAD"


def test_responses_have_no_cors_headers(alone: ApiUnderTest) -> None:
    """A browser's preflight request is refused, and no response has a CORS header."""
    asked = {"origin": "https://page.example", "access-control-request-method": "GET"}
    preflight = alone.get("/v1/models/m/predictions/a", method="OPTIONS", token="", headers=asked)
    assert preflight.status == 405
    for answer in (preflight, alone.get("/healthz", headers=asked), alone.prediction("m")):
        assert not [name for name in answer.headers if name.lower().startswith("access-control-")]


def test_query_without_one_valid_entity_is_refused(alone: ApiUnderTest) -> None:
    """A missing, empty, badly encoded or doubled entity id in the query is refused."""
    for path in ("/v1/models/m/predictions", "/v1/models/m/history"):
        assert alone.get(path).problem == "invalid-entity-id"
        assert alone.get(path, query={"entity_id": ""}).problem == "invalid-entity-id"
        assert alone.get(path, query={"entity_id": "%FF"}).problem == "invalid-query"
        event = {
            "httpMethod": "GET",
            "path": path,
            "headers": {"authorization": f"Bearer {alone.issuer.token()}"},
            "multiValueQueryStringParameters": {"entity_id": ["a", "b"]},
        }
        assert alone.send(event).problem == "invalid-query"


def test_head_is_get_without_a_body(alone: ApiUnderTest) -> None:
    """HEAD has the status and headers of GET and no body."""
    head, get = alone.get("/healthz", method="HEAD"), alone.get("/healthz")
    assert (head.status, head.headers, head.event["body"]) == (200, get.headers, "")


def test_responses_have_security_headers(alone: ApiUnderTest) -> None:
    """Successes and problems have the cache, sniffing, framing and TLS headers."""
    for answer in (alone.get("/healthz"), alone.get("/nowhere"), alone.prediction("m")):
        assert answer.headers["Cache-Control"] == "no-store"
        assert answer.headers["X-Content-Type-Options"] == "nosniff"
        assert answer.headers["Content-Security-Policy"] == "default-src 'none'; frame-ancestors 'none'"
        assert answer.headers["Strict-Transport-Security"].startswith("max-age=63072000")
        assert answer.headers["X-Request-Id"] == REQUEST_ID


def test_problem_has_the_request_id_of_its_log_line(alone: ApiUnderTest) -> None:
    """The problem's instance and the log line have the same request id."""
    answer = alone.get("/v1/models/m/predictions/a", token="")
    assert answer.document["instance"] == f"urn:mlpipe:request:{REQUEST_ID}"
    assert answer.headers["WWW-Authenticate"] == 'Bearer realm="mlpipe"'
    line = alone.last_line
    assert (line["request_id"], line["status"], line["problem"]) == (REQUEST_ID, 401, "missing-token")


def test_token_error_is_detailed_only_in_the_log(alone: ApiUnderTest) -> None:
    """The log says why a token is invalid; the response does not, and the token is not logged."""
    token = alone.issuer.token(exp=1)
    answer = alone.get("/v1/models/m/predictions/a", token=token)
    assert (answer.status, answer.problem) == (401, "invalid-token")
    assert "expired" not in answer.event["body"]
    assert alone.last_line["cause"] == "expired"
    assert token not in alone.lines[-1]


def test_malformed_trace_id_is_not_logged(alone: ApiUnderTest) -> None:
    """A malformed trace header from a client is left out of the log."""
    event = {"httpMethod": "GET", "path": "/healthz"}
    good = "Root=1-5c536348-3d683b8b04734faae651f476;Parent=53995c3f42cd8ad8;Sampled=1"
    for sent, kept in ((good, good), (f"{good}\nX: y", ""), ("x" * 9_000, ""), (f"A={'b' * 200}", "")):
        alone.send({**event, "multiValueHeaders": {"X-Amzn-Trace-Id": [sent, "y"]}})
        assert alone.last_line["trace_id"] == kept


def test_two_authorization_headers_are_refused(alone: ApiUnderTest) -> None:
    """A request with two authorization headers is refused."""
    good = f"Bearer {alone.issuer.token()}"
    event = {"httpMethod": "GET", "path": "/v1/models/m/predictions/a"}
    for headers in ({"authorization": [good, good]}, {"authorization": [good], "Authorization": ["x"]}):
        assert alone.send({**event, "multiValueHeaders": headers}).problem == "invalid-token"


def test_handler_reads_its_environment_once(
    session_issuer: TokenIssuer, monkeypatch: pytest.MonkeyPatch, capsys: pytest.CaptureFixture[str]
) -> None:
    """The first event builds the application, later ones reuse it, and each logs one line."""
    for name, value in environment(MLPIPE_JWKS_URL=session_issuer.url).items():
        monkeypatch.setenv(name, value)
    entry._application.cache_clear()
    context = SimpleNamespace(aws_request_id=REQUEST_ID)
    event = {"httpMethod": "GET", "path": "/healthz", "headers": {}}
    assert entry.handler(event, context)["statusCode"] == 200
    monkeypatch.delenv("MLPIPE_STAGE")
    assert entry.handler(event, context)["statusCode"] == 200
    assert [json.loads(line)["status"] for line in capsys.readouterr().out.splitlines()] == [200, 200]
    entry._application.cache_clear()
    with pytest.raises(SettingsError, match="MLPIPE_STAGE is not set"):
        entry.handler(event, context)


@pytest.mark.parametrize(
    ("variables", "named"),
    [
        ({"AWS_REGION": ""}, "AWS_REGION"),
        ({"AWS_SECRET_ACCESS_KEY": ""}, "AWS_SECRET_ACCESS_KEY"),
        ({"MLPIPE_STAGE": "Bad Stage"}, "stage"),
        ({"MLPIPE_JWKS_URL": "http://issuer.example/jwks"}, "MLPIPE_JWKS_URL"),
        ({"MLPIPE_JWKS_URL": "file:///etc/passwd"}, "MLPIPE_JWKS_URL"),
        ({"MLPIPE_TOKEN_CLIENT_IDS": "", "MLPIPE_TOKEN_AUDIENCES": " , "}, "MLPIPE_TOKEN_AUDIENCES"),
        ({"MLPIPE_JWKS_URL": "https://issuer.example:99999/jwks"}, "MLPIPE_JWKS_URL"),
        ({"MLPIPE_JWKS_URL": "https://[issuer/jwks"}, "MLPIPE_JWKS_URL"),
        ({"AWS_ENDPOINT_URL": "http://127.0.0.1:65536"}, "AWS_ENDPOINT_URL is not"),
        ({"AWS_ENDPOINT_URL_DYNAMODB": "127.0.0.1:8000"}, "AWS_ENDPOINT_URL_DYNAMODB is not"),
        ({"MLPIPE_PROVIDER_ORIGINS": "https://a.example:99999"}, "MLPIPE_PROVIDER_ORIGINS"),
        ({"MLPIPE_PROVIDER_ORIGINS": "https://a.example:0"}, "MLPIPE_PROVIDER_ORIGINS"),
        ({"MLPIPE_PROVIDER_ORIGINS": "https://[::1"}, "MLPIPE_PROVIDER_ORIGINS"),
        ({"MLPIPE_PROVIDER_ORIGINS": "https://[::::]=weather"}, "MLPIPE_PROVIDER_ORIGINS"),
        ({"MLPIPE_PROVIDER_ORIGINS": "https://a.example/path"}, "MLPIPE_PROVIDER_ORIGINS"),
        ({"MLPIPE_PROVIDER_ORIGINS": "a.example"}, "MLPIPE_PROVIDER_ORIGINS"),
        ({"MLPIPE_PROVIDER_ORIGINS": "http://a.example=weather"}, "over plain HTTP"),
        ({"MLPIPE_PROVIDER_ORIGINS": "https://a.example=Bad Name"}, "provider name"),
        ({"MLPIPE_PUBLIC_DOCUMENTATION": "yes"}, "MLPIPE_PUBLIC_DOCUMENTATION"),
        ({"MLPIPE_POINTER_CACHE_SECONDS": "61"}, "MLPIPE_POINTER_CACHE_SECONDS"),
        ({"MLPIPE_ENRICHMENT_BUDGET_MILLISECONDS": "-1"}, "MLPIPE_ENRICHMENT_BUDGET_MILLISECONDS"),
        ({"MLPIPE_ENRICHMENT_BUDGET_MILLISECONDS": "1e3"}, "MLPIPE_ENRICHMENT_BUDGET_MILLISECONDS"),
    ],
)
def test_invalid_settings_are_named(variables: dict[str, str], named: str) -> None:
    """A function with an invalid environment does not start, and the error names the variable."""
    with pytest.raises(SettingsError, match=named) as raised:
        Settings.from_environment(environment(**variables))
    assert "test-secret" not in str(raised.value)


def test_settings_have_sound_defaults_and_hide_secrets() -> None:
    """Endpoint, cache time, budget and scope have defaults, and the settings' repr hides credentials."""
    settings = Settings.from_environment(environment(MLPIPE_TOKEN_SCOPE="", AWS_SESSION_TOKEN="test-session"))
    assert settings.dynamodb_url == "https://dynamodb.us-east-1.amazonaws.com"
    assert (settings.pointer_seconds, settings.enrichment_seconds) == (5, 0.8)
    assert settings.read_scope == "mlpipe-local-api/predictions:read"
    assert "test-secret" not in repr(settings)
    assert "test-session" not in repr(settings)
