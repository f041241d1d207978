"""Tests of the predictions route over real DynamoDB: values, provenance, pointers, faults and the log."""

from __future__ import annotations

import json
from datetime import UTC, datetime, timedelta
from decimal import Decimal
from typing import TYPE_CHECKING, Any
from urllib.parse import quote

import pytest
from flights.weather_service.faults import WeatherFault

from prediction_contract.stores.serving_record import Enrichment, ServingRecord
from tests.api.api_calls import REQUEST_ID, ApiUnderTest, recorded_event
from tests.api.published_batches import FLIGHT, SCHEMA, PublishedModel

if TYPE_CHECKING:
    from collections.abc import Iterator

    from flights.weather_service.server import WeatherServer

    from tests.fakes.http_answers import AnsweringServer
    from tests.stack_runs import LocalStack

pytestmark = pytest.mark.stack
PROVIDER_PATH = "/v1/stations/{origin}/observations?time={hour}"


def weather_of(weather: WeatherServer | AnsweringServer, **changes: Any) -> Enrichment:
    """Return the enrichment of the tests' schema from a weather service."""
    members = {"timeout_milliseconds": 5000, "cache_seconds": 0, "fields": ("temp", "visib"), **changes}
    return Enrichment("weather", f"{weather.url}{PROVIDER_PATH}", **members)


@pytest.fixture
def trouble(weather: WeatherServer) -> Iterator[Any]:
    """Return a function that makes the weather service fail until the test ends."""
    yield weather.faults.replace
    weather.faults.replace(WeatherFault())


def test_prediction_is_returned_as_written(api: ApiUnderTest, model: PublishedModel) -> None:
    """Every digit, null and character is returned, with the complete provenance."""
    batch_id = model.publish(FLIGHT, '{"flight":"other"}')
    answer = api.prediction(model.name)
    assert answer.status == 200
    assert f'"prediction":{FLIGHT}' in answer.event["body"]
    assert answer.document["entity_id"] == "AA-1141-JFK"
    assert answer.document["model"] == model.name
    provenance = answer.document["provenance"]
    pointer = model.registry.pointer(model.name, "us-east-1")
    assert pointer is not None
    assert provenance == {
        "batch_id": batch_id,
        "partition": "2013-02-01",
        "model_version": "v7",
        "published_at": pointer.published_at,
        "sequence": 1,
    }
    assert answer.document["enrichment"] == {}
    empty = api.prediction(model.name, "other").document["prediction"]
    assert empty["flight"] == "other"
    assert {value for name, value in empty.items() if name != "flight"} == {None}


def test_registered_version_is_in_provenance(api: ApiUnderTest, model: PublishedModel) -> None:
    """The model package version is shown with the prediction and with the model."""
    model.publish(FLIGHT, serving=ServingRecord(SCHEMA, "v7", 1, "0", (), 12).to_json())
    for told in (
        api.prediction(model.name).document["provenance"],
        api.get(f"/v1/models/{model.name}").document,
    ):
        assert (told["model_version"], told["model_package_version"]) == ("v7", 12)


@pytest.mark.parametrize(
    "entity_id", ["Zürich 1/2", "a%b", "100%", "..", "+ ?#", "\u2028\U0001f6eb", "x" * 2048]
)
def test_unusual_keys_are_found(api: ApiUnderTest, model: PublishedModel, entity_id: str) -> None:
    """Every key is found when percent-encoded, and also when sent decoded."""
    model.publish(json.dumps({"flight": entity_id}))
    for form in (quote(entity_id, safe=""), entity_id):
        answer = api.prediction(model.name, form)
        assert (answer.status, answer.document["entity_id"]) == (200, entity_id)


@pytest.mark.parametrize("form", ["%FF", "%C3", "x" * 2049, "%00" * 2049, "\ud800"])
def test_invalid_key_is_refused(api: ApiUnderTest, model: PublishedModel, form: str) -> None:
    """Keys that are not UTF-8 or are longer than DynamoDB allows are refused."""
    model.publish(FLIGHT)
    assert api.prediction(model.name, form).problem == "invalid-entity-id"


