"""Tests of ETags, `fields` and `enrich` of repeated requests."""

from __future__ import annotations

from typing import TYPE_CHECKING

import pytest

from api_lambda.application import Application, services_of
from api_lambda.settings import Settings
from prediction_contract.stores.serving_record import Enrichment
from tests.api.api_calls import ApiUnderTest, environment
from tests.api.published_batches import FLIGHT, PublishedModel
from tests.fakes.item_readers import RecordingReader

if TYPE_CHECKING:
    from tests.stack_runs import LocalStack

pytestmark = pytest.mark.stack
NOWHERE = Enrichment("weather", "https://weather.example/{origin}", ("temp",))


@pytest.fixture
def reader(local_stack: LocalStack, api: ApiUnderTest) -> RecordingReader:
    """Return the recording reader between the application and its store."""
    endpoint = local_stack.environment["AWS_ENDPOINT_URL"]
    services = services_of(
        Settings.from_environment(
            environment(
                MLPIPE_JWKS_URL=api.issuer.url, AWS_ENDPOINT_URL=endpoint, MLPIPE_POINTER_CACHE_SECONDS="0"
            )
        )
    )
    recording = RecordingReader(services.store._reader)
    services.store._reader = services.publications._registry._reader = recording
    api.application = Application(services, "local", api.lines.append)
    return recording


def test_conditional_request_reads_no_item(
    api: ApiUnderTest, reader: RecordingReader, model: PublishedModel
) -> None:
    """A request with a matching ETag gets 304 after reading only the registry."""
    model.publish(FLIGHT)
    first = api.prediction(model.name)
    etag = first.headers["ETag"]
    assert first.headers["Cache-Control"] == "private, no-cache"
    reader.asked.clear()
    path = f"/v1/models/{model.name}/predictions/AA-1141-JFK"
    for header in (etag, f"W/{etag}", f'"other", {etag}'):
        again = api.get(path, headers={"If-None-Match": header})
        assert (again.status, again.event["body"], again.headers["ETag"]) == (304, "", etag)
    assert {table for table, _, _ in reader.asked} == {model.deployment.registry_table}
    assert api.get(path, headers={"if-none-match": '"other"'}).status == 200
    assert api.get(path, token="", headers={"if-none-match": etag}).status == 401


def test_etag_depends_on_publication_path_and_query(api: ApiUnderTest, model: PublishedModel) -> None:
    """Each publication, path and query has its own ETag, and a repeated request has the same."""
    model.publish(FLIGHT, '{"flight":"b"}')
    answers = [
        api.prediction(model.name),
        api.prediction(model.name, "b"),
        api.prediction(model.name, fields="flight"),
        api.prediction(model.name, fields="origin"),
    ]
    model.publish(FLIGHT, partition="2013-02-02")
    answers.append(api.prediction(model.name))
    assert len({answer.headers["ETag"] for answer in answers}) == 5
    again = api.prediction(model.name)
    assert (again.headers["ETag"], again.event["body"]) == (
        answers[-1].headers["ETag"],
        answers[-1].event["body"],
    )


def test_enriched_responses_have_no_etag(api: ApiUnderTest, model: PublishedModel) -> None:
    """A response with enrichments, which may change any time, has no ETag; one without has."""
    model.publish(FLIGHT, enrichments=(NOWHERE,))
    for query in ({}, {"enrich": "all"}, {"enrich": "weather"}):
        answer = api.prediction(model.name, **query)
        assert answer.document["enrichment"] == {"weather": {"status": "unavailable"}}
        assert "ETag" not in answer.headers
        assert answer.headers["Cache-Control"] == "no-store"
    without = api.prediction(model.name, enrich="none")
    assert without.document["enrichment"] == {}
    assert "ETag" in without.headers


@pytest.mark.parametrize("enrich", ["other", "none,weather", "weather,other"])
def test_unknown_enrichment_is_refused(api: ApiUnderTest, model: PublishedModel, enrich: str) -> None:
    """A misspelled enrichment is refused, not ignored."""
    model.publish(FLIGHT, enrichments=(NOWHERE,))
    answer = api.prediction(model.name, enrich=enrich)
    assert (answer.status, answer.problem) == (400, "unknown-enrichment")


def test_fields_select_columns(api: ApiUnderTest, model: PublishedModel) -> None:
    """Selected columns come in schema order, once each, with all digits; invalid lists are refused."""
    model.publish(FLIGHT)
    answer = api.prediction(model.name, fields="exact,origin,origin")
    exact = "1234567890123456789012345678.0123456789"
    assert f'"prediction":{{"origin":"JFK","exact":{exact}}}' in answer.event["body"]
    for fields, problem in (
        ("nothing", "unknown-field"),
        ("", "invalid-query"),
        ("origin,", "invalid-query"),
    ):
        assert api.prediction(model.name, fields=fields).problem == problem
