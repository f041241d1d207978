"""Writes the JSON parts of one share: compresses lines as they come and uploads each full part."""

from __future__ import annotations

import hashlib
import tempfile
from functools import partial
from io import BytesIO

import numpy as np
import pyarrow as pa

from prediction_batches.errors import PredictionsError
from prediction_batches.files.gzip_files import GzipStream, text_digest
from prediction_batches.files.share_location import ShareLocation
from prediction_batches.files.uploads import Uploads
from prediction_contract.manifests.manifest import JsonPart

# The maximum bytes of a part's uncompressed lines, which bounds a loader's memory too.
PART_BYTES = 32_000_000


class PartFiles:
    """Gzipped JSON parts of a share; where a part ends depends only on the lines.

    Memory holds at most two compressed parts, one of them being uploaded. An existing object is never
    overwritten; one with the same lines is adopted.

    Args:
        location: The share.
        part_bytes: The maximum bytes of a part's uncompressed lines.
    """

    def __init__(self, location: ShareLocation, *, part_bytes: int = PART_BYTES) -> None:
        self._location = location
        self._part_bytes = part_bytes
        self._parts: list[JsonPart] = []
        self._uploads = Uploads()
        self._finished = self._finished_rows = 0
        self._start_part()

    def write(self, lines: pa.Array) -> None:
        """Add lines.

        Args:
            lines: An array of binary or large binary, without nulls; each line includes its line ending.

        Raises:
            PredictionsError: A line is longer than a part may be.
            ShareConflictError: The object exists with other lines.
        """
        ends, text = _text_of(lines)
        first = 0
        while first < len(lines):
            last = int(np.searchsorted(ends, ends[first] + self._part_bytes - self._size, side="right")) - 1
            if last > first:
                self._pack.add(text[ends[first] : ends[last]])
                self._rows += last - first
                self._size += int(ends[last] - ends[first])
                first = last
            elif self._rows:
                self._finish()
            else:
                raise self._too_long(int(ends[first + 1] - ends[first]))

    def close(self) -> list[JsonPart]:
        """Write the last part, and return all parts; none if there were no lines."""
        if self._rows:
            self._finish()
        self._uploads.finish()
        return self._parts

    def _start_part(self) -> None:
        self._pack = GzipStream()
        self._rows = self._size = 0

    def _finish(self) -> None:
        key, packed = self._location.part_key(self._finished), self._pack.finish()
        self._uploads.start(partial(self._put, key, packed, self._rows, self._size))
        self._finished += 1
        self._finished_rows += self._rows
        self._start_part()

    def _put(self, key: str, packed: bytes, rows: int, text_bytes: int) -> None:
        part = JsonPart(key, rows, len(packed), hashlib.sha256(packed).hexdigest())
        is_new = self._location.store.put_new(key, packed)
        self._parts.append(part if is_new else self._adopted(part, packed, text_bytes))

    def _adopted(self, part: JsonPart, packed: bytes, text_bytes: int) -> JsonPart:
        """Return the existing part if it has the same lines; other versions of isal compress differently."""
        with tempfile.TemporaryFile() as file:
            digest = self._location.store.save(part.key, file)
            found = JsonPart(part.key, part.rows, file.tell(), digest)
            file.seek(0)
            if found != part and text_digest(file, text_bytes) != text_digest(BytesIO(packed), text_bytes):
                raise self._location.conflict(part.key)
        return found

    def _too_long(self, size: int) -> PredictionsError:
        return PredictionsError(
            f"Row {self._finished_rows + 1} of share {self._location.share} has {size} bytes; a part may "
            f"have at most {self._part_bytes}",
            remedy="Shorten the row's values",
            model=self._location.model,
            batch_id=self._location.batch_id,
        )


def _text_of(lines: pa.Array) -> tuple[np.ndarray, memoryview]:
    """Return the offsets at which lines begin, with the end of the last line, and the array's text."""
    _, offsets, data = lines.buffers()
    kind = np.int64 if pa.types.is_large_binary(lines.type) else np.int32
    ends = np.frombuffer(offsets, kind)[lines.offset : lines.offset + len(lines) + 1].astype(np.int64)
    return ends, memoryview(data) if data is not None else memoryview(b"")
