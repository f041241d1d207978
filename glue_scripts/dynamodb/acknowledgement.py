"""Records on S3 which parts DynamoDB has acknowledged, for the next attempt.

A record is only a hint: the next attempt reads the part's rows back, and writes them if one differs. So the
record of a load that was killed, or that still runs, does no harm.
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
    """The acknowledgement of one part by one attempt.

    Attributes:
        bucket: The bucket.
        key: The record's key; all attempts at the batch share it.
        manifest_digest: The digest of the manifest that names the part.
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
        """Return the TTL that an earlier attempt recorded for the part's items, or this attempt's if lower.

        Args:
            s3: A boto3 client.

        Returns:
            Seconds since 1970. None if there is no usable record, or if the items must be written again to
            extend their TTL.
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
            # An unreadable hint counts as none.
            return None
        least = self.items_expire_at - _SHARE_OF_LIFE * (self.items_expire_at - time.time())
        is_enough = is_same and expiry >= least
        return min(expiry, self.items_expire_at) if is_enough else None

    def record(self, s3: Any, acknowledged: RowTally) -> None:
        """Record that DynamoDB has acknowledged all of the part's accepted rows.

        Args:
            s3: A boto3 client.
            acknowledged: The rows, whose number is recorded for information.
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
