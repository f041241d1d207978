"""What a client knows already is not read again: ETags, and what they stand for."""

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
    """Give the recording reader between the application under test and its store."""
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


def test_a_repeated_request_reads_no_item(
    api: ApiUnderTest, reader: RecordingReader, model: PublishedModel
) -> None:
    """The pointer is looked at, and what it stands for has not changed."""
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


def test_an_etag_stands_for_publication_path_and_query(api: ApiUnderTest, model: PublishedModel) -> None:
    """Whatever may change the answer changes it; the request id does not."""
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


def test_answers_with_enrichment_have_none(api: ApiUnderTest, model: PublishedModel) -> None:
    """A provider may say something else any time; whoever asks for none has an ETag again."""
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
def test_an_enrichment_that_is_not_there_is_refused(
    api: ApiUnderTest, model: PublishedModel, enrich: str
) -> None:
    """A typing error is not answered as if nothing had been asked."""
    model.publish(FLIGHT, enrichments=(NOWHERE,))
    answer = api.prediction(model.name, enrich=enrich)
    assert (answer.status, answer.problem) == (400, "unknown-enrichment")


def test_fields_are_columns(api: ApiUnderTest, model: PublishedModel) -> None:
    """In the order of the schema, each once, with all their digits."""
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
