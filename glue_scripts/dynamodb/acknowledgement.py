"""Which parts DynamoDB has acknowledged, left on S3 for the next attempt.

It is a hint and no proof: whoever finds it reads the part's rows back, and writes them if one differs. So it
may be left by a load that was killed right after, or by one that was taken for dead and woke up late.
"""

from __future__ import annotations

import time
from dataclasses import dataclass
from typing import TYPE_CHECKING, Any

from botocore.exceptions import ClientError

from glue_scripts.aws_clients import is_missing
from prediction_contract.text.canonical_json import InvalidJsonError, canonical_bytes, parse_json

if TYPE_CHECKING:
    from prediction_contract.rows.checksums import RowTally

_LONGEST_BYTES = 64 * 1024
# Items are not rewritten to extend their TTL by less than 2 %.
_SHARE_OF_LIFE = 0.02


@dataclass(frozen=True, slots=True)
class Acknowledgement:
    """Of one part, by one attempt.

    Attributes:
        bucket: The bucket.
        key: The same for all attempts at the batch.
        manifest_digest: The manifest that names the part.
        part: The part's key.
        table: The online table.
        items_expire_at: The items' TTL, seconds since 1970.
        attempt: The load attempt, from 1.
    """

    bucket: str
    key: str
    manifest_digest: str
    part: str
    table: str
    items_expire_at: int
    attempt: int

    def earlier_expiry(self, s3: Any) -> int | None:
        """Return until when the items live that an earlier attempt says it wrote, never beyond our own.

        Args:
            s3: A boto3 client.

        Returns:
            Seconds since 1970; None if no attempt says so, or the items would live for much shorter.
        """
        if self.attempt == 1:
            return None
        try:
            content = s3.get_object(Bucket=self.bucket, Key=self.key)["Body"].read(_LONGEST_BYTES)
        except ClientError as error:
            if is_missing(s3, self.bucket, self.key, error):
                return None
            raise
        try:
            document: Any = parse_json(content)
            expiry = int(document["items_expire_at"])
            is_same = all(document[name] == value for name, value in self._names().items())
        except (InvalidJsonError, KeyError, TypeError, ValueError):
            # What cannot be read is no reason to write less, and none to fail.
            return None
        least = self.items_expire_at - _SHARE_OF_LIFE * (self.items_expire_at - time.time())
        is_enough = is_same and expiry >= least
        return min(expiry, self.items_expire_at) if is_enough else None

    def leave(self, s3: Any, acknowledged: RowTally) -> None:
        """Say that DynamoDB has acknowledged all of the part's accepted rows.

        Args:
            s3: A boto3 client.
            acknowledged: The rows, for whoever looks.
        """
        document = {
            **self._names(),
            "items_expire_at": self.items_expire_at,
            "attempt": self.attempt,
            "rows": acknowledged.rows,
        }
        s3.put_object(
            Bucket=self.bucket,
            Key=self.key,
            Body=canonical_bytes(document),
            ContentType="application/json",
        )

    def _names(self) -> dict[str, str]:
        return {"manifest_digest": self.manifest_digest, "part": self.part, "table": self.table}
