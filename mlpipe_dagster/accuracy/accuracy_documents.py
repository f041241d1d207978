"""Finds the accuracy documents of a model's batches by batch and by partition."""

from __future__ import annotations

from collections.abc import Iterator
from dataclasses import dataclass

from mlpipe_dagster.resources.data_bucket import DataBucket, ObjectMissingError
from prediction_contract.manifests.measured_accuracy import InvalidAccuracyError, MeasuredAccuracy
from prediction_contract.naming.batch import Partition
from prediction_contract.naming.s3_layout import accuracy_key, accuracy_prefix

# How many partitions back earlier batches are searched for.
WINDOW = 90
_LARGEST_DOCUMENT = 4 * 1024 * 1024


@dataclass(frozen=True, slots=True)
class AccuracyDocuments:
    """The accuracy documents of one model.

    Attributes:
        bucket: The data bucket.
        model: The model's name.
    """

    bucket: DataBucket
    model: str

    def find(self, partition: str, batch_id: str) -> MeasuredAccuracy | None:
        """Return the accuracy of a batch; None if there is no document that this version can read."""
        return self._read(accuracy_key(self.model, partition, batch_id))

    def up_to(self, partition: Partition) -> Iterator[MeasuredAccuracy]:
        """Yield the accuracy of the batches up to and including a partition, in order."""
        prefix = accuracy_prefix(self.model)
        first, last = (f"{prefix}{each.path}/" for each in (partition.earlier(WINDOW), partition))
        for item in self.bucket.below(prefix, after=first):
            if item.key > last and not item.key.startswith(last):
                return
            if (found := self._read(item.key)) is not None:
                yield found

    def _read(self, key: str) -> MeasuredAccuracy | None:
        try:
            return MeasuredAccuracy.parse(self.bucket.read(key, most_bytes=_LARGEST_DOCUMENT))
        except (ObjectMissingError, InvalidAccuracyError):
            return None
