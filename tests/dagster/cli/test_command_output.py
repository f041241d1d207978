"""Output for a person: tables that fit the terminal, and text that cannot steer it."""

from __future__ import annotations

import json
from typing import Any

from hypothesis import example, given
from hypothesis import strategies as st

from mlpipe_dagster.cli.command_output import CommandResult, Fields, Table, shown

BATCH = "20130201T060000Z-0123abcd"


def text_of(part: Table | Fields, width: int | None) -> str:
    """Return a part as a terminal of that width shows it."""
    return CommandResult(document={}, sections=[part]).to_text(width)


def test_columns_are_aligned_under_their_names() -> None:
    """Without a terminal nothing is cut."""
    rows = [{"a": 1, "b": "x" * 300}, {"a": 20, "b": None}]
    assert text_of(Table(columns=("a", "b"), rows=rows, title="things"), None).splitlines() == [
        "things",
        "a   b",
        f"1   {'x' * 300}",
        "20  -",
    ]


def test_wide_column_is_cut_but_a_batch_id_is_not() -> None:
    """A batch id can be copied whole."""
    rows = [{"batch_id": BATCH, "why": "because " * 20}]
    header, line = text_of(Table(columns=("batch_id", "why"), rows=rows), 60).splitlines()
    assert line.startswith(BATCH)
    assert len(line) == 60
    assert line.endswith("…")
    assert header.split() == ["batch_id", "why"]


def test_table_too_wide_for_the_terminal_becomes_blocks() -> None:
    """On 40 columns nothing is cut: each row is a block of lines."""
    names = ("batch_id", "previous_batch_id", "a")
    rows = [{"batch_id": BATCH, "previous_batch_id": BATCH, "a": 1}] * 2
    table = Table(columns=names, rows=rows, whole=frozenset(names))
    lines = text_of(table, 40).splitlines()
    assert len(lines) == 7
    assert lines[0] == f"batch_id           {BATCH}"
    assert lines[3] == ""


def test_empty_table_says_so() -> None:
    """It shows its title and the reason that it has no rows."""
    assert (
        text_of(Table(columns=("a",), rows=[], title="runs", empty="unknown: down"), 80)
        == "runs\nunknown: down"
    )


def test_long_values_are_broken_at_spaces() -> None:
    """A word is never broken, since it may be a key."""
    lines = text_of(Fields(members={"reason": "one two three " * 5, "key": "k" * 50}), 30).splitlines()
    assert lines[0].startswith("reason  one two")
    assert all(line.startswith("        ") for line in lines[1:-1])
    assert lines[-1] == f"key     {'k' * 50}"


def test_values_are_shown_in_plain_words() -> None:
    """Null, booleans, lists and mappings are not shown in Python's or JSON's form."""
    assert [shown(value) for value in (None, True, False, [], ["a", 1], {"x": 2}, 0.1234567)] == [
        "-",
        "yes",
        "no",
        "-",
        "a, 1",
        "x 2",
        "0.123457",
    ]


@given(st.text(), st.text(), st.integers(20, 200))
def test_text_cannot_steer_the_terminal(title: str, value: str, width: int) -> None:
    """Whatever a store or a file contains, no printed line has an unprintable character."""
    parts = [
        Fields(members={"name": value, "list": [value]}),
        Table(columns=("a", "b"), rows=[{"a": value, "b": title}]),
        Table(columns=("a",), rows=[], title=title, empty=value),
    ]
    lines = CommandResult(document={}, sections=parts).to_text(width).split("\n")
    assert all(line.isprintable() for line in lines)


def test_json_keeps_letters_of_all_languages() -> None:
    """Letters outside ASCII are printed as they are, not escaped."""
    assert json.loads(CommandResult(document={"reason": "größe"}, sections=[]).to_json()) == {
        "reason": "größe"
    }
    assert "größe" in CommandResult(document={"reason": "größe"}, sections=[]).to_json()


@given(st.dictionaries(st.text(), st.text() | st.lists(st.text())), st.text())
@example({"\x9b": "\u202e\ud800\x7f\u2028"}, "\x1b[2J\n")
def test_json_is_printable_and_parses_to_the_same_document(members: dict[str, Any], text: str) -> None:
    """A program reads what was stored, and a terminal does not obey it."""
    document = {**members, "text": text, "größe": 1}
    printed = CommandResult(document=document, sections=[]).to_json()
    assert json.loads(printed) == document
    assert all(line.isprintable() for line in printed.split("\n"))
