"""The API over HTTP: load balancer, Lambda from the built zip, DynamoDB, Cognito and weather service."""

from __future__ import annotations

import json
import time
import urllib.error
import urllib.parse
import urllib.request
from dataclasses import dataclass
from decimal import Decimal
from typing import TYPE_CHECKING, Any

import pytest

from infra.local.access_token import obtain_token
from prediction_contract.stores.serving_record import Enrichment
from tests.api.published_batches import FLIGHT, PublishedModel

if TYPE_CHECKING:
    from collections.abc import Callable, Iterator

    from prediction_contract.naming.resource_names import Deployment
    from tests.stack_runs import LocalStack

pytestmark = pytest.mark.stack
_SECONDS = 60


@dataclass(frozen=True, slots=True)
class HttpAnswer:
    """An HTTP response."""

    status: int
    headers: dict[str, str]
    body: str

    @property
    def document(self) -> Any:
        """The parsed JSON body, with exact numbers."""
        return json.loads(self.body, parse_float=Decimal)


def request(
    url: str,
    *,
    method: str = "GET",
    token: str | None = None,
    body: bytes | None = None,
    etag: str | None = None,
) -> HttpAnswer:
    """Send an HTTP request and return the response, including error responses."""
    headers = {"Authorization": f"Bearer {token}"} if token else {}
    if etag:
        headers["If-None-Match"] = etag
    asked = urllib.request.Request(url, method=method, headers=headers, data=body)
    opener = urllib.request.build_opener(urllib.request.ProxyHandler({}))
    try:
        answer = opener.open(asked, timeout=_SECONDS)
    except urllib.error.HTTPError as error:
        answer = error
    with answer:
        return HttpAnswer(answer.status or 0, dict(answer.headers), answer.read().decode())


@pytest.fixture
def url(local_stack: LocalStack, model: PublishedModel) -> str:
    """Return the address of the model's predictions on the local load balancer."""
    return f"{local_stack.environment['MLPIPE_API_URL']}/v1/models/{model.name}/predictions"


@pytest.fixture
def order_fault(local_stack: LocalStack) -> Iterator[Callable[[dict[str, Any]], None]]:
    """Return a function that makes the stack's weather service fail until the test ends."""
    address = f"{local_stack.environment['MLPIPE_WEATHER_URL']}/_faults"

    def order(fault: dict[str, Any]) -> None:
        assert request(address, method="PUT", body=json.dumps(fault).encode()).status == 200

    yield order
    order({"mode": "none"})


def weather_of(local_stack: LocalStack, **changes: Any) -> Enrichment:
    """Return the enrichment from the stack's weather service."""
    template = (
        f"{local_stack.environment['MLPIPE_WEATHER_URL']}/v1/stations/{{origin}}/observations?time={{hour}}"
    )
    members = {"fields": ("temp", "observed_at"), "timeout_milliseconds": 5000, "cache_seconds": 0}
    return Enrichment("weather", template, **{**members, **changes})


def test_prediction_has_provenance_and_weather(
    local_stack: LocalStack, model: PublishedModel, url: str, token: str
) -> None:
    """A prediction keeps every digit through the whole stack and has provenance and weather."""
    batch_id = model.publish(FLIGHT, enrichments=(weather_of(local_stack),))
    answer = request(f"{url}/AA-1141-JFK", token=token)
    assert answer.status == 200
    assert f'"prediction":{FLIGHT}' in answer.body
    document = answer.document
    assert (document["model"], document["entity_id"]) == (model.name, "AA-1141-JFK")
    assert document["provenance"] | {"published_at": ""} == {
        "batch_id": batch_id,
        "partition": "2013-02-01",
        "model_version": "v7",
        "published_at": "",
        "sequence": 1,
    }
    assert document["enrichment"]["weather"]["data"] == {
        "observed_at": "2013-02-01T10:00:00Z",
        "temp": Decimal("30.02"),
    }
    assert answer.headers["Content-Type"] == "application/json"
    assert answer.headers["X-Request-Id"]


