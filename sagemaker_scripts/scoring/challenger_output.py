"""A challenger's predictions: Parquet below `shadow/`, which loads, commits and publications never read."""

from __future__ import annotations

import json
from collections import Counter
from collections.abc import Iterable
from dataclasses import dataclass
from types import TracebackType
from typing import Self

import numpy as np

from prediction_batches.delivery.batch_identity import BatchIdentity
from prediction_batches.delivery.receipts import RECEIPT_BYTES, Receipt
from prediction_batches.files.data_files import DataFiles
from prediction_batches.files.share_location import ShareLocation
from prediction_batches.object_store import ObjectStore
from prediction_batches.rows.encoded_rows import EncodedRows
from prediction_contract.naming.s3_layout import data_file_prefix, receipt_name, shadow_prefix
from prediction_contract.rows.checksums import batch_checksum
from prediction_contract.rows.schema import PredictionSchema


@dataclass(frozen=True, kw_only=True)
class ChallengerOutput(BatchIdentity):
    """The predictions of one attempt to score a batch's features with a challenger.

    Attributes:
        version: The challenger's version.
    """

    version: int

    @property
    def prefix(self) -> str:
        """The prefix of all that the attempt writes."""
        return f"{self._root}{data_file_prefix(self.batch_id, self.attempt)}"

    @property
    def _root(self) -> str:
        return shadow_prefix(self.model, self.version, self.partition)

    def writer(self, share: str, store: ObjectStore) -> ChallengerWriter:
        """Return the writer of a share."""
        location = ChallengerLocation(
            store, self.model, self.partition, self.batch_id, self.attempt, share, self._root
        )
        return ChallengerWriter(location, self.schema, self.digest)

    def rows(self, shares: Iterable[str], store: ObjectStore) -> int:
        """Return the number of rows of complete shares."""
        keys = (f"{self.prefix}{receipt_name(share)}" for share in shares)
        return sum(int(json.loads(store.get(key, largest=RECEIPT_BYTES))["rows"]) for key in keys)


def data_keys(store: ObjectStore, prefix: str) -> list[str]:
    """Return the keys of an attempt's data files; the list is final once each share has its receipt."""
    return [entry.key for entry in store.listing(prefix) if entry.key.endswith(".parquet")]


@dataclass(frozen=True)
class ChallengerLocation(ShareLocation):
    """The location of a share of a challenger's predictions.

    Attributes:
        root: The prefix of the challenger's predictions for the partition.
    """

    root: str

    def data_key(self, number: int) -> str:
        """Return the key of a data file."""
        return f"{self.root}{self.data_path(number)}"

    @property
    def receipt_key(self) -> str:
        """The key of the receipt."""
        return f"{self.root}{data_file_prefix(self.batch_id, self.attempt)}{receipt_name(self.share)}"


class ChallengerWriter:
    """Writes the data files of one share, then a receipt; existing objects are adopted.

    Args:
        location: The share.
        schema: The model's columns.
        digest: The digest of attempt and columns, for the receipt.
    """

    def __init__(self, location: ChallengerLocation, schema: PredictionSchema, digest: str) -> None:
        self._location = location
        self._digest = digest
        self._data = DataFiles(location, schema)
        self._rows = self._checksum = 0
        self._refused: Counter[str] = Counter()

    def __enter__(self) -> Self:
        self._data.__enter__()
        return self

    def __exit__(
        self, kind: type[BaseException] | None, error: BaseException | None, trace: TracebackType | None
    ) -> None:
        self._data.__exit__(kind, error, trace)

    def write_encoded(self, rows: EncodedRows) -> None:
        """Add rows.

        Raises:
            ShareConflictError: Another writer of the share has written other rows.
        """
        self._data.write(rows.columns, rows.checksums)
        self._refused.update(refusal.reason for refusal in rows.refusals.values())
        self._rows += len(rows)
        self._checksum += int(np.sum(rows.checksums, dtype=np.int64))

    def close(self) -> Receipt:
        """Write the last file and the receipt.

        Raises:
            ShareConflictError: Another writer of the share has written other rows.
        """
        receipt = Receipt(
            share=self._location.share,
            batch_digest=self._digest,
            rows=self._rows,
            checksum=batch_checksum((self._checksum,)),
            refused=dict(self._refused),
            first_refused=(),
            parts=(),
            data_files=tuple(self._data.close()),
            keys=None,
        )
        store, key, content = self._location.store, self._location.receipt_key, receipt.to_bytes()
        if not store.put_new(key, content) and store.get(key, largest=RECEIPT_BYTES) != content:
            raise self._location.conflict(key)
        return receipt