def test_unknown_entities_and_models_are_404(api: ApiUnderTest, model: PublishedModel) -> None:
    """Unknown entities and models have their own problems, which do not repeat the request."""
    assert api.prediction(model.name).problem == "unknown-model"
    model.publish(FLIGHT)
    for name, entity_id, kind in (
        (model.name, "marker-4711", "unknown-entity"),
        ("marker_4711", "a", "unknown-model"),
        ("MARKER-4711", "a", "unknown-model"),
        ("m" * 60, "a", "unknown-model"),
    ):
        answer = api.prediction(name, entity_id)
        assert (answer.status, answer.problem) == (404, kind)
        assert "4711" not in json.dumps(answer.event)


def test_entity_of_superseded_batch_is_unknown(api: ApiUnderTest, model: PublishedModel) -> None:
    """An entity that only an earlier batch has is not served."""
    model.publish(FLIGHT, '{"flight":"gone"}')
    assert api.prediction(model.name, "gone").status == 200
    second = model.publish(FLIGHT, partition="2013-02-02")
    assert api.prediction(model.name, "gone").problem == "unknown-entity"
    assert api.prediction(model.name).document["provenance"]["batch_id"] == second


def test_hold_does_not_affect_readers(api: ApiUnderTest, model: PublishedModel) -> None:
    """A hold moves the pointer's sequence, but the provenance keeps the publication's."""
    batch_id = model.publish(FLIGHT)
    model.hold()
    pointer = model.registry.pointer(model.name, "us-east-1")
    assert pointer is not None
    assert pointer.sequence == 2
    provenance = api.prediction(model.name).document["provenance"]
    assert (provenance["batch_id"], provenance["sequence"]) == (batch_id, 1)


def test_hold_before_publication_leaves_model_unknown(api: ApiUnderTest, model: PublishedModel) -> None:
    """A model with a hold and no publication is unknown."""
    model.hold()
    assert api.prediction(model.name).problem == "unknown-model"


def test_pointer_cache_delays_new_publication(
    local_stack: LocalStack, api: ApiUnderTest, model: PublishedModel
) -> None:
    """With a pointer cache the old batch is still served; without one the new batch is served at once."""
    cached = ApiUnderTest(
        api.issuer,
        {
            "AWS_ENDPOINT_URL": local_stack.environment["AWS_ENDPOINT_URL"],
            "MLPIPE_POINTER_CACHE_SECONDS": "60",
        },
    )
    first = model.publish(FLIGHT)
    assert cached.prediction(model.name).document["provenance"]["batch_id"] == first
    second = model.publish(FLIGHT, partition="2013-02-02")
    assert cached.prediction(model.name).document["provenance"]["batch_id"] == first
    assert api.prediction(model.name).document["provenance"]["batch_id"] == second


def test_expired_live_item_is_served_and_logged(api: ApiUnderTest, model: PublishedModel) -> None:
    """An expired item of the live batch is served, and the log has an error."""
    model.publish(FLIGHT, expires_at=datetime.now(UTC) - timedelta(days=1))
    assert api.prediction(model.name).status == 200
    assert (api.last_line["level"], api.last_line["fault"]) == ("ERROR", "live_item_expired")


def test_altered_item_is_not_served(api: ApiUnderTest, model: PublishedModel) -> None:
    """An item whose values do not match its checksum is an internal error."""
    batch_id = model.publish(FLIGHT)
    model.client.update_item(
        TableName=model.table,
        Key={"entity_id": {"S": "AA-1141-JFK"}, "batch_id": {"S": batch_id}},
        UpdateExpression="SET probability = :other",
        ExpressionAttributeValues={":other": {"N": "0.9"}},
    )
    answer = api.prediction(model.name)
    assert (answer.status, answer.problem) == (500, "internal-fault")
    assert api.last_line["cause"] == "DamagedItemError"


@pytest.mark.parametrize("serving", ["", "{}", '{"serving_version":2}'])
def test_invalid_serving_record_is_internal_error(
    api: ApiUnderTest, model: PublishedModel, serving: str
) -> None:
    """A publication with an unusable serving record is an internal error, and the log names it."""
    model.publish(FLIGHT, serving=serving or " ")
    answer = api.prediction(model.name)
    assert (answer.status, answer.problem) == (500, "internal-fault")
    assert f"publication 1 of {model.name}" in api.last_line["cause"]


def test_oversized_prediction_is_refused(api: ApiUnderTest, model: PublishedModel) -> None:
    """A row that exceeds the load balancer's limit when escaped gets its own problem."""
    model.publish(
        json.dumps({"flight": "big", "reasons": "\u0001" * 200_000}),
        json.dumps({"flight": "wide", "reasons": "\U0001f6eb" * 90_000}),
    )
    for entity_id in ("big", "wide"):
        assert api.prediction(model.name, entity_id).problem == "answer-too-large"


