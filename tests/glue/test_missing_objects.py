"""After a 403, a listing shows whether an object is missing or forbidden."""

from __future__ import annotations

from typing import Any

import pytest
from botocore.exceptions import ClientError

from glue_scripts.aws_clients import is_missing


class Listing:
    """An S3 client that lists the given keys."""

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
def test_missing_and_forbidden_objects_are_distinguished(
    code: str, listed: list[str], *, missing: bool
) -> None:
    """A 403 means missing only if the listing does not have the key."""
    assert is_missing(Listing(*listed), "bucket", "a/key", error(code)) is missing
