"""Tests of the bucket: objects that are put as new, and how Delta reaches it."""

from __future__ import annotations

from typing import TYPE_CHECKING

import pytest

from prediction_batches.object_store import ObjectStore, storage_options
from tests.fakes.memory_s3 import MemoryS3

if TYPE_CHECKING:
    from pathlib import Path

    from tests.batches.delivery.stack_batches import StackBatches


@pytest.mark.stack
def test_a_file_is_put_once(batches: StackBatches, tmp_path: Path) -> None:
    """Nothing overwrites it; its listing tells its size."""
    key = f"predictions/{batches.model}/file"
    (tmp_path / "first").write_bytes(b"x" * 3_000_000)
    (tmp_path / "second").write_bytes(b"y")
    for name, is_new in (("first", True), ("second", False), ("first", False)):
        with (tmp_path / name).open("rb") as file:
            assert batches.store.put_new(key, file) is is_new
    assert batches.store.get(key) == b"x" * 3_000_000
    assert [(entry.key, entry.size) for entry in batches.store.listing(key)] == [(key, 3_000_000)]


def test_a_file_is_put_whole_after_a_conflict(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    """A put that is sent again begins at the file's beginning."""
    monkeypatch.setattr("prediction_batches.object_store._FIRST_PAUSE", 0)

    class ReadingS3(MemoryS3):
        """Reads what it then refuses."""

        def put_object(self, **request: object) -> None:
            body = request["Body"]
            request["Body"] = body.read()  # type: ignore[attr-defined]  # a file, as the test gives it
            super().put_object(**request)  # type: ignore[arg-type]  # the same request

    s3 = ReadingS3(conflicts=2)
    (tmp_path / "file").write_bytes(b"whole")
    with (tmp_path / "file").open("rb") as file:
        assert ObjectStore(s3, "bucket").put_new("key", file)
    assert s3.objects == {"key": b"whole"}


def test_a_local_endpoint_may_be_plain_http_and_aws_may_not() -> None:
    """What the environment does not say is left to the AWS defaults."""
    local = storage_options({"AWS_ENDPOINT_URL": "http://127.0.0.1:1", "AWS_REGION": "us-east-1"})
    assert local["AWS_ALLOW_HTTP"] == "true"
    aws = storage_options({"AWS_REGION": "eu-west-1"})
    assert aws["AWS_REGION"] == "eu-west-1"
    assert not {"AWS_ALLOW_HTTP", "AWS_ENDPOINT_URL"} & set(aws)
    assert aws["conditional_put"] == local["conditional_put"] == "etag"
