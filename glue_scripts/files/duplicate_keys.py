"""Keys that several rows of a batch have, found in little memory: sorted runs in files, merged."""

from __future__ import annotations

import heapq
import tempfile
from contextlib import contextmanager
from itertools import groupby, islice
from pathlib import Path
from typing import IO, TYPE_CHECKING

from glue_scripts.files.part_lines import DIGEST_BYTES

if TYPE_CHECKING:
    from collections.abc import Iterable, Iterator

# A list of so many digests takes some 30 MB while it is sorted.
_RUN_DIGESTS = 400_000
_RUNS_AT_ONCE = 128
_BUFFER_BYTES = DIGEST_BYTES * 4096


class KeyDigests:
    """Gathers the digests of one part's keys.

    Their memory is 16 bytes a row, whatever the keys, and that of one run while it is sorted.
    """

    def __init__(self) -> None:
        self._unsorted: list[bytes] = []
        self._runs: list[bytes] = []

    def add(self, digest: bytes) -> None:
        """Add a key's digest."""
        self._unsorted.append(digest)
        if len(self._unsorted) == _RUN_DIGESTS:
            self._sort()

    def runs(self) -> list[bytes]:
        """Return sorted runs of digests, joined."""
        self._sort()
        return self._runs

    def _sort(self) -> None:
        if self._unsorted:
            self._unsorted.sort()
            self._runs.append(b"".join(self._unsorted))
            self._unsorted = []


class DigestFiles:
    """The digests of a batch's keys, in temporary files.

    Args:
        folder: Where the files are made.
    """

    def __init__(self, folder: Path) -> None:
        self._folder = folder
        self._files: list[Path] = []
        self._made = 0

    def add(self, run: bytes) -> None:
        """Write a sorted run to a file."""
        path = self._new_file()
        path.write_bytes(run)
        self._files.append(path)
        if len(self._files) == _RUNS_AT_ONCE:
            self._files = [self._merge(self._files)]

    def duplicates(self, most: int) -> frozenset[bytes]:
        """Return the digests that occur more than once, `most` of them at most."""
        with _merged(self._files) as digests:
            found = (digest for digest, same in groupby(digests) if len(list(islice(same, 2))) > 1)
            return frozenset(islice(found, most))

    def _merge(self, files: list[Path]) -> Path:
        path = self._new_file()
        with _merged(files) as digests, path.open("wb") as out:
            while joined := b"".join(islice(digests, _BUFFER_BYTES // DIGEST_BYTES)):
                out.write(joined)
        for file in files:
            file.unlink()
        return path

    def _new_file(self) -> Path:
        self._made += 1
        return self._folder / f"run-{self._made:06}"


@contextmanager
def digest_files() -> Iterator[DigestFiles]:
    """Hold an empty collection; its files are deleted in the end."""
    with tempfile.TemporaryDirectory(prefix="mlpipe-keys-") as folder:
        yield DigestFiles(Path(folder))


@contextmanager
def _merged(files: Iterable[Path]) -> Iterator[Iterator[bytes]]:
    """Hold the digests of sorted files in order."""
    opened = [path.open("rb") for path in files]
    try:
        yield heapq.merge(*map(_digests, opened))
    finally:
        for file in opened:
            file.close()


def _digests(file: IO[bytes]) -> Iterator[bytes]:
    while block := file.read(_BUFFER_BYTES):
        for start in range(0, len(block), DIGEST_BYTES):
            yield block[start : start + DIGEST_BYTES]
