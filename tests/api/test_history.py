"""Tests of an entity's history: what was published, never what was only loaded."""

from __future__ import annotations

import json
from datetime import UTC, datetime, timedelta
from typing import TYPE_CHECKING, Any

import pytest

from tests.api.published_batches import PublishedModel

if TYPE_CHECKING:
    from tests.api.api_calls import Answered, ApiUnderTest

pytestmark = pytest.mark.stack


def history(api: ApiUnderTest, model: PublishedModel, entity_id: str = "a", **query: str) -> Answered:
    """Ask for an entity's history."""
    return api.get(f"/v1/models/{model.name}/predictions/{entity_id}/history", query=query)


def serials(document: Any) -> list[tuple[int, Any]]:
    """Return each entry's sequence and value."""
    return [
        (entry["provenance"]["sequence"], entry["prediction"]["serial"] if entry["found"] else None)
        for entry in document["history"]
    ]


def test_history_lists_each_publication(api: ApiUnderTest, model: PublishedModel) -> None:
    """Publications are listed newest first with provenance, also those without the entity, but no holds."""
    first = model.publish('{"flight":"a","serial":1}', partition="2013-02-01")
    model.publish('{"flight":"other"}', partition="2013-02-02")
    model.hold()
    model.publish('{"flight":"a","serial":9007199254740993}', partition="2013-02-03")
    answer = history(api, model)
    assert answer.status == 200
    assert serials(answer.document) == [(4, 9007199254740993), (2, None), (1, 1)]
    oldest = answer.document["history"][-1]["provenance"]
    assert (oldest["batch_id"], oldest["partition"]) == (first, "2013-02-01")
    assert "next_before" not in answer.document


def test_unpublished_batch_is_not_in_history(api: ApiUnderTest, model: PublishedModel) -> None:
    """A loaded batch that was never published is not shown."""
    model.publish('{"flight":"a","serial":1}')
    model.load('{"flight":"a","serial":2}', partition="2013-02-02")
    assert serials(history(api, model).document) == [(1, 1)]


def test_history_pages_are_linked(api: ApiUnderTest, model: PublishedModel) -> None:
    """Each page says where the next begins, and the last one does not."""
    for number in range(1, 6):
        model.publish(f'{{"flight":"a","serial":{number}}}', partition=f"2013-02-0{number}")
    seen, query = [], {"limit": "2"}
    for _ in range(3):
        document = history(api, model, **query).document
        seen.append(serials(document))
        query["before"] = str(document.get("next_before"))
    assert seen == [[(5, 5), (4, 4)], [(3, 3), (2, 2)], [(1, 1)]]
    assert query["before"] == "None"


def test_page_of_large_values_is_shortened(api: ApiUnderTest, model: PublishedModel) -> None:
    """A page has fewer large values than asked for, and the next pages have the rest."""
    for number in range(1, 6):
        line = {"flight": "a", "serial": number, "reasons": "x" * 300_000}
        model.publish(json.dumps(line), partition=f"2013-02-0{number}")
    seen, query = [], {}
    while query.get("before") != "None":
        answer = history(api, model, **query)
        assert answer.status == 200
        seen.append(serials(answer.document))
        query["before"] = str(answer.document.get("next_before"))
    assert seen == [[(5, 5), (4, 4)], [(3, 3), (2, 2), (1, 1)]]
    assert len(serials(history(api, model, fields="serial").document)) == 5


def test_rollback_is_listed_as_publication(api: ApiUnderTest, model: PublishedModel) -> None:
    """After a rollback the restored batch is listed twice, and the withdrawn one is still shown."""
    first = model.publish('{"flight":"a","serial":1}')
    model.publish('{"flight":"a","serial":2}', partition="2013-02-02")
    model.roll_back(first)
    assert serials(history(api, model).document) == [(3, 1), (2, 2), (1, 1)]


def test_page_with_only_holds_leads_to_the_next(api: ApiUnderTest, model: PublishedModel) -> None:
    """A page that found only holds still leads to earlier publications."""
    model.publish('{"flight":"a","serial":1}')
    for _ in range(3):
        model.hold()
    model.publish('{"flight":"a","serial":2}', partition="2013-02-02")
    seen, query = [], {"limit": "1"}
    while query.get("before") != "None":
        document = history(api, model, **query).document
        seen += serials(document)
        query["before"] = str(document.get("next_before"))
    assert seen == [(5, 2), (1, 1)]


def test_history_ends_with_the_batch_the_region_serves(api: ApiUnderTest, model: PublishedModel) -> None:
    """Publications at home that the region does not serve yet are not shown."""
    first = model.publish('{"flight":"a","serial":1}')
    behind = model.client.get_item(
        TableName=model.deployment.registry_table,
        Key={"model": {"S": model.name}, "record": {"S": "live#us-east-1"}},
    )["Item"]
    model.publish('{"flight":"a","serial":2}', partition="2013-02-02")
    model.client.put_item(TableName=model.deployment.registry_table, Item=behind)
    assert serials(history(api, model).document) == [(1, 1)]
    assert api.prediction(model.name, "a").document["provenance"]["batch_id"] == first


def test_expired_items_are_not_shown(api: ApiUnderTest, model: PublishedModel) -> None:
    """Expired items of superseded batches are not shown, even before DynamoDB removes them."""
    model.publish('{"flight":"a","serial":1}', expires_at=datetime.now(UTC) - timedelta(days=1))
    model.publish('{"flight":"a","serial":2}', partition="2013-02-02")
    assert serials(history(api, model).document) == [(2, 2), (1, None)]


def test_history_query_parameters_are_validated(api: ApiUnderTest, model: PublishedModel) -> None:
    """`fields` selects columns; invalid numbers, fields and entity ids are refused and not repeated."""
    model.publish('{"flight":"a","serial":1}')
    entry = history(api, model, fields="serial").document["history"][0]
    assert entry["prediction"] == {"serial": 1}
    for query in ({"limit": "0"}, {"limit": "51"}, {"limit": "x4711"}, {"before": "-1"}, {"before": ""}):
        answer = history(api, model, **query)
        assert (answer.status, answer.problem) == (400, "invalid-query")
        assert "4711" not in json.dumps(answer.event)
    assert history(api, model, fields="nothing").problem == "unknown-field"
    assert history(api, model, "%FF").problem == "invalid-entity-id"


def test_unpublished_model_has_no_history(api: ApiUnderTest, model: PublishedModel) -> None:
    """A model with only loaded batches is unknown."""
    model.load('{"flight":"a","serial":2}')
    assert history(api, model).problem == "unknown-model"
