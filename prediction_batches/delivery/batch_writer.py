"""The writer of one share of a batch. It writes JSON parts, data files, key digests and finally a receipt."""

from __future__ import annotations

from collections import Counter
from collections.abc import Iterator
from contextlib import ExitStack, contextmanager
from types import TracebackType
from typing import Any, Self

import numpy as np

from prediction_batches.delivery.receipts import RECEIPT_BYTES, Receipt, RefusedRow
from prediction_batches.errors import WriterEndedError
from prediction_batches.files.data_files import DataFiles
from prediction_batches.files.part_files import PartFiles
from prediction_batches.files.share_location import ShareLocation
from prediction_batches.keys.share_keys import ShareKeys
from prediction_batches.rows.column_encoder import ColumnEncoder
from prediction_batches.rows.encoded_rows import EncodedRows
from prediction_batches.rows.given_rows import given_rows
from prediction_contract.rows.checksums import batch_checksum
from prediction_contract.rows.schema import PredictionSchema

# The number of refused rows that each receipt describes.
NAMED_ROWS = 5


class BatchWriter:
    """Writes one share. As a context manager, it closes the share unless an error occurs.

    It never overwrites an object: a writer that repeats another's work adopts the existing objects. After an
    error it accepts no more rows and writes no receipt, because rows before the error may be lost.

    Args:
        location: The share.
        schema: The model's columns.
        batch_digest: The digest of the batch and its columns, for the receipt.
        has_unique_keys: Whether the caller compares the keys of the whole batch, so that no key digests are
            needed.
    """

    def __init__(
        self, location: ShareLocation, schema: PredictionSchema, *, batch_digest: str, has_unique_keys: bool
    ) -> None:
        self._location = location
        self._schema = schema
        self._batch_digest = batch_digest
        self._encoder = ColumnEncoder(schema)
        self._opened = ExitStack()
        self._parts = PartFiles(location)
        self._data = self._opened.enter_context(DataFiles(location, schema))
        self._keys = None if has_unique_keys else self._opened.enter_context(ShareKeys(location))
        self._rows = self._checksum = 0
        self._refused: Counter[str] = Counter()
        self._first_refused: list[RefusedRow] = []
        self._receipt: Receipt | None = None
        self._has_ended = False

    def __enter__(self) -> Self:
        return self

    def __exit__(
        self, kind: type[BaseException] | None, error: BaseException | None, trace: TracebackType | None
    ) -> None:
        with self._opened:
            if kind is None:
                self.close()
            self._has_ended = True

    def write(self, table: Any) -> None:
        """Add rows.

        Args:
            table: A DataFrame of pandas, an Arrow table or record batch, or any table with
                `__arrow_c_stream__`. It has exactly the schema's columns, in any order.

        Raises:
            PredictionsError: The columns are not the schema's, or a value's type is not supported.
            ShareConflictError: Another writer of the share has written other rows.
            WriterEndedError: The writer is closed, or an error has ended it.
        """
        with self._unless_ended():
            for piece in self._encoder.pieces(given_rows(self._schema, table)):
                self._add(piece)

    def write_encoded(self, rows: EncodedRows) -> None:
        """Add encoded rows.

        Raises:
            PredictionsError: A row is larger than a part may be.
            ShareConflictError: Another writer of the share has written other rows.
            WriterEndedError: The writer is closed, or an error has ended it.
        """
        with self._unless_ended():
            self._add(rows)

    def close(self) -> Receipt:
        """Write the remaining rows, then the receipt. The receipt marks the share as complete.

        Raises:
            ShareConflictError: Another writer of the share has written other rows.
            WriterEndedError: An error has ended the writer.
        """
        if self._receipt is None:
            with self._unless_ended():
                self._receipt = self._written_receipt()
            self._has_ended = True
            self._opened.close()
        return self._receipt

    @contextmanager
    def _unless_ended(self) -> Iterator[None]:
        if self._has_ended:
            raise WriterEndedError(
                f"The writer of share {self._location.share} is closed or has failed",
                remedy="Open a new writer and write the whole share again",
                model=self._location.model,
                batch_id=self._location.batch_id,
            )
        try:
            yield
        except BaseException:
            self._has_ended = True
            raise

    def _add(self, rows: EncodedRows) -> None:
        self._parts.write(rows.lines)
        self._data.write(rows.columns, rows.checksums)
        if self._keys is not None:
            self._keys.write(rows.columns[self._schema.key], rows.refusals.keys())
        for number, refusal in sorted(rows.refusals.items()):
            self._refused[refusal.reason] += 1
            if len(self._first_refused) < NAMED_ROWS:
                self._first_refused.append(RefusedRow(self._rows + number + 1, refusal.fault))
        self._rows += len(rows)
        # NumPy wraps sums at 64 bits; `batch_checksum` is a sum modulo 2^64 too.
        self._checksum += int(np.sum(rows.checksums, dtype=np.int64))

    def _written_receipt(self) -> Receipt:
        receipt = Receipt(
            share=self._location.share,
            batch_digest=self._batch_digest,
            rows=self._rows,
            checksum=batch_checksum((self._checksum,)),
            refused=dict(self._refused),
            first_refused=tuple(self._first_refused),
            parts=tuple(self._parts.close()),
            data_files=tuple(self._data.close()),
            keys=None if self._keys is None else self._keys.close(),
        )
        store, key = self._location.store, self._location.receipt_key
        if not store.put_new(key, receipt.to_bytes()):
            found = Receipt.parse(store.get(key, largest=RECEIPT_BYTES))
            if found != receipt:
                raise self._location.conflict(key)
        return receipt
