"""Tests of the bucket: objects that are only put if they are new, and the settings for Delta."""

from __future__ import annotations

from typing import TYPE_CHECKING

import pytest

from prediction_batches.object_store import ObjectStore, storage_options
from tests.fakes.memory_s3 import MemoryS3

if TYPE_CHECKING:
    from pathlib import Path

    from tests.batches.delivery.stack_batches import StackBatches


@pytest.mark.stack
def test_existing_file_is_not_overwritten(batches: StackBatches, tmp_path: Path) -> None:
    """put_new writes a key only once, and the listing shows its size."""
    key = f"predictions/{batches.model}/file"
    (tmp_path / "first").write_bytes(b"x" * 3_000_000)
    (tmp_path / "second").write_bytes(b"y")
    for name, is_new in (("first", True), ("second", False), ("first", False)):
        with (tmp_path / name).open("rb") as file:
            assert batches.store.put_new(key, file) is is_new
    assert batches.store.get(key) == b"x" * 3_000_000
    assert [(entry.key, entry.size) for entry in batches.store.listing(key)] == [(key, 3_000_000)]


def test_put_after_conflict_sends_the_whole_file(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    """A put that is retried sends the file from its beginning."""
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


def test_plain_http_is_allowed_only_for_local_endpoint() -> None:
    """Plain HTTP is enabled only with a local endpoint, and other options keep the AWS defaults."""
    local = storage_options({"AWS_ENDPOINT_URL": "http://127.0.0.1:1", "AWS_REGION": "us-east-1"})
    assert local["AWS_ALLOW_HTTP"] == "true"
    aws = storage_options({"AWS_REGION": "eu-west-1"})
    assert aws["AWS_REGION"] == "eu-west-1"
    assert not {"AWS_ALLOW_HTTP", "AWS_ENDPOINT_URL"} & set(aws)
    assert aws["conditional_put"] == local["conditional_put"] == "etag"
