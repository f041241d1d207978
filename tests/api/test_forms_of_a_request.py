"""One question in each form that clients give it: by path or query, lists once or repeated, conditions."""

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
    """Give a process that serves a batch of the entities a, b and some odd ones."""
    home = Home()
    home.entities += ODD
    home.publish()
    home.follow()
    home.replica.apply_all()
    return Reader(home, ApiUnderTest(session_issuer, {}), session_issuer.token())


def by_query(reader: Reader, path: str, **query: list[str]) -> Answered:
    """Ask with a query whose parameters may be repeated, as the load balancer hands it on."""
    event: dict[str, Any] = {
        "httpMethod": "GET",
        "path": f"/v1/models{path}",
        "multiValueHeaders": {"authorization": [f"Bearer {reader.token}"]},
        "multiValueQueryStringParameters": query,
    }
    reader.api.application = reader.application
    return reader.api.send(event)


@pytest.mark.parametrize("entity_id", ODD)
def test_every_entity_can_be_asked_for_by_query(reader: Reader, entity_id: str) -> None:
    """Clients resolve dots in a path before they send it; in a query nothing is resolved."""
    for spelling in (quote(entity_id, safe=""), quote_plus(entity_id)):
        point = by_query(reader, f"/{MODEL}/predictions", entity_id=[spelling])
        assert (point.status, point.document["entity_id"]) == (200, entity_id)
        assert point.document["prediction"]["flight"] == entity_id
        history = by_query(reader, f"/{MODEL}/history", entity_id=[spelling], limit=["1"])
        assert [entry["found"] for entry in history.document["history"]] == [True]
        assert history.document["entity_id"] == entity_id


def test_a_query_is_answered_as_the_path_is(reader: Reader) -> None:
    """The same body and the same problems."""
    assert by_query(reader, f"/{MODEL}/predictions", entity_id=["a"]).document == reader.get(POINT).document
    assert by_query(reader, f"/{MODEL}/predictions", entity_id=["nobody"]).problem == "unknown-entity"


@pytest.mark.parametrize(
    "fields", [["serial,flight"], ["serial", "flight"], ["flight", "serial,flight"], ["serial%2Cflight"]]
)
def test_a_list_may_be_repeated(reader: Reader, fields: list[str]) -> None:
    """Generated clients send a list as `fields=a&fields=b`; commas mean the same."""
    answer = by_query(reader, POINT, fields=fields)
    assert (answer.status, set(answer.document["prediction"])) == (200, {"flight", "serial"})


@pytest.mark.parametrize("fields", [["serial", ""], ["", "serial"], [",serial"], ["%FF", "serial"]])
def test_a_repeated_list_has_no_empty_names(reader: Reader, fields: list[str]) -> None:
    """What is empty or no UTF-8 is refused wherever it stands."""
    assert by_query(reader, POINT, fields=fields).problem == "invalid-query"


def test_only_lists_may_be_repeated(reader: Reader) -> None:
    """Of two numbers neither is guessed to be the one that was meant."""
    answer = by_query(reader, f"{POINT}/history", limit=["1", "2"])
    assert (answer.status, answer.problem) == (400, "invalid-query")


def test_any_answer_that_there_is_matches_a_star(reader: Reader) -> None:
    """`If-None-Match: *` asks whether there is an answer at all; without an entity there is none."""
    star = {"if-none-match": " * "}
    answer = reader.get(POINT, headers=star)
    assert (answer.status, answer.event["body"]) == (304, "")
    assert answer.headers["ETag"] == reader.get(POINT).headers["ETag"]
    assert reader.get(f"/{MODEL}/predictions/nobody", headers=star).problem == "unknown-entity"
    assert reader.get("/nothing/predictions/a", headers=star).problem == "unknown-model"
    assert reader.get(POINT, headers={"if-none-match": '"*"'}).status == 200
