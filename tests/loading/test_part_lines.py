"""The lines of one part, from a bucket that holds nothing else."""

from __future__ import annotations

import gzip
import hashlib
from typing import IO, Any

from glue_scripts.part_lines import CONTENT_BYTES, PartSource, RefusedLine, read_rows
from prediction_contract.manifest import JsonPart
from prediction_contract.row import refused_checksum
from tests.contract.prediction_rows import FULL_SCHEMA


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
    content = gzip.compress(b"\n".join(lines))
    part = JsonPart("part", len(lines), len(content), hashlib.sha256(content).hexdigest())
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
