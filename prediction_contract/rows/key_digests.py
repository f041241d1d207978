"""Finds duplicate keys in little memory, by 16-byte digests kept in files."""

from __future__ import annotations

import hashlib
import struct
from collections import Counter
from itertools import islice
from typing import TYPE_CHECKING

if TYPE_CHECKING:
    from collections.abc import Iterator, Sequence
    from pathlib import Path

DIGEST_BYTES = 16
# The digest of a row without a key. It never counts as a duplicate.
NO_KEY = bytes(DIGEST_BYTES)
_BUCKETS = 256
# Digests kept in memory before they are written to files. Each takes about 60 bytes.
_PENDING = 100_000
# A set of this many digests takes about 50 MB.
_AT_ONCE = 400_000
_BLOCK_BYTES = DIGEST_BYTES * 4096


def key_digest(key: str) -> bytes:
    """Return the 16-byte digest of a key. A chance collision within a batch is practically impossible."""
    return hashlib.blake2b(key.encode(), digest_size=DIGEST_BYTES).digest()


class KeyDigests:
    """The digests of any number of keys, in files in one folder.

    The first byte of a digest selects its file, so duplicates are in the same file.

    Args:
        folder: The folder for the files.
    """

    def __init__(self, folder: Path) -> None:
        self._folder = folder
        self._pending: list[list[bytes]] = [[] for _ in range(_BUCKETS)]
        self._count = 0

    def add(self, digests: bytes) -> None:
        """Add concatenated digests."""
        pending = self._pending
        for digest in split_digests(digests):
            pending[digest[0]].append(digest)
        self._count += len(digests) // DIGEST_BYTES
        if self._count >= _PENDING:
            self._spill()

    def duplicates(self, most: int) -> frozenset[bytes]:
        """Return at most `most` of the digests that occur more than once."""
        self._spill()
        found: set[bytes] = set()
        for path in sorted(self._folder.iterdir()):
            # A large file takes several passes, each over the digests selected by their second byte.
            passes = -(-path.stat().st_size // (DIGEST_BYTES * _AT_ONCE))
            for number in range(passes):
                seen: set[bytes] = set()
                for block in _blocks(path):
                    digests = block if passes == 1 else [each for each in block if each[1] % passes == number]
                    found |= _repeated(digests, seen)
                    if len(found) >= most:
                        return frozenset(islice(found, most))
        return frozenset(found)

    def _spill(self) -> None:
        for bucket, digests in enumerate(self._pending):
            if digests:
                with (self._folder / f"{bucket:02x}").open("ab") as file:
                    file.write(b"".join(digests))
                digests.clear()
        self._count = 0


def split_digests(joined: bytes) -> tuple[bytes, ...]:
    """Return the digests in their concatenation."""
    # Several times faster than slicing.
    return struct.unpack(f"{DIGEST_BYTES}s" * (len(joined) // DIGEST_BYTES), joined)


def _blocks(path: Path) -> Iterator[tuple[bytes, ...]]:
    with path.open("rb") as file:
        while block := file.read(_BLOCK_BYTES):
            yield split_digests(block)


def _repeated(digests: Sequence[bytes], seen: set[bytes]) -> set[bytes]:
    """Return the digests that are in `seen` or occur more than once, and add all of them to `seen`."""
    distinct = set(digests)
    repeated = seen & distinct
    if len(distinct) < len(digests):
        repeated |= {digest for digest, count in Counter(digests).items() if count > 1}
    seen |= distinct
    repeated.discard(NO_KEY)
    return repeated
