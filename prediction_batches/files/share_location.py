"""The S3 keys of one share of a batch."""

from __future__ import annotations

from dataclasses import dataclass

from prediction_batches.errors import ShareConflictError
from prediction_batches.object_store import ObjectStore
from prediction_contract.naming.s3_layout import (
    data_file_path,
    delta_table_prefix,
    json_attempt_prefix,
    json_part_key,
    receipt_name,
    share_keys_name,
    validated_share,
)


@dataclass(frozen=True)
class ShareLocation:
    """A share of one attempt at a batch.

    Attributes:
        store: The bucket.
        model: The model's name.
        partition: The partition that the batch scores.
        batch_id: The batch.
        attempt: Counts from 1.
        share: The share's name.

    Raises:
        InvalidNameError: The share's name is not safe in keys.
    """

    store: ObjectStore
    model: str
    partition: str
    batch_id: str
    attempt: int
    share: str

    def __post_init__(self) -> None:
        validated_share(self.share)

    def part_key(self, number: int) -> str:
        """Return the key of a JSON part, counting from 0."""
        return json_part_key(
            self.model, self.partition, self.batch_id, self.attempt, share=self.share, number=number
        )

    def data_path(self, number: int) -> str:
        """Return the path of a data file below the model's Delta table, counting from 0."""
        return data_file_path(self.batch_id, self.attempt, share=self.share, number=number)

    def data_key(self, number: int) -> str:
        """Return the key of a data file."""
        return f"{delta_table_prefix(self.model)}{self.data_path(number)}"

    @property
    def receipt_key(self) -> str:
        """The key of the receipt."""
        return f"{self._prefix}{receipt_name(self.share)}"

    @property
    def keys_key(self) -> str:
        """The key of the digests of the rows' keys."""
        return f"{self._prefix}{share_keys_name(self.share)}"

    def conflict(self, key: str) -> ShareConflictError:
        """Return the error for an object that exists with other rows."""
        return ShareConflictError(
            f"Another writer of share {self.share} has written other rows to {key}",
            remedy=f"Write the batch under attempt {self.attempt + 1}",
            model=self.model,
            batch_id=self.batch_id,
        )

    @property
    def _prefix(self) -> str:
        return json_attempt_prefix(self.model, self.partition, self.batch_id, self.attempt)
