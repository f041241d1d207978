"""Tells an object that is not there from one that may not be read."""

from __future__ import annotations

from typing import TYPE_CHECKING, Any

if TYPE_CHECKING:
    from botocore.exceptions import ClientError

_MISSING = frozenset({"404", "NoSuchKey", "NotFound"})
_DENIED = frozenset({"403", "AccessDenied", "Forbidden"})


def is_missing(s3: Any, bucket: str, key: str, error: ClientError) -> bool:
    """Return whether a request for an object failed because there is none.

    Args:
        s3: A boto3 client.
        bucket: The bucket.
        key: The object's key.
        error: What S3 answered.
    """
    code = error.response["Error"]["Code"]
    if code in _MISSING:
        return True
    if code not in _DENIED:
        return False
    # Whose right to list is bound to prefixes is answered so for what is not there, too.
    listed = s3.list_objects_v2(Bucket=bucket, Prefix=key, MaxKeys=1).get("Contents", [])
    return all(entry["Key"] != key for entry in listed)
