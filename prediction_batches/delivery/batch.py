"""A batch that a program writes: its writers, their receipts and its commit."""

from __future__ import annotations

import uuid
from collections.abc import Iterable
from concurrent.futures import ThreadPoolExecutor
from dataclasses import dataclass
from datetime import UTC, datetime

from prediction_batches.delivery.batch_identity import BatchIdentity
from prediction_batches.delivery.batch_writer import BatchWriter
from prediction_batches.delivery.commit import Provenance, commit_batch
from prediction_batches.delivery.receipts import RECEIPT_BYTES, Receipt, ReceiptError
from prediction_batches.files.share_location import ShareLocation
from prediction_batches.object_store import ObjectStore
from prediction_contract.manifests.manifest import Manifest
from prediction_contract.naming.batch import BatchId, ModelName, Partition, mint_batch_id, validated_attempt
from prediction_contract.naming.s3_layout import json_attempt_prefix, validated_bucket
from prediction_contract.rows.quarantine_tolerance import QuarantineTolerance
from prediction_contract.rows.schema import PredictionSchema

# Receipts that are read in parallel. A batch of a billion rows has a thousand.
_PARALLEL_READS = 8


@dataclass(frozen=True, kw_only=True)
class Batch(BatchIdentity):
    """One attempt at a batch. It has no connection, so it can be sent to other processes and hosts."""

    @property
    def prefix(self) -> str:
        """The S3 prefix of all that the attempt writes outside the Delta table."""
        return json_attempt_prefix(self.model, self.partition, self.batch_id, self.attempt)

    def writer(self, share: str, store: ObjectStore | None = None) -> BatchWriter:
        """Return the writer of a share. Every writer of the same share must write the same rows.

        Args:
            share: The share's name: at most 80 letters, digits, `-`, `_` and `.`.
            store: The bucket; None to access the bucket with the process's own credentials.
        """
        return BatchWriter(
            self._location(share, store),
            self.schema,
            batch_digest=self.digest,
            has_unique_keys=self.has_unique_keys,
        )

    def receipt(self, share: str, store: ObjectStore | None = None) -> Receipt | None:
        """Return the receipt of a share, or None while the share is incomplete.

        Raises:
            ReceiptError: The receipt cannot be read, or was written for other columns.
        """
        location = self._location(share, store)
        content = location.store.find(location.receipt_key, largest=RECEIPT_BYTES)
        if content is None:
            return None
        receipt = Receipt.parse(content)
        if (receipt.share, receipt.batch_digest) != (share, self.digest):
            raise ReceiptError(
                f"The receipt of share {share} was written for other columns or another batch",
                remedy=f"Write the batch under attempt {self.attempt + 1}, all shares with the same schema",
                model=self.model,
                batch_id=self.batch_id,
            )
        return receipt

    def receipts(self, shares: Iterable[str], store: ObjectStore | None = None) -> list[Receipt]:
        """Return the receipts of shares, in the same order.

        Raises:
            ReceiptError: A share is incomplete, or a receipt belongs to another batch.
        """
        reached = store or ObjectStore.of_job(self.bucket)
        names = list(shares)
        with ThreadPoolExecutor(_PARALLEL_READS) as threads:
            found = dict(
                zip(names, threads.map(lambda share: self.receipt(share, reached), names), strict=True)
            )
        missing = [share for share, receipt in found.items() if receipt is None]
        if missing:
            raise ReceiptError(
                f"{len(missing)} of {len(found)} shares are incomplete; the first is {missing[0]}",
                remedy="Write them, then commit the batch",
                model=self.model,
                batch_id=self.batch_id,
            )
        return [receipt for receipt in found.values() if receipt is not None]

    def commit(
        self,
        shares: Iterable[str],
        provenance: Provenance,
        *,
        tolerance: QuarantineTolerance | None = None,
        store: ObjectStore | None = None,
    ) -> Manifest:
        """Make one Delta commit of all shares and then the manifest. Return the new or existing manifest.

        Args:
            shares: The names of all shares, in the order of the batch's rows.
            provenance: The origin of the rows, for the manifest.
            tolerance: How many rows may be refused; None for the platform's default.
            store: The bucket; None to access the bucket with the process's own credentials.

        Raises:
            ReceiptError: A share is incomplete, or one of its JSON parts is missing.
            PredictionsError: More rows will be refused than tolerated, or there are none.
            AttemptSupersededError: A later attempt has committed the batch, but there is no manifest yet.
            DeltaCommitError: The Delta table does not accept the rows.
            ManifestConflictError: The done file at this batch's key belongs to another batch.
        """
        reached = store or ObjectStore.of_job(self.bucket)
        manifest, _ = commit_batch(
            self,
            self.receipts(shares, reached),
            provenance,
            tolerance=tolerance or QuarantineTolerance(),
            store=reached,
        )
        return manifest

    def _location(self, share: str, store: ObjectStore | None) -> ShareLocation:
        reached = store or ObjectStore.of_job(self.bucket)
        return ShareLocation(reached, self.model, self.partition, self.batch_id, self.attempt, share)


def open_batch(
    *,
    bucket: str,
    model: str,
    partition: str,
    schema: PredictionSchema,
    batch_id: str | None = None,
    attempt: int = 1,
    has_unique_keys: bool = False,
) -> Batch:
    """Return a new batch, or an existing one to continue writing.

    Args:
        bucket: The data bucket.
        model: The model's name.
        partition: The partition that the batch scores: an hour, day, week or month in UTC, for example
            `2013-02-01T06`, `2013-02-01`, `2013-W06` or `2013-02`.
        schema: The model's columns.
        batch_id: The batch id from `mint_batch_id`; None for a new one, which is different in each call.
        attempt: The attempt, counting from 1. A later one writes all shares again and replaces earlier rows.
        has_unique_keys: As in `BatchIdentity`.

    Raises:
        InvalidNameError: A name is malformed.
    """
    minted = batch_id or mint_batch_id(model, partition, uuid.uuid4().hex, datetime.now(UTC))
    return Batch(
        bucket=validated_bucket(bucket),
        model=ModelName(model),
        partition=Partition(partition),
        batch_id=BatchId(minted),
        attempt=validated_attempt(attempt),
        schema=schema,
        has_unique_keys=has_unique_keys,
    )
