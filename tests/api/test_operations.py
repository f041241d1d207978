"""Tests of what operators see of a request: log line, metrics and trace."""

from __future__ import annotations

import json
import time
import uuid
from types import SimpleNamespace
from typing import TYPE_CHECKING, Any

import pytest
from flights.weather_service.faults import WeatherFault

from api_lambda import handler as entry
from api_lambda.request_log import RequestLog
from tests.api.api_calls import REQUEST_ID, ApiUnderTest, environment
from tests.api.published_batches import FLIGHT, PublishedModel
from tests.api.test_predictions import weather_of
from tests.fakes.http_answers import serving
from tests.fakes.token_issuer import SCOPE

if TYPE_CHECKING:
    from flights.weather_service.server import WeatherServer

    from tests.fakes.token_issuer import TokenIssuer

TRACE = "Root=1-5c536348-3d683b8b04734faae651f476;Parent=53995c3f42cd8ad8;Sampled=1"


def metrics(line: dict[str, Any]) -> dict[str, list[str]]:
    """Return the names of a line's metrics by dimension, after checking their form."""
    found = {}
    for directive in line["_aws"]["CloudWatchMetrics"]:
        assert directive["Namespace"] == "mlpipe"
        ((stage, dimension),) = directive["Dimensions"]
        assert isinstance(line[stage], str)
        assert isinstance(line[dimension], str)
        found[dimension] = [metric["Name"] for metric in directive["Metrics"]]
        assert all(isinstance(line[name], int | float) for name in found[dimension])
    assert line["_aws"]["Timestamp"] > 1_700_000_000_000
    return found


@pytest.mark.stack
def test_prediction_logs_stages_and_metrics(
    api: ApiUnderTest, model: PublishedModel, weather: WeatherServer
) -> None:
    """The log line has the time of each stage and metrics for found, missing and unenriched predictions."""
    model.publish(FLIGHT, enrichments=(weather_of(weather),))
    api.prediction(model.name)
    line = api.last_line
    assert set(line["stages"]) == {"token", "pointer", "items", "enrichment"}
    assert 0 < sum(line["stages"].values()) <= line["milliseconds"]
    assert metrics(line) == {
        "route": ["milliseconds", "faults"],
        "model": [
            "predictions",
            "not_found",
            "stale_enrichments",
            "unavailable_enrichments",
            "pointer_age",
        ],
    }
    told = ("stage", "model", "predictions", "not_found", "stale_enrichments", "faults")
    assert [line[name] for name in told] == ["local", model.name, 1, 0, 0, 0]
    assert 0 <= line["pointer_age"] < 600
    weather.faults.replace(WeatherFault("dead"))
    try:
        api.prediction(model.name)
    finally:
        weather.faults.replace(WeatherFault())
    assert api.last_line["stale_enrichments"] == 1
    api.prediction(model.name, "nobody")
    assert (api.last_line["predictions"], api.last_line["not_found"]) == (1, 1)
    assert metrics(api.last_line)["model"] == ["predictions", "not_found", "pointer_age"]


def test_unknown_route_has_no_metrics(session_issuer: TokenIssuer) -> None:
    """An unknown path creates no metric; a failed request to a known route counts as a fault."""
    alone = ApiUnderTest(session_issuer, {"AWS_ENDPOINT_URL": "http://127.0.0.1:1"})
    alone.get("/marker/4711")
    assert metrics(alone.last_line) == {}
    alone.prediction("m")
    assert metrics(alone.last_line) == {"route": ["milliseconds", "faults"]}
    assert alone.last_line["faults"] == 1


def test_failed_and_repeated_stages_are_timed() -> None:
    """A stage that fails is timed, and the times of a repeated stage are added up."""
    log = RequestLog()

    def fail() -> None:
        with log.stage("items"):
            time.sleep(0.02)
            raise KeyError

    with pytest.raises(KeyError):
        fail()
    first = log.milliseconds["items"]
    with log.stage("items"):
        time.sleep(0.01)
    assert first >= 19
    assert log.milliseconds["items"] >= first + 9


def test_trace_is_passed_to_the_store(
    session_issuer: TokenIssuer,
    monkeypatch: pytest.MonkeyPatch,
    capsys: pytest.CaptureFixture[str],
) -> None:
    """The store gets the trace that Lambda gave the function, not the client's header."""
    with serving((200, b"{}", {})) as store:
        for name, value in environment(
            MLPIPE_JWKS_URL=session_issuer.url, AWS_ENDPOINT_URL=store.url
        ).items():
            monkeypatch.setenv(name, value)
        monkeypatch.setenv("_X_AMZN_TRACE_ID", TRACE)
        entry._application.cache_clear()
        headers = {
            "authorization": f"Bearer {session_issuer.token()}",
            "x-amzn-trace-id": "Root=1-00000000-000000000000000000000000",
        }
        event = {"httpMethod": "GET", "path": "/v1/models/m/predictions/a", "headers": headers}
        assert entry.handler(event, SimpleNamespace(aws_request_id=REQUEST_ID))["statusCode"] == 404
        entry._application.cache_clear()
        assert {each["x-amzn-trace-id"] for each in store.headers} == {TRACE}
    assert json.loads(capsys.readouterr().out)["trace_id"] == TRACE


