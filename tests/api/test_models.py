"""Tests of the models' routes: what is live, which token may see it, and readiness."""

from __future__ import annotations

import json
from typing import TYPE_CHECKING, Any

import pytest

from prediction_contract.naming.resource_names import Deployment
from prediction_contract.rows.schema import PredictionSchema
from prediction_contract.stores.serving_record import Enrichment, ServingRecord
from tests.api.api_calls import ApiUnderTest
from tests.api.published_batches import FLIGHT, SCHEMA, PublishedModel, new_model
from tests.fakes.http_answers import serving
from tests.fakes.token_issuer import SCOPE

if TYPE_CHECKING:
    from tests.fakes.token_issuer import TokenIssuer

WEATHER = Enrichment("weather", "https://weather.example/{origin}", ("temp",), required=True)

REGISTRY = Deployment("local", "000000000000", "us-east-1").registry_table
UNREAD = (
    f'{{"TableNames":["mlpipe-local-predictions-m"],"UnprocessedKeys":{{"{REGISTRY}":{{"Keys":[{{}}]}}}}}}'
)


@pytest.mark.stack
def test_model_route_describes_the_live_batch(api: ApiUnderTest, model: PublishedModel) -> None:
    """The route shows batch, age, version, columns and enrichments, but no provider addresses."""
    batch_id = model.publish(FLIGHT, enrichments=(WEATHER,))
    answer = api.get(f"/v1/models/{model.name}")
    document = answer.document
    assert 0 <= document.pop("age_seconds") < 600
    assert document.pop("published_at").startswith("20")
    assert document == {
        "model": model.name,
        "batch_id": batch_id,
        "partition": "2013-02-01",
        "model_version": "v7",
        "sequence": 1,
        "rows": 1,
        "key": "flight",
        "columns": [
            {"name": column.name, "type": str(column.type), "nullable": column.nullable}
            for column in SCHEMA.columns
        ],
        "enrichments": [{"name": "weather", "required": True, "fields": ["temp"]}],
    }
    assert "weather.example" not in answer.event["body"]


def pages(api: ApiUnderTest, *, token: str | None = None, **query: str) -> list[Any]:
    """Return all pages of the list of models."""
    found = []
    while not found or "next_after" in found[-1]:
        asked = {**query, **({"after": found[-1]["next_after"]} if found else {})}
        answer = api.get("/v1/models", token=token, query=asked)
        assert answer.status == 200
        found.append(answer.document)
    return found


@pytest.mark.stack
def test_model_list_is_paged(api: ApiUnderTest, model: PublishedModel) -> None:
    """Each live and allowed model is on exactly one page, and invalid page parameters are refused."""
    names = sorted(new_model(model.client, model.deployment).name for _ in range(5))
    for name in (names[0], names[2], names[4]):
        PublishedModel(model.client, model.deployment, name).publish(FLIGHT)
    token = api.issuer.token(scope=" ".join(f"{SCOPE}:{name}" for name in (model.name, *names[:4])))
    told = pages(api, token=token, limit="1")
    assert [entry["model"] for page in told for entry in page["models"]] == [names[0], names[2]]
    assert len(told) == 5
    assert [len(page["models"]) for page in pages(api, token=token)] == [2]
    for query in ({"limit": "0"}, {"limit": "101"}, {"after": ""}, {"after": "MARKER-4711"}):
        answer = api.get("/v1/models", query=query)
        assert (answer.status, answer.problem) == (400, "invalid-query")
        assert "4711" not in json.dumps(answer.event)


@pytest.mark.stack
def test_page_of_wide_models_is_shortened(api: ApiUnderTest, model: PublishedModel) -> None:
    """Models with very many columns are spread over more pages, and none is lost."""
    nullable = {"type": "string", "nullable": True}
    columns = [{"name": f"column_{number:04}_{'x' * 50}", **nullable} for number in range(999)]
    key = {"name": "flight", "type": "string", "nullable": False}
    schema = PredictionSchema.from_document({"key": "flight", "columns": [key, *columns]})
    serving = ServingRecord(schema, "v1", 1, "0").to_json()
    wide = [new_model(model.client, model.deployment) for _ in range(12)]
    for each in wide:
        each.publish(FLIGHT, serving=serving)
    token = api.issuer.token(scope=" ".join(f"{SCOPE}:{each.name}" for each in wide))
    told = pages(api, token=token)
    assert [len(page["models"]) for page in told] == [6, 6]
    assert [entry["model"] for page in told for entry in page["models"]] == sorted(each.name for each in wide)


