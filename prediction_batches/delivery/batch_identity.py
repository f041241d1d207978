"""Which attempt at which batch: what its writers and its commit have in common."""

from __future__ import annotations

import hashlib
from dataclasses import dataclass

from prediction_contract.naming.batch import BatchId, ModelName, Partition
from prediction_contract.rows.schema import PredictionSchema
from prediction_contract.text.canonical_json import canonical_bytes


@dataclass(frozen=True, kw_only=True)
class BatchIdentity:
    """One attempt at a batch.

    Attributes:
        bucket: The data bucket.
        model: The model's name.
        partition: The partition that the batch scores.
        batch_id: The batch.
        attempt: Counts from 1.
        schema: The model's columns.
        has_unique_keys: Whether the caller compares the keys of the whole batch. Otherwise the writers keep
            digests of them, and the commit compares those.
    """

    bucket: str
    model: ModelName
    partition: Partition
    batch_id: BatchId
    attempt: int
    schema: PredictionSchema
    has_unique_keys: bool = False

    @property
    def digest(self) -> str:
        """SHA-256 of all that the receipts of a batch must have in common."""
        members = ("bucket", "model", "partition", "batch_id", "attempt", "has_unique_keys")
        document = {name: getattr(self, name) for name in members} | {"schema": self.schema.to_document()}
        return hashlib.sha256(canonical_bytes(document)).hexdigest()
