"""The rows of a batch are counted in DynamoDB with parallel requests and within a time limit."""

from __future__ import annotations

import threading
from datetime import UTC, datetime
from decimal import Decimal
from itertools import count
from typing import TYPE_CHECKING, Any

import pytest

from mlpipe_dagster.loading.online_count import OnlineTableBusyError, count_online
from prediction_contract.manifests.manifest import JsonPart, Manifest, build_manifest
from prediction_contract.naming.s3_layout import json_part_key
from prediction_contract.rows.prediction_line import prediction_line
from prediction_contract.rows.row_contract import row_contract
from prediction_contract.stores.online_item import OnlineItems
from tests.dagster.small_model import PARTITION, declaration

if TYPE_CHECKING:
    from collections.abc import Iterator

SCHEMA = declaration("model").prediction_schema
BATCH = "20261123T010203Z-00000001"
LINES = [
    prediction_line(row_contract(SCHEMA), {"entity_id": f"E{number}", "score": Decimal(number)})
    for number in range(250)
]


class FakeBucket:
    """Holds the lines of one part."""

    def lines(self, _key: str) -> Iterator[bytes]:
        """Yield the lines of the part."""
        return (line.content for line in LINES)


class FakeOnlineTable:
    """Hold every row, and delay the first answer until a second request arrives or 10 seconds pass."""

    def __init__(self) -> None:
        self.first, self.another = threading.Lock(), threading.Event()
        self.is_side_by_side = False
        items = OnlineItems(SCHEMA)
        self.items = {line.row.key: items.build(line.row, BATCH, 2_000_000_000) for line in LINES if line.row}

    def batch_get_item(self, *, RequestItems: dict[str, Any]) -> dict[str, Any]:  # noqa: N803  # boto3's name
        """Answer as DynamoDB does."""
        if self.first.acquire(blocking=False):
            self.is_side_by_side = self.another.wait(10)
        self.another.set()
        ((table, asked),) = RequestItems.items()
        return {"Responses": {table: [self.items[key["entity_id"]["S"]] for key in asked["Keys"]]}}


@pytest.fixture
def manifest() -> Manifest:
    """Describe a batch of one part."""
    return build_manifest(
        model="model",
        batch_id=BATCH,
        attempt=1,
        partition=PARTITION,
        bucket="bucket",
        created_at=datetime(2026, 11, 23, 1, 2, 4, tzinfo=UTC),
        model_version="v1",
        code_version="c1",
        schema=SCHEMA,
        json_parts=[
            JsonPart(
                json_part_key("model", PARTITION, BATCH, 1, share="part", number=0), len(LINES), 100, "a" * 64
            )
        ],
        delta_version=1,
        delta_files=["part.parquet"],
        checksum=str(sum(line.checksum for line in LINES) % 2**64),
    )


def test_rows_are_looked_up_in_parallel(manifest: Manifest) -> None:
    """A request is sent before the answer to the previous one has arrived."""
    table = FakeOnlineTable()
    found = count_online(FakeBucket(), table, "online", manifest)  # type: ignore[arg-type]
    assert (found.asked, found.found.rows, found.is_whole) == (250, 250, True)
    assert found.found.checksum == sum(line.checksum for line in LINES)
    assert table.is_side_by_side


def test_slow_count_is_abandoned(manifest: Manifest) -> None:
    """The error names the batch, the rows counted so far and the time limit."""
    minutes = count(0, 60)
    with pytest.raises(OnlineTableBusyError, match=rf"{BATCH}.*200 of 250 rows .* within 90 s"):
        count_online(
            FakeBucket(),  # type: ignore[arg-type]
            FakeOnlineTable(),
            "online",
            manifest,
            within_seconds=90,
            clock=lambda: next(minutes),
        )
