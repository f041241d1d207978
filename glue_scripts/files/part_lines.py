"""One JSON part: downloaded, compared with the manifest, and read line by line."""

from __future__ import annotations

import hashlib
import tempfile
from contextlib import contextmanager
from dataclasses import dataclass, replace
from typing import IO, TYPE_CHECKING, Any, NoReturn

from boto3.s3.transfer import TransferConfig
from botocore.exceptions import ClientError
from isal.igzip import BadGzipFile, IGzipFile
from isal.igzip_lib import IsalError

from glue_scripts.aws_clients import is_missing
from glue_scripts.errors import BatchFaultError
from prediction_contract.cleaning.cleaning_rules import NO_CLEANING, Cleaning
from prediction_contract.cleaning.row_cleaning import row_parser
from prediction_contract.errors import InvalidRowError
from prediction_contract.rows.checksums import refused_checksum
from prediction_contract.rows.key_digests import key_digest
from prediction_contract.rows.row_contract import LONGEST_LINE, Row
from prediction_contract.rows.schema import PredictionSchema

if TYPE_CHECKING:
    from collections.abc import Iterator

    from prediction_contract.manifests.manifest import JsonPart

# Enough to recognise a refused line; the part holds the whole line.
CONTENT_BYTES = 64 * 1024
_BLOCK_BYTES = 1024 * 1024
_GZIP = b"\x1f\x8b"
_IN_MEMORY = 8 * 1024 * 1024


@dataclass(frozen=True, slots=True)
class PartSource:
    """A part and the columns that its rows must have; it is sent to the process that reads the part.

    Attributes:
        model: The model's name.
        batch_id: The batch.
        bucket: The bucket.
        part: The part's entry in the manifest.
        schema: The columns that the stores hold.
        duplicates: Digests (`key_digest`) of keys that several rows of the batch have.
        written: The columns that the model wrote; None if they are those of the stores.
        cleaning: The rules that turn the written columns into the stored ones.
    """

    model: str
    batch_id: str
    bucket: str
    part: JsonPart
    schema: PredictionSchema
    duplicates: frozenset[bytes] = frozenset()
    written: PredictionSchema | None = None
    cleaning: Cleaning = NO_CLEANING


@dataclass(frozen=True, slots=True)
class RefusedLine:
    """A line that goes to quarantine.

    Attributes:
        number: The line's number within its part, counting from 1.
        reason: One of `row_contract.REASONS`.
        what: What is wrong, in words.
        checksum: The line's checksum as the producer counted it, a signed 64-bit integer.
        content: The line without its ending, cut after `CONTENT_BYTES` because many may be kept at once.
        is_cut: Whether the content was cut.
    """

    number: int
    reason: str
    what: str
    checksum: int
    content: bytes
    is_cut: bool

    def cut_to(self, size: int) -> RefusedLine:
        """Return the line with at most `size` bytes of its content."""
        if len(self.content) <= size:
            return self
        return replace(self, content=self.content[:size], is_cut=True)


def read_rows(source: PartSource, s3: Any) -> Iterator[Row | RefusedLine]:
    """Yield each line of a part, in order, as the row that both stores hold or as a refused line.

    A row that cannot be cleaned is refused with the checksum of the row as written, which Delta holds too.

    Raises:
        BatchFaultError: The part is missing or differs from the manifest.
    """
    written = source.written or source.schema
    accept = row_parser(written, source.cleaning)
    duplicates = source.duplicates
    number = 0
    with _verified(source, s3) as file:
        for lines in _blocks(source, file):
            if number + len(lines) > source.part.rows:
                _fault(source, f"has more than the {source.part.rows} rows that the manifest declares")
            for line in lines:
                number += 1
                try:
                    row = accept(line)
                except InvalidRowError as error:
                    checksum = refused_checksum(line) if error.checksum is None else error.checksum
                    yield _refused(number, error.reason, error.what, checksum, line)
                    continue
                if duplicates and key_digest(row.key) in duplicates:
                    what = f"Several rows of the batch have the {source.schema.key} {row.key[:100]!r}"
                    yield _refused(number, "duplicate_key", what, row.checksum, line)
                else:
                    yield row
    if number != source.part.rows:
        _fault(source, f"has {number} rows, but the manifest declares {source.part.rows}")


def accepted_rows(source: PartSource, s3: Any) -> Iterator[Row]:
    """Yield a part's accepted rows in order, without the refused lines of `read_rows`."""
    return (row for row in read_rows(source, s3) if not isinstance(row, RefusedLine))


def _refused(number: int, reason: str, what: str, checksum: int, line: bytes) -> RefusedLine:
    content = line.rstrip(b"\r\n")
    return RefusedLine(
        number, reason, what, checksum, content[:CONTENT_BYTES], is_cut=len(content) > CONTENT_BYTES
    )


@contextmanager
def _verified(source: PartSource, s3: Any) -> Iterator[IO[bytes]]:
    """Open a temporary file with the part's bytes, which were compared with the manifest."""
    part = source.part
    with tempfile.SpooledTemporaryFile(max_size=_IN_MEMORY) as file:
        try:
            found = s3.head_object(Bucket=source.bucket, Key=part.key)["ContentLength"]
            if found != part.bytes:
                _fault(source, f"has {found} bytes, but the manifest declares {part.bytes}")
            s3.download_fileobj(source.bucket, part.key, file, Config=TransferConfig(use_threads=False))
        except ClientError as error:
            if is_missing(s3, source.bucket, part.key, error):
                _fault(source, "is missing", error)
            raise
        file.seek(0)
        digest = hashlib.sha256()
        while chunk := file.read(1024 * 1024):
            digest.update(chunk)
        if digest.hexdigest() != part.sha256:
            _fault(source, f"has SHA-256 {digest.hexdigest()}, but the manifest declares {part.sha256}")
        file.seek(0)
        yield file


def _blocks(source: PartSource, file: IO[bytes]) -> Iterator[list[bytes]]:
    """Yield the part's lines without their endings, some thousands at a time."""
    rest = b""
    try:
        with IGzipFile(fileobj=file, mode="rb") as content:
            while block := content.read(_BLOCK_BYTES):
                *lines, rest = (rest + block).split(b"\n")
                if len(rest) >= LONGEST_LINE:
                    _fault(source, f"has a line of more than {LONGEST_LINE} bytes")
                yield lines
    except (BadGzipFile, EOFError, IsalError) as error:  # type: ignore[misc]  # isal's stub has it as an instance
        file.seek(0)
        is_packed = file.read(len(_GZIP)) == _GZIP
        _fault(source, "is not an intact gzip file" if is_packed else "is not compressed with gzip", error)
    if rest:
        yield [rest]


def _fault(source: PartSource, what: str, cause: Exception | None = None) -> NoReturn:
    raise BatchFaultError(
        f"Part {source.part.key} {what}",
        remedy="Score the batch again, or deliver the part and its manifest again",
        model=source.model,
        batch_id=source.batch_id,
    ) from cause
