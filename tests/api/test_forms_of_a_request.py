"""Tests of equivalent requests: entity in path or query, repeated lists, and conditional requests."""

from __future__ import annotations

from typing import TYPE_CHECKING, Any
from urllib.parse import quote, quote_plus

import pytest

from tests.api.api_calls import ApiUnderTest
from tests.api.test_replication import MODEL, Home, Reader

if TYPE_CHECKING:
    from tests.api.api_calls import Answered
    from tests.fakes.token_issuer import TokenIssuer

POINT = f"/{MODEL}/predictions/a"
ODD = [".", "..", "../a", "a+b", "a b", "100%", "%2e", "Z\u00fcrich 1/2"]


@pytest.fixture(scope="module")
def reader(session_issuer: TokenIssuer) -> Reader:
    """Return a process that serves a batch with the entities a, b and some unusual ones."""
    home = Home()
    home.entities += ODD
    home.publish()
    home.follow()
    home.replica.apply_all()
    return Reader(home, ApiUnderTest(session_issuer, {}), session_issuer.token())


def by_query(reader: Reader, path: str, **query: list[str]) -> Answered:
    """Send a query with repeatable parameters, as the load balancer passes it on."""
    event: dict[str, Any] = {
        "httpMethod": "GET",
        "path": f"/v1/models{path}",
        "multiValueHeaders": {"authorization": [f"Bearer {reader.token}"]},
        "multiValueQueryStringParameters": query,
    }
    reader.api.application = reader.application
    return reader.api.send(event)


@pytest.mark.parametrize("entity_id", ODD)
def test_unusual_entity_ids_work_in_the_query(reader: Reader, entity_id: str) -> None:
    """Entity ids with dots or slashes, which clients resolve in a path, work as a query parameter."""
    for spelling in (quote(entity_id, safe=""), quote_plus(entity_id)):
        point = by_query(reader, f"/{MODEL}/predictions", entity_id=[spelling])
        assert (point.status, point.document["entity_id"]) == (200, entity_id)
        assert point.document["prediction"]["flight"] == entity_id
        history = by_query(reader, f"/{MODEL}/history", entity_id=[spelling], limit=["1"])
        assert [entry["found"] for entry in history.document["history"]] == [True]
        assert history.document["entity_id"] == entity_id


def test_query_and_path_give_the_same_response(reader: Reader) -> None:
    """An entity in the query gets the same body, and for unknown ones the same problem, as in the path."""
    assert by_query(reader, f"/{MODEL}/predictions", entity_id=["a"]).document == reader.get(POINT).document
    assert by_query(reader, f"/{MODEL}/predictions", entity_id=["nobody"]).problem == "unknown-entity"


@pytest.mark.parametrize(
    "fields", [["serial,flight"], ["serial", "flight"], ["flight", "serial,flight"], ["serial%2Cflight"]]
)
def test_list_parameter_may_be_repeated(reader: Reader, fields: list[str]) -> None:
    """`fields=a&fields=b`, as generated clients send it, means the same as `fields=a,b`."""
    answer = by_query(reader, POINT, fields=fields)
    assert (answer.status, set(answer.document["prediction"])) == (200, {"flight", "serial"})


@pytest.mark.parametrize("fields", [["serial", ""], ["", "serial"], [",serial"], ["%FF", "serial"]])
def test_empty_names_in_a_list_are_refused(reader: Reader, fields: list[str]) -> None:
    """Empty or badly encoded names in a list are refused at any position."""
    assert by_query(reader, POINT, fields=fields).problem == "invalid-query"


def test_repeated_number_is_refused(reader: Reader) -> None:
    """A number parameter that is given twice is refused."""
    answer = by_query(reader, f"{POINT}/history", limit=["1", "2"])
    assert (answer.status, answer.problem) == (400, "invalid-query")


def test_if_none_match_star_matches_any_prediction(reader: Reader) -> None:
    """`If-None-Match: *` gives 304 if the prediction exists, and the usual problem if not."""
    star = {"if-none-match": " * "}
    answer = reader.get(POINT, headers=star)
    assert (answer.status, answer.event["body"]) == (304, "")
    assert answer.headers["ETag"] == reader.get(POINT).headers["ETag"]
    assert reader.get(f"/{MODEL}/predictions/nobody", headers=star).problem == "unknown-entity"
    assert reader.get("/nothing/predictions/a", headers=star).problem == "unknown-model"
    assert reader.get(POINT, headers={"if-none-match": '"*"'}).status == 200
