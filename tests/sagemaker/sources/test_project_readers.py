"""Tests of a project's own readers: their files, what is recorded, and which rows they may return."""

from __future__ import annotations

import itertools
import textwrap
import traceback
from typing import TYPE_CHECKING, Any

import pytest

from prediction_contract.jobs.model_inputs import Source
from sagemaker_scripts.sources.project_reader import ReaderError
from sagemaker_scripts.sources.source_objects import SourceError, SourceMissingError
from tests.sagemaker.sources.source_reading import DAY, bucket, orders, read, sources_of

if TYPE_CHECKING:
    from collections.abc import Callable
    from pathlib import Path

_NUMBERS = itertools.count()
LINES = """
    import pandas as pd

    class Lines:
        point_in_time = True

        def __init__(self):
            self.parsed = {}

        def read(self, partition, files):
            days = [*files.earlier(), partition]
            for day in days:
                content = files.read(files.path(day)) if day == partition else files.find(files.path(day))
                if content is not None and day not in self.parsed:
                    self.parsed[day] = content.decode().split()
            rows = [(day, text) for day in days for text in self.parsed.get(day, [])]
            return pd.DataFrame(rows, columns=["partition", "text"])
"""
TIMED = """
    import pandas as pd

    class Timed:
        {line}
        def read(self, partition, files):
            times = pd.to_datetime(["2013-02-02T23:00Z", "2013-02-03T00:00Z", "2013-02-03T01:00Z"])
            return pd.DataFrame({{"customer_id": list("abc"), "ordered_at": times}})
"""


@pytest.fixture
def reader(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> Callable[..., Source]:
    """Return a function that writes a reader's module and returns a source that uses it."""

    def write(text: str, name: str, **changes: Any) -> Source:
        module = f"acme_readers_{next(_NUMBERS)}"
        (tmp_path / f"{module}.py").write_text(textwrap.dedent(text))
        monkeypatch.syspath_prepend(str(tmp_path))
        given = {
            "format": "reader",
            "reader": f"{module}:{name}",
            "path": "raw/lines/{date}.txt",
            "columns": (),
        }
        return orders(**given | changes)

    return write


def test_reader_reads_objects_once_and_partitions_record_them(
    reader: Callable[..., Source],
) -> None:
    """Every partition records the files it depends on, even if the reader kept their content."""
    store = bucket(**{f"raw/lines/2013-02-0{day}.txt": f"a{day} b{day}".encode() for day in (1, 2, 3)})
    with sources_of(store, reader(LINES, "Lines", history=1)) as tables:
        found = [tables.read(f"2013-02-0{day}") for day in (1, 2, 3)]
    assert [each.tables["orders"]["text"].to_pylist() for each in found] == [
        ["a1", "b1"],
        ["a1", "b1", "a2", "b2"],
        ["a2", "b2", "a3", "b3"],
    ]
    assert [[read.key for read in each.reads] for each in found] == [
        ["raw/lines/2013-02-01.txt"],
        ["raw/lines/2013-02-01.txt", "raw/lines/2013-02-02.txt"],
        ["raw/lines/2013-02-02.txt", "raw/lines/2013-02-03.txt"],
    ]
    assert len(store.client.reads) == 3
    assert found[0].reads[0].to_document()["size"] == 5
    with pytest.raises(SourceMissingError, match=r"2013-02-03[.]txt of source orders does not exist"):
        read(bucket(), reader(LINES, "Lines"))


def test_reader_rows_are_filtered_or_checked_by_time(
    reader: Callable[..., Source],
) -> None:
    """A reader's later rows are dropped, or refused if the reader claims to filter them itself."""
    plain = reader(TIMED.format(line=""), "Timed", known_at="ordered_at")
    assert read(bucket(), plain)[0]["customer_id"].to_pylist() == ["a"]
    leaking = reader(TIMED.format(line="point_in_time = True"), "Timed", known_at="ordered_at")
    complaint = (
        r"The reader acme_readers_\d+:Timed of source orders for 2013-02-03 returned rows that were not "
        r"known yet at 2013-02-03T00:00Z, according to ordered_at: 2 of 3, first row 2"
    )
    with pytest.raises(SourceError, match=complaint):
        read(bucket(), leaking)


@pytest.mark.parametrize(
    ("text", "changes", "complaint"),
    [
        (TIMED.format(line=""), {}, "does not say when its rows became known"),
        ("class Other: ...", {}, "has no class Timed, which source orders names"),
        ("import no_such_package", {}, "cannot be created: ModuleNotFoundError"),
        ("class Timed:\n    def __init__(self, path): ...", {}, "cannot be created: TypeError"),
        ("class Timed: point_in_time = True", {}, r"has no method read\(partition, files\)"),
    ],
)
def test_malformed_reader_is_refused_before_reading(
    reader: Callable[..., Source], text: str, changes: dict[str, Any], complaint: str
) -> None:
    """A reader that is missing, cannot be created or has no read method is refused with its name."""
    with pytest.raises(ReaderError, match=complaint):
        sources_of(bucket(), reader(text, "Timed", **changes))


def test_reader_error_names_partition_and_keeps_traceback(
    reader: Callable[..., Source],
) -> None:
    """The error names the reader and the partition, and its traceback includes the reader's own line."""
    text = """
    class Timed:
        point_in_time = True
        def read(self, partition, files):
            return {}["gone"]  # the line
    """
    with pytest.raises(ReaderError, match=rf"Timed of source orders failed for {DAY}: KeyError") as failed:
        read(bucket(), reader(text, "Timed"))
    assert "# the line" in "".join(traceback.format_exception(failed.value))


def test_declared_columns_apply_to_readers(reader: Callable[..., Source]) -> None:
    """A table that does not match the declared columns is refused by reader, partition and column."""
    source = reader(LINES, "Lines", columns=(("text", "long"),))
    store = bucket(**{f"raw/lines/{DAY}.txt": b"a"})
    with pytest.raises(
        SourceError,
        match=rf"The table that .*Lines returned for {DAY} of source orders, column text: it is large",
    ):
        read(store, source)
    store = bucket(**{f"raw/lines/{DAY}.txt": b"a"})
    shown, _ = read(store, reader(LINES, "Lines", columns=(("text", "string"),)))
    assert shown.to_pylist() == [{"text": "a", "partition": DAY}]


def test_reader_lists_files_by_prefix(reader: Callable[..., Source]) -> None:
    """A reader can list files whose names it does not know in advance."""
    text = """
    import pandas as pd
    class Timed:
        point_in_time = True
        def read(self, partition, files):
            return pd.DataFrame({"key": files.list("raw/")})
    """
    shown, _ = read(bucket(**{"raw/b": b"", "raw/a": b"", "other": b""}), reader(text, "Timed"))
    assert shown["key"].to_pylist() == ["raw/a", "raw/b"]
