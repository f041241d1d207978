"""Tests of provider secrets: read from Secrets Manager, sent only to their host, never logged."""

from __future__ import annotations

import json
import uuid
from typing import TYPE_CHECKING, Any

import pytest
from flights.weather_service.observations import read_observations, weather_file
from flights.weather_service.server import WeatherServer

from api_lambda.enrichment.enricher import Enricher
from api_lambda.enrichment.provider_secrets import ProviderSecret, SecretUnavailableError
from api_lambda.enrichment.providers import Provider
from api_lambda.http.http_connections import HttpConnections
from api_lambda.settings import Settings
from infra.local.provisioning.provisioned_tokens import ensure_secret
from tests.api.api_calls import ApiUnderTest, environment
from tests.api.published_batches import FLIGHT, PublishedModel
from tests.api.test_enrichment import OK, ROW, provider
from tests.api.test_predictions import weather_of
from tests.fakes.http_answers import serving, serving_requests

if TYPE_CHECKING:
    from collections.abc import Callable

    from tests.fakes.http_answers import AnsweringServer
    from tests.stack_runs import LocalStack


def secret_answer(document: Any) -> tuple[int, bytes, dict[str, str]]:
    """Return a response of Secrets Manager."""
    text = document if isinstance(document, str) else json.dumps(document)
    return 200, json.dumps({"Name": "n", "SecretString": text}).encode(), {}


def secret_of(manager: AnsweringServer, clock: Callable[[], float]) -> ProviderSecret:
    """Return a secret stored in this Secrets Manager."""
    settings = Settings.from_environment(environment(AWS_ENDPOINT_URL=manager.url))
    return ProviderSecret(HttpConnections(), settings, "mlpipe-local-providers/weather", clock=clock)


@pytest.mark.stack
def test_provider_key_is_sent_and_not_logged(
    local_stack: LocalStack,
    aws_client: Callable[[str], Any],
    api: ApiUnderTest,
    model: PublishedModel,
) -> None:
    """A provider that needs a key gets it from Secrets Manager, and neither response nor log shows it."""
    key = f"key-{uuid.uuid4().hex}"
    name = model.deployment.provider_secret("keyed_weather")
    ensure_secret(aws_client("secretsmanager"), name, {"X-Api-Key": key})
    with (
        WeatherServer(0, read_observations(weather_file()), api_key=key) as server,
        serving_requests(server),
    ):
        model.publish(FLIGHT, enrichments=(weather_of(server),))
        endpoint = local_stack.environment["AWS_ENDPOINT_URL"]
        outcomes = []
        for origins in (server.url, f"{server.url}=keyed_weather"):
            variables = {"AWS_ENDPOINT_URL": endpoint, "MLPIPE_PROVIDER_ORIGINS": origins}
            keyed = ApiUnderTest(api.issuer, {**variables, "MLPIPE_ENRICHMENT_BUDGET_MILLISECONDS": "5000"})
            answer = keyed.prediction(model.name)
            outcomes.append(answer.document["enrichment"]["weather"]["status"])
            assert key not in json.dumps([answer.event, keyed.lines])
    assert outcomes == ["unavailable", "ok"]


def test_secret_is_sent_only_to_its_host() -> None:
    """Another provider of the same request does not get the secret."""
    answer = secret_answer({"X-Api-Key": "k1"})
    with serving(OK) as one, serving(OK) as other, serving(answer) as manager:
        connections = HttpConnections()
        secret = secret_of(manager, lambda: 0.0)
        providers = {
            one.url: Provider(connections, one.url, secret=secret),
            other.url: Provider(connections, other.url),
        }
        outcomes = Enricher(providers, budget_seconds=5).enrich(
            [provider(one.url, "one"), provider(other.url, "two")], ROW
        )
        assert {outcome.status for outcome in outcomes.values()} == {"ok"}
        assert one.headers[0]["x-api-key"] == "k1"
        assert "x-api-key" not in other.headers[0]
        assert manager.headers[0]["x-amz-target"] == "secretsmanager.GetSecretValue"


def test_refused_secret_is_read_again() -> None:
    """When a provider refuses the secret, it is read again, at most once a minute, and the call repeated."""
    now = [1000.0]
    with (
        serving(OK, (401, b"", {}), OK, (401, b"", {})) as server,
        serving(secret_answer({"X-Api-Key": "k1"}), secret_answer({"X-Api-Key": "k2"})) as manager,
    ):
        secret = secret_of(manager, lambda: now[0])
        enricher = Enricher(
            {server.url: Provider(HttpConnections(), server.url, secret=secret)}, budget_seconds=5
        )
        asked = [provider(server.url, cache_seconds=0)]
        assert enricher.enrich(asked, ROW)["one"].status == "ok"
        now[0] += 61
        assert enricher.enrich(asked, ROW)["one"].status == "ok"
        assert [headers["x-api-key"] for headers in server.headers] == ["k1", "k1", "k2"]
        for _ in range(3):
            assert enricher.enrich(asked, ROW)["one"].status == "stale"
        assert len(manager.requests) == 2


@pytest.mark.parametrize(
    "answer",
    [
        (400, b'{"__type":"AccessDeniedException"}', {}),
        (200, b"{}", {}),
        (200, b"marker-4711", {}),
        secret_answer("marker-4711"),
        secret_answer(["marker-4711"]),
        secret_answer({"X-Api-Key": 4711}),
    ],
    ids=["refused", "empty", "no JSON", "text", "list", "number"],
)
def test_unusable_secret_error_does_not_quote_it(
    answer: tuple[int, bytes, dict[str, str]],
) -> None:
    """Without a usable secret the provider is not called, and the reason does not quote the secret."""
    with serving(OK) as server, serving(answer) as manager:
        secret = secret_of(manager, lambda: 0.0)
        with pytest.raises(SecretUnavailableError) as raised:
            secret.headers()
        assert "4711" not in str(raised.value)
        providers = {server.url: Provider(HttpConnections(), server.url, secret=secret)}
        outcome = Enricher(providers, budget_seconds=5).enrich([provider(server.url)], ROW)["one"]
        assert outcome.status == "unavailable"
        assert "4711" not in (outcome.reason or "")
        assert (server.requests, len(manager.requests)) == ([], 1)
