"""The lines of one part, from a bucket that holds nothing else."""

from __future__ import annotations

import gzip
import hashlib
from typing import IO, Any

import pytest

from glue_scripts.errors import BatchFaultError
from glue_scripts.files.part_lines import CONTENT_BYTES, PartSource, RefusedLine, read_rows
from prediction_contract.manifests.manifest import JsonPart
from prediction_contract.rows.checksums import refused_checksum
from prediction_contract.rows.row_contract import LONGEST_LINE
from tests.contract.prediction_rows import FULL_SCHEMA

PACKED = gzip.compress(b'{"flight":"a"}\n', mtime=0)


class OneObject:
    """An S3 client of a bucket with one object."""

    def __init__(self, content: bytes) -> None:
        self._content = content

    def head_object(self, **_names: str) -> dict[str, Any]:
        """Answer with its size."""
        return {"ContentLength": len(self._content)}

    def download_fileobj(self, _bucket: str, _key: str, file: IO[bytes], **_options: Any) -> None:
        """Write it into a file."""
        file.write(self._content)


def read(*lines: bytes) -> list[Any]:
    """Return what a part of these lines holds."""
    return read_packed(gzip.compress(b"\n".join(lines)), len(lines))


def read_packed(content: bytes, rows: int) -> list[Any]:
    """Return what a part of these bytes holds."""
    part = JsonPart("part", rows, len(content), hashlib.sha256(content).hexdigest())
    source = PartSource("flight_delay", "20130201T060000Z-0123abcd", "bucket", part, FULL_SCHEMA)
    return list(read_rows(source, OneObject(content)))


def test_of_a_long_refused_line_little_is_kept_in_memory() -> None:
    """Thousands of refused rows of megabytes are no reason to run out of memory; their checksum is whole."""
    long = b'{"flight":"' + b"x" * 5_000_000
    (line,) = read(long)
    assert isinstance(line, RefusedLine)
    assert (line.number, line.reason, line.is_cut) == (1, "value_too_large", True)
    assert line.content == long[:CONTENT_BYTES]
    assert line.checksum == refused_checksum(long)


def test_lines_are_counted_whatever_they_hold() -> None:
    """An empty line is a line; the last one needs no ending."""
    found = read(b'{"flight":"a"}\r', b"", b"\xff", b'{"flight":"b"}')
    assert [(line.number, line.reason) for line in found if isinstance(line, RefusedLine)] == [
        (2, "unparsable"),
        (3, "unparsable"),
    ]
    assert [row.key for row in found if not isinstance(row, RefusedLine)] == ["a", "b"]


@pytest.mark.parametrize(
    ("content", "words"),
    [
        (b'{"flight":"a"}', "is not compressed with gzip"),
        (gzip.compress(b'{"flight":"a"}', mtime=0)[:20], "is not an intact gzip file"),
        (b"\x1f\x8b\x08\x00" + b"x" * 40, "is not an intact gzip file"),
        (PACKED + b"x", "is not an intact gzip file"),
        (PACKED + PACKED[:12], "is not an intact gzip file"),
        (PACKED[:-8] + b"\x00" * 4 + PACKED[-4:], "is not an intact gzip file"),
        (PACKED[:-4] + b"\x00" * 4, "is not an intact gzip file"),
        # A block of reserved type, and a reference to before the beginning.
        (PACKED[:10] + b"\x07" + PACKED[11:], "is not an intact gzip file"),
        (PACKED[:10] + b"\x03\x02\x00" + PACKED[13:], "is not an intact gzip file"),
    ],
)
def test_a_part_that_cannot_be_unpacked_is_called_what_it_is(content: bytes, words: str) -> None:
    """Whoever delivers it learns whether it was never packed, or was damaged on its way."""
    with pytest.raises(BatchFaultError, match=words) as caught:
        read_packed(content, 1)
    assert "b'" not in str(caught.value)


def test_a_part_may_be_put_together_of_gzip_files() -> None:
    """As RFC 1952 and the tools that follow it allow: files behind each other, zeros behind the last."""
    content = PACKED + gzip.compress(b'{"flight":"b"}\n') + b"\x00" * 5
    assert [row.key for row in read_packed(content, 2)] == ["a", "b"]


@pytest.mark.parametrize(
    ("begin", "words"),
    [
        (b"x" * LONGEST_LINE, f"has a line of more than {LONGEST_LINE} bytes"),
        (b"\n" * 100_000, "has more than the 3 rows that the manifest declares"),
    ],
)
def test_what_unpacks_to_too_much_is_not_unpacked_to_its_end(begin: bytes, words: str) -> None:
    """Few bytes unpack to any number: what lies behind the first excess is never read."""
    damaged = b"no gzip"
    with pytest.raises(BatchFaultError, match=words):
        read_packed(gzip.compress(begin + b"x" * 4_000_000) + damaged, 3)


def test_the_reason_says_what_is_wrong_with_a_line() -> None:
    """A mark before the first row, a part that is packed twice, a number that JSON has not."""
    found = read(b'\xef\xbb\xbf{"flight":"a"}', gzip.compress(b"x"), b'{"flight":"a","score":NaN}')
    faults = [line.what for line in found]
    assert faults == [
        "It begins with a byte order mark",
        "It is compressed with gzip",
        "score: NaN is not a JSON number",
    ]
