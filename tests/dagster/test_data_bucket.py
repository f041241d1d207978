"""The data bucket deletes objects in requests that S3 accepts."""

from __future__ import annotations

from typing import Any

from mlpipe_dagster.resources.data_bucket import DataBucket
from prediction_contract.limits import MAX_DELETED_OBJECTS


class FakeS3:
    """Record the keys to delete."""

    def __init__(self) -> None:
        self.deleted: list[list[str]] = []

    def delete_objects(self, *, Bucket: str, Delete: dict[str, Any]) -> dict[str, Any]:  # noqa: N803  # boto3's names
        """Record a deletion within S3's limit."""
        assert Bucket == "bucket"
        assert len(Delete["Objects"]) <= MAX_DELETED_OBJECTS
        self.deleted.append([each["Key"] for each in Delete["Objects"]])
        return {}


def test_objects_are_deleted_in_chunks() -> None:
    """One object more than S3's limit takes a second request."""
    s3, keys = FakeS3(), [f"raw/{number}" for number in range(MAX_DELETED_OBJECTS + 1)]
    DataBucket(s3, "bucket").delete(keys)
    assert s3.deleted == [keys[:-1], keys[-1:]]
