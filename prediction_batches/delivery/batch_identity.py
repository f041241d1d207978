"""The identity of one attempt at a batch, shared by its writers and its commit."""

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
        has_unique_keys: Whether the caller itself compares the keys of the whole batch. Otherwise the writers
            store digests of the keys, and the commit compares them.
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
        """The SHA-256 of the identity, which every receipt of the batch contains."""
        members = ("bucket", "model", "partition", "batch_id", "attempt", "has_unique_keys")
        document = {name: getattr(self, name) for name in members} | {"schema": self.schema.to_document()}
        return hashlib.sha256(canonical_bytes(document)).hexdigest()
