"""Tests of batch get: ordered, from one batch, complete or refused."""

from __future__ import annotations

import base64
import json
import time
from typing import TYPE_CHECKING, Any

import pytest

from api_lambda.store.item_reader import StoreUnavailableError
from tests.api.published_batches import FLIGHT, PublishedModel
from tests.api.test_outgoing import dynamodb, fault
from tests.fakes.http_answers import serving

if TYPE_CHECKING:
    from tests.api.api_calls import ApiUnderTest


@pytest.mark.stack
def test_entries_are_in_request_order(api: ApiUnderTest, model: PublishedModel) -> None:
    """Each requested id has its entry, found or not, with the written values and one provenance."""
    batch_id = model.publish(FLIGHT, '{"flight":"Zürich 1/2"}')
    asked = ["nobody", "Zürich 1/2", "AA-1141-JFK", "nobody", "AA-1141-JFK"]
    answer = api.batch_get(model.name, {"entity_ids": asked})
    assert answer.status == 200
    assert [entry["entity_id"] for entry in answer.document["predictions"]] == asked
    assert [entry["found"] for entry in answer.document["predictions"]] == [False, True, True, False, True]
    assert f'"prediction":{FLIGHT}' in answer.event["body"]
    assert answer.document["provenance"]["batch_id"] == batch_id
    assert api.last_line["not_found"] == 2


@pytest.mark.stack
def test_batch_get_reads_only_the_live_batch(api: ApiUnderTest, model: PublishedModel) -> None:
    """Entities of an earlier batch are not found."""
    model.publish(FLIGHT, '{"flight":"gone"}')
    second = model.publish(FLIGHT, partition="2013-02-02")
    answer = api.batch_get(model.name, {"entity_ids": ["gone", "AA-1141-JFK"]}).document
    assert [entry["found"] for entry in answer["predictions"]] == [False, True]
    assert answer["provenance"]["batch_id"] == second


@pytest.mark.stack
def test_batch_get_selects_fields(api: ApiUnderTest, model: PublishedModel) -> None:
    """Requested fields come in schema order, and an unknown field is refused."""
    model.publish(FLIGHT)
    answer = api.batch_get(model.name, {"entity_ids": ["AA-1141-JFK"], "fields": ["serial", "origin"]})
    assert '"prediction":{"origin":"JFK","serial":9007199254740993}' in answer.event["body"]
    wrong = api.batch_get(model.name, {"entity_ids": ["a"], "fields": ["marker-4711"]})
    assert (wrong.status, wrong.problem) == (400, "unknown-field")
    assert "4711" not in json.dumps(wrong.event)


@pytest.mark.stack
def test_oversized_batch_get_is_refused(api: ApiUnderTest, model: PublishedModel) -> None:
    """A response beyond the limit is refused, not truncated; fewer entities or fields succeed."""
    model.publish(*(json.dumps({"flight": f"f{n}", "reasons": "x" * 300_000}) for n in range(4)))
    asked = {"entity_ids": [f"f{n}" for n in range(4)]}
    refused = api.batch_get(model.name, asked)
    assert (refused.status, refused.problem) == (400, "answer-too-large")
    assert api.batch_get(model.name, {**asked, "fields": ["flight"]}).status == 200
    assert api.batch_get(model.name, {"entity_ids": ["f0", "f1", "f2"]}).status == 200


@pytest.mark.stack
@pytest.mark.parametrize(
    "body",
    [
        "",
        "no JSON",
        [],
        {},
        {"entity_ids": []},
        {"entity_ids": "a"},
        {"entity_ids": [1]},
        {"entity_ids": [""]},
        {"entity_ids": ["x" * 2049]},
        {"entity_ids": ["a"] * 101},
        {"entity_ids": ["a"], "fields": []},
        {"entity_ids": ["a"], "fields": "flight"},
        {"entity_ids": ["a"], "marker": 4711},
        '{"entity_ids":["\\ud800"]}',
        '{"entity_ids":["a"],"entity_ids":["b"]}',
    ],
    ids=lambda body: str(body)[:40],
)
def test_malformed_body_is_refused(api: ApiUnderTest, model: PublishedModel, body: Any) -> None:
    """A malformed body is refused, and the problem does not repeat it."""
    model.publish(FLIGHT)
    answer = api.batch_get(model.name, body)
    assert (answer.status, answer.problem) == (400, "invalid-body")
    assert "4711" not in json.dumps(answer.event)


@pytest.mark.stack
def test_base64_body_is_decoded(api: ApiUnderTest, model: PublishedModel) -> None:
    """A base64 body, as the load balancer may send it, is decoded, and an invalid one is refused."""
    model.publish(FLIGHT)
    body = base64.b64encode(b'{"entity_ids":["AA-1141-JFK"]}').decode()
    event = {
        "httpMethod": "POST",
        "path": f"/v1/models/{model.name}/predictions:batchGet",
        "headers": {"authorization": f"Bearer {api.issuer.token()}"},
        "body": body,
        "isBase64Encoded": True,
    }
    assert api.send(event).status == 200
    assert api.send({**event, "body": "%%%"}).problem == "invalid-body"


ITEM = {"entity_id": {"S": "a"}, "batch_id": {"S": "b"}}
KEYS = [{"entity_id": name, "batch_id": "b"} for name in ("a", "c")]


def partial(found: list[Any], unread: list[str]) -> tuple[int, bytes, dict[str, str]]:
    """Return a BatchGetItem response with unread keys."""
    keys = [{"entity_id": {"S": name}, "batch_id": {"S": "b"}} for name in unread]
    answer: dict[str, Any] = {"Responses": {"t": found}}
    if keys:
        answer["UnprocessedKeys"] = {"t": {"Keys": keys}}
    return 200, json.dumps(answer).encode(), {}


def test_unprocessed_keys_are_retried() -> None:
    """Keys that a busy store did not read are requested again until all items are there."""
    other = {"entity_id": {"S": "c"}, "batch_id": {"S": "b"}}
    answers = (partial([], ["a", "c"]), partial([ITEM], ["c"]), fault("ThrottlingException"))
    with serving(*answers, partial([other], [])) as server:
        found = dynamodb(server.url).batch_get("t", KEYS, consistent=True, until=time.monotonic() + 10)
        assert (found, len(server.requests)) == ([ITEM, other], 4)


def test_keys_never_read_make_the_store_unavailable() -> None:
    """Keys that are still unread at the deadline are an error, not missing items."""
    with serving(partial([ITEM], ["c"])) as server:
        with pytest.raises(StoreUnavailableError):
            dynamodb(server.url).batch_get("t", KEYS, consistent=True, until=time.monotonic() + 1)
        assert 2 < len(server.requests) < 100
