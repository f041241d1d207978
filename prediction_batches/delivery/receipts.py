"""The receipt of one share of a batch. The writer stores it last, as JSON; it lists what was written."""

from __future__ import annotations

import json
from collections import Counter
from collections.abc import Sequence
from dataclasses import dataclass
from typing import Any, Self

from prediction_batches.files.data_files import DataFile
from prediction_contract.errors import ContractError
from prediction_contract.manifests.manifest import InputObject, JsonPart
from prediction_contract.rows.checksums import batch_checksum, parse_batch_checksum
from prediction_contract.text.canonical_json import canonical_bytes

# The maximum size of a receipt, which lists a file per million rows and a part per 32 MB.
RECEIPT_BYTES = 16 * 1024 * 1024


class ReceiptError(ContractError):
    """A receipt is missing, cannot be read, or belongs to another batch."""


@dataclass(frozen=True)
class RefusedRow:
    """A row that will be quarantined: its number in the share, from 1, and its fault, without values."""

    number: int
    fault: str


@dataclass(frozen=True, kw_only=True)
class Receipt:
    """The rows and objects that one writer has written.

    Attributes:
        share: The share's name.
        batch_digest: The digest of the batch and its columns.
        rows: The number of rows.
        checksum: The checksum of the rows, in the form of `batch_checksum`.
        refused: The number of rows that will be quarantined, by reason.
        first_refused: The first rows that will be quarantined.
        parts: The JSON parts, in order.
        data_files: The data files, in order.
        keys: The object with the key digests; None if the caller compares the keys.
    """

    share: str
    batch_digest: str
    rows: int
    checksum: str
    refused: dict[str, int]
    first_refused: tuple[RefusedRow, ...]
    parts: tuple[JsonPart, ...]
    data_files: tuple[DataFile, ...]
    keys: InputObject | None

    def to_bytes(self) -> bytes:
        """Return the receipt as canonical JSON."""
        document: dict[str, Any] = {
            **{
                name: getattr(self, name) for name in ("share", "batch_digest", "rows", "checksum", "refused")
            },
            "first_refused": [[row.number, row.fault] for row in self.first_refused],
            "parts": [[part.key, part.rows, part.bytes, part.sha256] for part in self.parts],
            "data_files": [[file.path, file.rows, file.bytes] for file in self.data_files],
            "keys": None if self.keys is None else [self.keys.key, self.keys.sha256],
        }
        return canonical_bytes(document)

    @classmethod
    def parse(cls, content: bytes) -> Self:
        """Parse a receipt from its JSON.

        Raises:
            ReceiptError: The document is malformed.
        """
        try:
            document = json.loads(content)
            receipt = cls(
                share=str(document["share"]),
                batch_digest=str(document["batch_digest"]),
                rows=int(document["rows"]),
                checksum=str(document["checksum"]),
                refused={str(reason): int(rows) for reason, rows in document["refused"].items()},
                first_refused=tuple(RefusedRow(*row) for row in document["first_refused"]),
                parts=tuple(JsonPart(*part) for part in document["parts"]),
                data_files=tuple(DataFile(*file) for file in document["data_files"]),
                keys=None if document["keys"] is None else InputObject(*document["keys"]),
            )
            parse_batch_checksum(receipt.checksum)
            receipt.check_rows()
        except (AttributeError, KeyError, TypeError, ValueError, OverflowError, RecursionError) as error:
            raise ReceiptError(
                f"A receipt cannot be read: {error}",
                remedy="Write the batch under the next attempt, all shares with the same version of the code",
            ) from error
        return receipt

    def check_rows(self) -> None:
        """Raise a `ValueError` unless parts and data files add up to the receipt's number of rows."""
        found = [sum(part.rows for part in self.parts), sum(file.rows for file in self.data_files)]
        if found != [self.rows, self.rows]:
            raise ValueError(
                f"it counts {self.rows} rows, but its parts have {found[0]} and its data files {found[1]}"
            )


def total_checksum(receipts: Sequence[Receipt]) -> str:
    """Return the checksum of all rows of these receipts."""
    return batch_checksum(parse_batch_checksum(receipt.checksum) for receipt in receipts)


def total_refused(receipts: Sequence[Receipt]) -> Counter[str]:
    """Return how many rows of these receipts will be quarantined, by reason."""
    total: Counter[str] = Counter()
    for receipt in receipts:
        total.update(receipt.refused)
    return total
