"""A missing object is not taken for a forbidden one, whatever S3 lets the role list."""

from __future__ import annotations

from typing import Any

import pytest
from botocore.exceptions import ClientError

from glue_scripts.aws_clients import is_missing


class Listing:
    """An S3 client that lists given keys."""

    def __init__(self, *keys: str) -> None:
        self._keys = sorted(keys)

    def list_objects_v2(self, *, Bucket: str, Prefix: str, MaxKeys: int) -> dict[str, Any]:  # noqa: N803  # boto3's names
        """List as S3 does."""
        assert Bucket == "bucket"
        found = [key for key in self._keys if key.startswith(Prefix)][:MaxKeys]
        return {"Contents": [{"Key": key} for key in found]} if found else {}


def error(code: str) -> ClientError:
    """Return what boto3 raises."""
    return ClientError({"Error": {"Code": code, "Message": ""}}, "HeadObject")


@pytest.mark.parametrize(
    ("code", "listed", "missing"),
    [
        ("404", ["a/key"], True),
        ("NoSuchKey", [], True),
        ("403", [], True),
        ("AccessDenied", ["a/key-and-more"], True),
        ("403", ["a/key", "a/key-and-more"], False),
        ("SlowDown", [], False),
    ],
)
def test_a_missing_object_is_told_from_a_forbidden_one(
    code: str, listed: list[str], *, missing: bool
) -> None:
    """403 means missing only where the listing does not show the key."""
    assert is_missing(Listing(*listed), "bucket", "a/key", error(code)) is missing
