"""Keys of several rows are found whatever their order and number, from runs on disk."""

from __future__ import annotations

from collections import Counter
from typing import TYPE_CHECKING

from hypothesis import given
from hypothesis import strategies as st

from glue_scripts.files import duplicate_keys
from glue_scripts.files.duplicate_keys import KeyDigests, digest_files
from glue_scripts.files.part_lines import key_digest

if TYPE_CHECKING:
    from pathlib import Path

    import pytest

PARTS = st.lists(st.lists(st.integers(0, 30).map(str), max_size=20), max_size=8)


def runs_of(keys: list[str]) -> list[bytes]:
    """Return one part's runs."""
    digests = KeyDigests()
    for key in keys:
        digests.add(key_digest(key))
    return digests.runs()


@given(PARTS)
def test_the_duplicate_keys_of_all_parts_are_found(parts: list[list[str]]) -> None:
    """Within a part and across parts: exactly the keys that occur more than once."""
    counts = Counter(key for part in parts for key in part)
    with digest_files() as digests:
        for part in parts:
            for run in runs_of(part):
                digests.add(run)
        assert digests.duplicates(1000) == {key_digest(key) for key, count in counts.items() if count > 1}


def test_many_runs_are_merged_on_the_way(monkeypatch: pytest.MonkeyPatch, tmp_path: Path) -> None:
    """Only so many files are ever open; nothing is lost between merges, and nothing left on disk."""
    monkeypatch.setattr(duplicate_keys, "_RUNS_AT_ONCE", 4)
    monkeypatch.setattr(duplicate_keys, "_RUN_DIGESTS", 3)
    monkeypatch.setattr(duplicate_keys.tempfile, "tempdir", str(tmp_path))
    with digest_files() as digests:
        for part in range(40):
            found = runs_of(
                [f"{part}-{number}" for number in range(10)] + (["twice"] if part in {3, 35} else [])
            )
            assert len(found) >= 4
            for run in found:
                digests.add(run)
            (folder,) = tmp_path.iterdir()
            assert len(list(folder.iterdir())) <= 4
        assert digests.duplicates(1000) == {key_digest("twice")}
    assert list(tmp_path.iterdir()) == []


def test_no_more_duplicate_keys_are_kept_than_asked_for() -> None:
    """A batch of nothing but duplicate keys is refused without holding them all."""
    with digest_files() as digests:
        for _ in range(2):
            for run in runs_of([str(number) for number in range(500)]):
                digests.add(run)
        assert len(digests.duplicates(11)) == 11