@pytest.mark.stack
def test_trace_is_passed_to_providers(api: ApiUnderTest, model: PublishedModel) -> None:
    """Providers get the trace too, though they are called in other threads."""
    with serving((200, b'{"temp":1}', {})) as provider:
        other = ApiUnderTest(api.issuer, {**api.variables, "MLPIPE_PROVIDER_ORIGINS": provider.url})
        model.publish(FLIGHT, enrichments=(weather_of(provider),))
        path = f"/v1/models/{model.name}/predictions/AA-1141-JFK"
        assert other.get(path, headers={"x-amzn-trace-id": TRACE}).status == 200
        assert provider.headers[0]["x-amzn-trace-id"] == TRACE


@pytest.mark.stack
def test_log_has_no_values_and_no_tokens(api: ApiUnderTest, model: PublishedModel) -> None:
    """No log line has a requested or returned value or a token, whatever went wrong."""
    marker = f"secret-{uuid.uuid4().hex}"
    with serving((500, marker.encode(), {}), (200, marker.encode(), {})) as failing:
        providers = {"MLPIPE_PROVIDER_ORIGINS": failing.url}
        other = ApiUnderTest(api.issuer, {**api.variables, **providers})
        row = json.dumps(
            {"flight": marker, "origin": marker, "hour": "2013-02-01T10:00:00Z", "reasons": marker}
        )
        batch_id = model.publish(row, enrichments=(weather_of(failing),))
        token, path = api.issuer.token(), f"/v1/models/{model.name}/predictions"
        answers = [
            other.get(f"{path}/{marker}", token=token),
            other.get(f"{path}/{marker}/history", token=token),
            other.get(f"{path}/{marker}-nobody", token=token),
            other.get(f"{path}/{marker}", token=token, query={"fields": marker}),
            other.get(f"{path}/{marker}", token=token, query={marker: marker}),
            other.get(f"{path}/{marker}", token=f"{token}{marker}"),
            other.get(f"{path}/{marker}", token=api.issuer.token(iss=marker)),
            other.get(f"/{marker}", token=token),
            other.get(f"/v1/models/{marker.replace('-', '_')}", token=token),
            other.get(path, token=token, method=marker),
            other.batch_get(model.name, {"entity_ids": [marker, "x"]}, token=token),
            other.batch_get(model.name, {"entity_ids": [marker], marker: 1}, token=token),
        ]
        assert [answer.status for answer in answers[:3]] == [200, 200, 404]
        model.client.update_item(
            TableName=model.table,
            Key={"entity_id": {"S": marker}, "batch_id": {"S": batch_id}},
            UpdateExpression="SET serial = :other",
            ExpressionAttributeValues={":other": {"S": marker}},
        )
        assert other.get(f"{path}/{marker}", token=token).status == 500
        assert (other.last_line["cause"], bool(other.last_line["frames"])) == ("DamagedItemError", True)
    assert len(other.lines) == len(answers) + 1
    for line in other.lines:
        assert marker not in line
        assert marker.replace("-", "_") not in line
        assert token not in line
    first = json.loads(other.lines[0])
    assert (first["level"], first["status"], first["request_id"]) == ("INFO", 200, REQUEST_ID)
    assert first["route"] == "/v1/models/{model}/predictions/{entity_id}"


def test_problem_documents_repeat_no_input(session_issuer: TokenIssuer) -> None:
    """No problem document or header repeats anything that the client sent."""
    marker = "marker-4711"
    alone = ApiUnderTest(session_issuer, {"AWS_ENDPOINT_URL": "http://127.0.0.1:1"})
    token = session_issuer.token(scope=f"{SCOPE}:{marker}")
    good = session_issuer.token()
    answers = [
        alone.get(f"/{marker}"),
        alone.get(f"/v1/models/{marker}"),
        alone.get("/v1/models/m", token=marker),
        alone.get("/v1/models/m", token=token),
        alone.get("/v1/models/m", token=good, query={marker: marker}),
        alone.get(f"/v1/models/m/predictions/%FF{marker}", token=good),
        alone.get("/v1/models/m", method=marker),
        alone.get(
            "/v1/models/m", headers={"x-amzn-trace-id": marker, "host": marker, "x-request-id": marker}
        ),
        alone.batch_get("m", {marker: marker}),
    ]
    assert {answer.status for answer in answers} == {400, 401, 403, 404, 405, 503}
    for answer in answers:
        assert answer.problem
        assert marker not in json.dumps(answer.event)
