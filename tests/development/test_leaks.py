"""`mlpipe check --leaks` reports use of future data with entity and column."""

from __future__ import annotations

from typing import TYPE_CHECKING

from tests.dagster.cli.documented_answers import agree, documented

if TYPE_CHECKING:
    import pytest

    from tests.development.copied_projects import CopiedProject


def test_leaking_reader_is_found(first: CopiedProject, capfd: pytest.CaptureFixture[str]) -> None:
    """A reader that also reads tomorrow's file changes the features of today."""
    first.change(
        "readers.py",
        "for day in [*files.earlier(), partition]:",
        "tomorrow = (pd.Timestamp(partition) + pd.Timedelta(days=1)).strftime('%Y-%m-%d')\n"
        "        for day in [*files.earlier(), partition, tomorrow]:",
    )
    first.change("readers.py", "(day, line[:12]", "(partition if day == tomorrow else day, line[:12]")
    status, document = first.json(capfd, "check", "demand", "--leaks")
    [looked] = document["leaks"]
    assert status == 1
    assert {(leak["column"], leak["what"]) for leak in looked["leaks"]} == {
        ("degrees", "later data changes the value")
    }
    assert {leak["function"] for leak in looked["leaks"]} == {"features"}
    assert {leak["entity"] for leak in looked["leaks"]} == {"Harbour", "Museum", "Park", "University"}
    assert looked["partition"] == "2026-03-19"
    agree(documented()["check"], document)


def test_leak_within_a_file_is_found_with_as_of(
    first: CopiedProject, capfd: pytest.CaptureFixture[str]
) -> None:
    """A generator that accepts `as_of` can return a file as it was at that time."""
    asked = ("check", "demand", "--leaks", "--partition", "2026-03-15")
    _, document = first.json(capfd, *asked)
    later_files = document["leaks"][0]["taken_away"]["files"]
    first.change("sample_data.py", "def objects():", "def objects(as_of=None):")
    first.change(
        "sample_data.py",
        'f"{station:<12}{dice.uniform(-5, 25):6.1f}\\n"',
        "f\"{station:<12}{dice.uniform(-5, 25) * (as_of != f'{day:%Y-%m-%d}'):6.1f}\\n\"",
    )
    status, document = first.json(capfd, *asked)
    assert status == 1
    assert {leak["column"] for leak in document["leaks"][0]["leaks"]} == {"degrees"}
    assert document["leaks"][0]["taken_away"]["files"] == later_files + 1


def test_function_that_needs_later_data_is_reported(
    first: CopiedProject, capfd: pytest.CaptureFixture[str]
) -> None:
    """The error names the missing file and the project's own line."""
    first.change(
        "readers.py",
        "content = files.find(files.path(day))",
        "content = files.read('raw/weather/2026-03-20.txt')",
    )
    status, document = first.json(capfd, "check", "demand", "--leaks")
    assert status == 1
    assert (
        "raw/weather/2026-03-20.txt of source weather does not exist" in document["leaks"][0]["error"]["what"]
    )
    assert document["leaks"][0]["error"]["lines"][0].startswith("first/readers.py:")


def test_missing_known_at_is_reported(first: CopiedProject, capfd: pytest.CaptureFixture[str]) -> None:
    """Columns with later times are listed with their source if it declares no `known_at`."""
    status, document = first.json(capfd, "check", "demand", "--leaks")
    assert (status, document["leaks"][0]["later_times"]) == (0, [])
    first.change("defs/demand/defs.yaml", "      known_at: started_at\n", "")
    _, document = first.json(capfd, "check", "demand", "--leaks")
    [later] = document["leaks"][0]["later_times"]
    assert (later["source"], later["column"]) == ("trips", "started_at")
    assert later["rows"] > 0
    agree(documented()["check"], document)
