"""Tests of finding duplicate keys by digests in files."""

from __future__ import annotations

import tempfile
from collections import Counter
from pathlib import Path
from typing import TYPE_CHECKING

import pytest
from hypothesis import given
from hypothesis import strategies as st

from prediction_contract.rows import key_digests
from prediction_contract.rows.key_digests import NO_KEY, KeyDigests, key_digest

if TYPE_CHECKING:
    from collections.abc import Iterable

PIECES = st.lists(st.lists(st.integers(0, 30).map(str), max_size=20), max_size=8)


def joined(keys: Iterable[str]) -> bytes:
    """Return the concatenated digests of keys."""
    return b"".join(map(key_digest, keys))


@given(PIECES)
def test_duplicate_keys_are_found_across_pieces(pieces: list[list[str]]) -> None:
    """Exactly the keys that occur more than once, within a piece or across pieces, are found."""
    counts = Counter(key for piece in pieces for key in piece)
    with tempfile.TemporaryDirectory() as folder:
        digests = KeyDigests(Path(folder))
        for piece in pieces:
            digests.add(joined(piece))
        assert digests.duplicates(1000) == {key_digest(key) for key, count in counts.items() if count > 1}


@pytest.mark.parametrize("at_once", [1, 3, 1000])
def test_duplicates_are_found_in_several_passes(
    monkeypatch: pytest.MonkeyPatch, tmp_path: Path, at_once: int
) -> None:
    """Duplicates that are far apart are found, even if a file is read in several passes."""
    monkeypatch.setattr(key_digests, "_PENDING", 7)
    monkeypatch.setattr(key_digests, "_AT_ONCE", at_once)
    monkeypatch.setattr(key_digests, "_BLOCK_BYTES", 32)
    digests = KeyDigests(tmp_path)
    for piece in range(40):
        keys = [f"{piece}-{number}" for number in range(50)] + ["twice"] * (piece in {3, 35})
        digests.add(joined(keys))
    assert digests.duplicates(1000) == {key_digest("twice")}
    # Every pass finds its own duplicates.
    digests.add(joined(f"7-{number}" for number in range(50)))
    assert digests.duplicates(1000) == {key_digest("twice"), *(key_digest(f"7-{n}") for n in range(50))}


def test_rows_without_key_are_not_duplicates(tmp_path: Path) -> None:
    """Rows without a key do not count as duplicates of one another."""
    digests = KeyDigests(tmp_path)
    digests.add(NO_KEY * 3 + joined(["a"]))
    assert digests.duplicates(1000) == frozenset()


def test_number_of_returned_duplicates_is_limited(tmp_path: Path) -> None:
    """A batch with many duplicate keys yields only the requested number of them, which saves memory."""
    digests = KeyDigests(tmp_path)
    for _ in range(2):
        digests.add(joined(str(number) for number in range(500)))
    assert len(digests.duplicates(11)) == 11
