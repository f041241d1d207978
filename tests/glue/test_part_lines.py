"""Tests of reading the lines of one part."""

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
    """An S3 client for a bucket with one object."""

    def __init__(self, content: bytes) -> None:
        self._content = content

    def head_object(self, **_names: str) -> dict[str, Any]:
        """Return the object's size."""
        return {"ContentLength": len(self._content)}

    def download_fileobj(self, _bucket: str, _key: str, file: IO[bytes], **_options: Any) -> None:
        """Write the object into a file."""
        file.write(self._content)


def read(*lines: bytes) -> list[Any]:
    """Return the rows and refused lines of a part with these lines."""
    return read_packed(gzip.compress(b"\n".join(lines)), len(lines))


def read_packed(content: bytes, rows: int) -> list[Any]:
    """Return the rows and refused lines of a part with these bytes."""
    part = JsonPart("part", rows, len(content), hashlib.sha256(content).hexdigest())
    source = PartSource("flight_delay", "20130201T060000Z-0123abcd", "bucket", part, FULL_SCHEMA)
    return list(read_rows(source, OneObject(content)))


def test_long_refused_line_is_cut() -> None:
    """A long refused line is cut to save memory, but its checksum covers the whole line."""
    long = b'{"flight":"' + b"x" * 5_000_000
    (line,) = read(long)
    assert isinstance(line, RefusedLine)
    assert (line.number, line.reason, line.is_cut) == (1, "value_too_large", True)
    assert line.content == long[:CONTENT_BYTES]
    assert line.checksum == refused_checksum(long)


def test_all_lines_are_counted() -> None:
    """Empty and undecodable lines count as lines, and the last line needs no line ending."""
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
        # A block of a reserved type, and a back-reference to before the start.
        (PACKED[:10] + b"\x07" + PACKED[11:], "is not an intact gzip file"),
        (PACKED[:10] + b"\x03\x02\x00" + PACKED[13:], "is not an intact gzip file"),
    ],
)
def test_part_that_is_not_gzip_is_refused(content: bytes, words: str) -> None:
    """The error says whether a part is not compressed or is a damaged gzip file."""
    with pytest.raises(BatchFaultError, match=words) as caught:
        read_packed(content, 1)
    assert "b'" not in str(caught.value)


def test_concatenated_gzip_files_are_read() -> None:
    """A part may consist of several gzip members and trailing zeros, as RFC 1952 tools produce them."""
    content = PACKED + gzip.compress(b'{"flight":"b"}\n') + b"\x00" * 5
    assert [row.key for row in read_packed(content, 2)] == ["a", "b"]


@pytest.mark.parametrize(
    ("begin", "words"),
    [
        (b"x" * LONGEST_LINE, f"has a line of more than {LONGEST_LINE} bytes"),
        (b"\n" * 100_000, "has more than the 3 rows that the manifest declares"),
    ],
)
def test_oversized_part_is_not_unpacked_to_its_end(begin: bytes, words: str) -> None:
    """Unpacking stops at the first line or row beyond the limit."""
    damaged = b"no gzip"
    with pytest.raises(BatchFaultError, match=words):
        read_packed(gzip.compress(begin + b"x" * 4_000_000) + damaged, 3)


def test_refusal_describes_the_error() -> None:
    """Byte order marks, doubly compressed parts and NaN have their own descriptions."""
    # The time in the compressed bytes might contain a newline.
    found = read(b'\xef\xbb\xbf{"flight":"a"}', gzip.compress(b"x", mtime=0), b'{"flight":"a","score":NaN}')
    faults = [line.what for line in found]
    assert faults == [
        "It begins with a byte order mark",
        "It is compressed with gzip",
        "score: NaN is not a JSON number",
    ]