@pytest.mark.parametrize(
    "name", ["alb_single_value", "alb_multi_value", "alb_both_shapes", "alb_base64_body"]
)
def test_response_has_the_mode_of_its_event(api: ApiUnderTest, model: PublishedModel, name: str) -> None:
    """Multi-value events get multi-value headers, single-value events single ones."""
    model.publish(FLIGHT)
    answer = api.send(recorded_event(name, model=model.name, token=api.issuer.token()))
    assert answer.status == 200
    assert answer.event["statusDescription"] == "200 OK"
    # The query arrives percent-encoded.
    asked = recorded_event(name).get("queryStringParameters") or recorded_event(name).get(
        "multiValueQueryStringParameters"
    )
    assert len(answer.document["prediction"]) == (2 if asked else 7)
    multi = name in {"alb_multi_value", "alb_both_shapes"}
    assert ("multiValueHeaders" in answer.event, "headers" in answer.event) == (multi, not multi)
    assert answer.headers["X-Request-Id"] == REQUEST_ID
    assert api.last_line["trace_id"] == "Root=1-5c536348-3d683b8b04734faae651f476"


def test_unusual_encodings_are_decoded(api: ApiUnderTest, model: PublishedModel) -> None:
    """Special characters of a key are decoded in a path and in a base64 body."""
    model.publish('{"flight":"Zürich 1/2+%","serial":7}')
    token = api.issuer.token()
    answer = api.send(recorded_event("alb_odd_encodings", model=model.name, token=token))
    assert (answer.status, answer.document["entity_id"]) == (200, "Zürich 1/2+%")
    assert answer.document["prediction"] == {"flight": "Zürich 1/2+%", "serial": 7}
    many = api.send(recorded_event("alb_base64_batch", model=model.name, token=token))
    assert [entry["found"] for entry in many.document["predictions"]] == [True, False]
    assert many.document["predictions"][0]["entity_id"] == "Zürich 1/2+%"


def test_enrichment_has_only_declared_fields(
    api: ApiUnderTest, model: PublishedModel, weather: WeatherServer
) -> None:
    """The provider is called with the row's values, and only the declared fields are shown."""
    model.publish(FLIGHT, '{"flight":"nowhere"}', enrichments=(weather_of(weather),))
    found = api.prediction(model.name).document["enrichment"]["weather"]
    assert found == {
        "status": "ok",
        "age_seconds": 0,
        "data": {"temp": Decimal("30.02"), "visib": Decimal(10)},
    }
    nowhere = api.prediction(model.name, "nowhere").document["enrichment"]
    assert nowhere == {"weather": {"status": "not_applicable"}}


@pytest.mark.parametrize(
    "fault",
    [WeatherFault("dead"), WeatherFault("failing", status=500), WeatherFault("failing", status=404)],
    ids=str,
)
def test_failing_provider_does_not_fail_the_prediction(
    api: ApiUnderTest, model: PublishedModel, weather: WeatherServer, trouble: Any, fault: WeatherFault
) -> None:
    """If the provider fails, the enrichment is stale or unavailable and the status stays 200."""
    model.publish(FLIGHT, enrichments=(weather_of(weather),))
    trouble(fault)
    answer = api.prediction(model.name)
    assert answer.status == 200
    assert answer.document["enrichment"] == {"weather": {"status": "unavailable"}}
    assert set(api.last_line["enrichment"]) == {"weather"}
    trouble(WeatherFault())
    assert api.prediction(model.name).document["enrichment"]["weather"]["status"] == "ok"
    trouble(fault)
    stale = api.prediction(model.name).document["enrichment"]["weather"]
    assert (stale["status"], stale["data"]["temp"]) == ("stale", Decimal("30.02"))


def test_missing_required_enrichment_gives_503(
    api: ApiUnderTest, model: PublishedModel, weather: WeatherServer, trouble: Any
) -> None:
    """A prediction whose required enrichment is unavailable is not returned."""
    model.publish(FLIGHT, enrichments=(weather_of(weather, required=True),))
    trouble(WeatherFault("dead"))
    answer = api.prediction(model.name)
    assert (answer.status, answer.problem) == (503, "enrichment-unavailable")
    assert answer.headers["Retry-After"] == "1"