def test_dead_provider_does_not_fail_the_prediction(
    local_stack: LocalStack,
    model: PublishedModel,
    url: str,
    token: str,
    order_fault: Callable[[dict[str, Any]], None],
) -> None:
    """If the weather service drops connections, the prediction is still returned and says so."""
    # No other test asks for this field: the function caches responses.
    model.publish(FLIGHT, enrichments=(weather_of(local_stack, fields=("dewp",)),))
    order_fault({"mode": "dead"})
    answer = request(f"{url}/AA-1141-JFK", token=token)
    assert answer.status == 200
    assert answer.document["prediction"]["flight"] == "AA-1141-JFK"
    assert answer.document["enrichment"] == {"weather": {"status": "unavailable"}}


def test_slow_provider_does_not_delay_the_prediction(
    local_stack: LocalStack,
    model: PublishedModel,
    url: str,
    token: str,
    order_fault: Callable[[dict[str, Any]], None],
) -> None:
    """A provider that takes half a minute does not hold up the response."""
    model.publish(FLIGHT, enrichments=(weather_of(local_stack, fields=("humid",)),))
    order_fault({"mode": "slow", "seconds": 30})
    started = time.monotonic()
    answer = request(f"{url}/AA-1141-JFK", token=token)
    assert time.monotonic() - started < 15
    assert (answer.status, answer.document["enrichment"]["weather"]["status"]) == (200, "unavailable")


def test_errors_are_problem_documents(
    model: PublishedModel, url: str, token: str, scopeless_token: str
) -> None:
    """Unknown entity, route and method, missing and invalid token and scope get their status and problem."""
    model.publish(FLIGHT)
    asked = {
        "unknown-entity": request(f"{url}/nobody", token=token),
        "unknown-route": request(f"{url.partition('/v1')[0]}/v2", token=token),
        "missing-token": request(f"{url}/AA-1141-JFK"),
        "invalid-token": request(f"{url}/AA-1141-JFK", token=f"{token[:-8]}AAAAAAAA"),
        "insufficient-scope": request(f"{url}/AA-1141-JFK", token=scopeless_token),
        "method-not-allowed": request(f"{url}/AA-1141-JFK", token=token, method="DELETE"),
    }
    assert {kind: answer.status for kind, answer in asked.items()} == {
        "unknown-entity": 404,
        "unknown-route": 404,
        "missing-token": 401,
        "invalid-token": 401,
        "insufficient-scope": 403,
        "method-not-allowed": 405,
    }
    for kind, answer in asked.items():
        assert answer.document["type"] == f"urn:mlpipe:problem:{kind}"
        assert answer.headers["Content-Type"] == "application/problem+json"
    assert asked["missing-token"].headers["WWW-Authenticate"].startswith("Bearer")
    assert asked["method-not-allowed"].headers["Allow"] == "GET, HEAD"


def test_new_publication_is_served_within_seconds(model: PublishedModel, url: str, token: str) -> None:
    """A running function that served the old batch soon serves the newly published one."""
    first = model.publish(FLIGHT)
    assert request(f"{url}/AA-1141-JFK", token=token).document["provenance"]["batch_id"] == first
    second = model.publish(FLIGHT, partition="2013-02-02")
    deadline = time.monotonic() + 30
    while (seen := request(f"{url}/AA-1141-JFK", token=token).document["provenance"])["batch_id"] == first:
        assert time.monotonic() < deadline
        time.sleep(0.5)
    assert (seen["batch_id"], seen["sequence"]) == (second, 2)


