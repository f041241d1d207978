"""The API canary asks for an entity that the batch's stores must hold."""

from __future__ import annotations

import gzip
import hashlib
import json
from types import SimpleNamespace
from typing import TYPE_CHECKING, Any

import pytest

from mlpipe_dagster.loading.online_count import first_stored_key
from mlpipe_dagster.resources.data_bucket import DataBucket
from prediction_contract.manifests.manifest import JsonPart
from prediction_contract.naming.s3_layout import json_part_key
from tests.dagster.small_model import PARTITION, SmallModel, declaration
from tests.fakes.memory_s3 import MemoryS3

if TYPE_CHECKING:
    from prediction_contract.manifests.manifest import Manifest


class StoredKeys:
    """A table that holds these entities of every batch, and counts its requests."""

    def __init__(self, *entity_ids: str) -> None:
        self._stored = frozenset(entity_ids)
        self.requests = 0

    def batch_get_item(self, RequestItems: dict[str, Any]) -> dict[str, Any]:  # noqa: N803  # boto3's name
        """Return the stored items, in another order than requested."""
        self.requests += 1
        ((table, asked),) = RequestItems.items()
        found = [key for key in reversed(asked["Keys"]) if key["entity_id"]["S"] in self._stored]
        return {"Responses": {table: found}}


def delivered(*parts: list[str]) -> tuple[DataBucket, Manifest]:
    """Return a bucket with a batch whose parts hold rows of these entities, and its manifest."""
    s3 = MemoryS3()
    platform: Any = SimpleNamespace(settings=SimpleNamespace(data_bucket="bucket"))
    small = SmallModel(platform, declaration("things"))
    batch_id = small.batch_id()
    told = []
    for number, keys in enumerate(parts):
        lines = [json.dumps({"entity_id": key, "score": 1.5}) for key in keys]
        content = gzip.compress("".join(f"{line}\n" for line in lines).encode())
        key = json_part_key("things", PARTITION, batch_id, 1, share="part", number=number)
        s3.put_object(Bucket="bucket", Key=key, Body=content)
        told.append(JsonPart(key, len(keys), len(content), hashlib.sha256(content).hexdigest()))
    return DataBucket(s3, "bucket"), small.manifest(batch_id, json_parts=told)


DOUBLED = [f"E{number}" for number in range(150)]


@pytest.mark.parametrize(
    "parts",
    [
        pytest.param(([*DOUBLED, "one"], DOUBLED), id="each second row beyond the first hundred"),
        pytest.param((DOUBLED, ["one", *DOUBLED]), id="in another part"),
        pytest.param((["E0", "E0", *DOUBLED[1:]], [*DOUBLED[1:], "one"]), id="one of them at once"),
    ],
)
def test_duplicate_key_is_skipped(parts: tuple[list[str], ...]) -> None:
    """All rows of a duplicate key are in quarantine, wherever its second row is."""
    bucket, manifest = delivered(*parts)
    assert first_stored_key(bucket, StoredKeys("one"), "t", manifest, refused_rows=300) == "one"


def test_batch_without_refused_rows_costs_one_request() -> None:
    """The first row's entity is chosen, whether the table holds it or not."""
    bucket, manifest = delivered(["A", "B"])
    for table in (StoredKeys("A", "B"), StoredKeys("B"), StoredKeys()):
        assert first_stored_key(bucket, table, "t", manifest, refused_rows=0) == "A"
        assert table.requests == 1


def test_search_in_a_table_that_lost_a_batch_is_bounded() -> None:
    """One of 251 keys must be stored; as none is, the first is returned and readers will not find it."""
    bucket, manifest = delivered([f"E{number}" for number in range(1_000)])
    table = StoredKeys("E999")
    assert first_stored_key(bucket, table, "t", manifest, refused_rows=500) == "E0"
    assert table.requests == 3


def test_batch_without_stored_rows_has_no_key() -> None:
    """If every row is refused, no key is returned and the table is not asked."""
    bucket, manifest = delivered(["", ""])
    table = StoredKeys()
    assert first_stored_key(bucket, table, "t", manifest, refused_rows=2) is None
    assert table.requests == 0
