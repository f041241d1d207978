"""What is live of each model, who may know it, and whether the region can serve."""

from __future__ import annotations

import json
from typing import TYPE_CHECKING

import pytest

from prediction_contract.serving import Enrichment
from tests.api.api_calls import ApiUnderTest
from tests.api.published_batches import FLIGHT, SCHEMA, PublishedModel, new_model
from tests.fakes.token_issuer import SCOPE

if TYPE_CHECKING:
    from tests.fakes.token_issuer import TokenIssuer

WEATHER = Enrichment("weather", "https://weather.example/{origin}", ("temp",), required=True)


@pytest.mark.stack
def test_a_model_tells_what_is_live(api: ApiUnderTest, model: PublishedModel) -> None:
    """Batch, partition, age, rows, version, columns, enrichments; nothing of where providers are."""
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


@pytest.mark.stack
def test_models_with_a_live_batch_are_listed(api: ApiUnderTest, model: PublishedModel) -> None:
    """By name; those without one are not there; one that cannot be served says so and hides no other."""
    model.publish(FLIGHT)
    broken, empty = (new_model(model.client, model.deployment) for _ in range(2))
    broken.publish(FLIGHT, serving="{}")
    listed = api.get("/v1/models").document["models"]
    by_name = {entry["model"]: entry for entry in listed}
    assert list(by_name) == sorted(by_name)
    assert by_name[model.name]["rows"] == 1
    assert by_name[broken.name] == {"model": broken.name, "problem": "urn:mlpipe:problem:internal-fault"}
    assert empty.name not in by_name
    assert broken.name in api.last_line["fault"]


@pytest.mark.stack
def test_a_token_may_be_for_one_model(api: ApiUnderTest, model: PublishedModel) -> None:
    """Its other models are forbidden, and not even listed."""
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
def test_a_region_is_ready_when_its_store_answers(api: ApiUnderTest, model: PublishedModel) -> None:
    """Without a token, whatever is or is not live, and without a word on data."""
    model.hold()
    answer = api.get("/readyz", token="")
    assert (answer.status, answer.document) == (200, {"status": "ready"})


def test_a_region_whose_store_is_silent_is_not_ready_and_still_healthy(session_issuer: TokenIssuer) -> None:
    """Route 53 sends readers elsewhere; the load balancer keeps the function."""
    alone = ApiUnderTest(session_issuer, {"AWS_ENDPOINT_URL": "http://127.0.0.1:1"})
    answer = alone.get("/readyz", token="")
    assert (answer.status, answer.problem) == (503, "store-unavailable")
    assert alone.get("/healthz", token="").status == 200
    assert "127.0.0.1" not in json.dumps(answer.event)