def test_other_routes_respond(model: PublishedModel, url: str, token: str) -> None:
    """Models, batch get, history and conditional requests work through the whole stack."""
    first = model.publish(FLIGHT)
    second = model.publish(FLIGHT, '{"flight":"Zürich 1"}', partition="2013-02-02")
    root, _, _ = url.partition("/predictions")
    assert request(root, token=token).document["batch_id"] == second
    # The list of models is cached for a minute, so the new one may be missing.
    listed = request(root.rpartition("/")[0], token=token)
    assert (listed.status, set(listed.document) - {"next_after"}) == (200, {"models"})
    body = json.dumps({"entity_ids": ["nobody", "Zürich 1"]}).encode()
    many = request(f"{url}:batchGet", method="POST", token=token, body=body)
    assert [entry["found"] for entry in many.document["predictions"]] == [False, True]
    history = request(f"{url}/AA-1141-JFK/history?fields=serial", token=token).document["history"]
    assert [entry["provenance"]["batch_id"] for entry in history] == [second, first]
    etag = request(f"{url}/AA-1141-JFK", token=token).headers["ETag"]
    assert request(f"{url}/AA-1141-JFK", token=token, etag=etag).status == 304
    assert request(f"{url}/AA-1141-JFK?enrich=marker", token=token).status == 400


@pytest.mark.parametrize("entity_id", ["..", "a+b", "a b/history", "100%41"])
def test_path_and_query_arrive_still_encoded(
    model: PublishedModel, url: str, token: str, entity_id: str
) -> None:
    """Slashes, plus signs and dots of an entity id keep their meaning through the load balancer."""
    model.publish(json.dumps({"flight": entity_id}), '{"flight":"a"}')
    root, _, _ = url.partition("/predictions")
    spelt = urllib.parse.quote(entity_id, safe="").replace(".", "%2E")
    for address in (f"{url}/{spelt}", f"{url}?entity_id={spelt}", f"{root}/history?entity_id={spelt}"):
        answer = request(address, token=token)
        assert (answer.status, answer.document["entity_id"]) == (200, entity_id)
    shown = request(f"{url}/a?fields=serial&fields=flight", token=token).document["prediction"]
    assert set(shown) == {"flight", "serial"}


def test_health_checks_need_no_token(local_stack: LocalStack) -> None:
    """The health checks of load balancer and Route 53 work without a token and say nothing about data."""
    for path, status in (("healthz", "ok"), ("readyz", "ready")):
        answer = request(f"{local_stack.environment['MLPIPE_API_URL']}/{path}")
        assert (answer.status, answer.body) == (200, f'{{"status":"{status}"}}')


@pytest.fixture(scope="module")
def scopeless_token(
    local_stack: LocalStack, aws_client: Callable[[str], Any], deployment: Deployment
) -> Iterator[str]:
    """Return a token of the API's client that has another scope of the same resource server."""
    cognito = aws_client("cognito-idp")
    environment = local_stack.environment
    pool = environment["MLPIPE_TOKEN_ISSUER"].rpartition("/")[2]
    server = {"UserPoolId": pool, "Identifier": deployment.resource_server}
    described = cognito.describe_resource_server(**server)["ResourceServer"]
    scopes, other = described["Scopes"], {"ScopeName": "other", "ScopeDescription": "Another one"}
    client = {"UserPoolId": pool, "ClientId": environment["MLPIPE_TOKEN_CLIENT_ID"]}
    settings = cognito.describe_user_pool_client(**client)["UserPoolClient"]
    kept = {
        name: settings[name]
        for name in (
            "ClientName",
            "AllowedOAuthFlows",
            "AllowedOAuthFlowsUserPoolClient",
            "AllowedOAuthScopes",
        )
    }
    wider = [*kept["AllowedOAuthScopes"], f"{deployment.resource_server}/other"]
    cognito.update_resource_server(**server, Name=described["Name"], Scopes=[*scopes, other])
    cognito.update_user_pool_client(**client, **{**kept, "AllowedOAuthScopes": wider})
    yield obtain_token({**environment, "MLPIPE_TOKEN_SCOPE": f"{deployment.resource_server}/other"})
    cognito.update_user_pool_client(**client, **kept)
    cognito.update_resource_server(**server, Name=described["Name"], Scopes=scopes)