@pytest.mark.stack
def test_models_without_live_batch_are_not_listed(api: ApiUnderTest, model: PublishedModel) -> None:
    """Live models are listed by name; one that cannot be served shows a problem and does not hide others."""
    model.publish(FLIGHT)
    broken, empty = (new_model(model.client, model.deployment) for _ in range(2))
    broken.publish(FLIGHT, serving="{}")
    by_name = {entry["model"]: entry for page in pages(api) for entry in page["models"]}
    assert list(by_name) == sorted(by_name)
    assert by_name[model.name]["rows"] == 1
    assert by_name[broken.name] == {"model": broken.name, "problem": "urn:mlpipe:problem:internal-fault"}
    assert empty.name not in by_name
    assert any(broken.name in json.loads(line).get("fault", "") for line in api.lines)


@pytest.mark.stack
def test_token_may_be_limited_to_one_model(api: ApiUnderTest, model: PublishedModel) -> None:
    """A token for one model is refused for others, which are not listed either."""
    other = new_model(model.client, model.deployment)
    for each in (model, other):
        each.publish(FLIGHT)
    token = api.issuer.token(scope=f"{SCOPE}:{model.name}")
    routes = ("", "/predictions/AA-1141-JFK", "/predictions/AA-1141-JFK/history")
    for each, status in ((model, 200), (other, 403)):
        for route in routes:
            assert api.get(f"/v1/models/{each.name}{route}", token=token).status == status
        assert api.batch_get(each.name, {"entity_ids": ["a"]}, token=token).status == status
    assert [entry["model"] for entry in api.get("/v1/models", token=token).document["models"]] == [model.name]


@pytest.mark.stack
def test_region_is_ready_if_its_store_responds(api: ApiUnderTest, model: PublishedModel) -> None:
    """Readiness needs no token, no live batch, and says nothing about data."""
    model.hold()
    answer = api.get("/readyz", token="")
    assert (answer.status, answer.document) == (200, {"status": "ready"})


def test_region_without_store_is_unready_but_healthy(session_issuer: TokenIssuer) -> None:
    """Without its store a region fails the readiness check and passes the health check."""
    alone = ApiUnderTest(session_issuer, {"AWS_ENDPOINT_URL": "http://127.0.0.1:1"})
    answer = alone.get("/readyz", token="")
    assert (answer.status, answer.problem) == (503, "store-unavailable")
    assert alone.get("/healthz", token="").status == 200
    assert "127.0.0.1" not in json.dumps(answer.event)


@pytest.mark.parametrize(
    "answer",
    [
        (400, b'{"__type":"AccessDeniedException"}', {}),
        (400, b'{"__type":"ThrottlingException"}', {}),
        (500, b"", {}),
        (200, UNREAD.encode(), {}),
    ],
    ids=["refused", "throttled", "failing", "pointers not read"],
)
def test_region_with_unreadable_pointers_is_unready(
    session_issuer: TokenIssuer, answer: tuple[int, bytes, dict[str, str]]
) -> None:
    """A store that does not return pointers makes the region unready, and that result is not cached."""
    with serving(answer) as store:
        api = ApiUnderTest(session_issuer, {"AWS_ENDPOINT_URL": store.url})
        assert api.get("/readyz", token="").status in {500, 503}
        assert api.get("/healthz", token="").status == 200
        store.answers[:] = [(200, b'{"TableNames":[]}', {})]
        assert api.get("/readyz", token="").status == 200


@pytest.mark.stack
def test_old_batch_does_not_make_region_unready(api: ApiUnderTest, model: PublishedModel) -> None:
    """A batch that has been live for years leaves the region ready, since other regions serve the same."""
    model.publish(FLIGHT)
    model.client.update_item(
        TableName=model.deployment.registry_table,
        Key={"model": {"S": model.name}, "record": {"S": "live#us-east-1"}},
        UpdateExpression="SET published_at = :long_ago",
        ExpressionAttributeValues={":long_ago": {"S": "2013-02-01T06:00:00Z"}},
    )
    assert api.get(f"/v1/models/{model.name}").document["age_seconds"] > 10**8
    assert api.get("/readyz", token="").status == 200
