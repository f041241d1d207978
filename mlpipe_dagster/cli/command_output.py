"""A command's result, printed as JSON or as tables that fit the terminal."""

from __future__ import annotations

import json
from collections.abc import Mapping, Sequence
from dataclasses import dataclass, field
from typing import Any

from prediction_contract.printable_text import escape_unprintable

_NARROWEST = 8
_GAP = "  "
_CUT = "…"


@dataclass(frozen=True, slots=True, kw_only=True)
class Table:
    """A table of rows under column names.

    Attributes:
        columns: The members of a row to show, in order.
        rows: One mapping per row.
        title: The line above the table; empty for none.
        whole: Columns that are never cut, because people copy their values.
        empty: The text shown if there are no rows.
    """

    columns: Sequence[str]
    rows: Sequence[Mapping[str, Any]]
    title: str = ""
    whole: frozenset[str] = frozenset({"batch_id"})
    empty: str = "none"


@dataclass(frozen=True, slots=True, kw_only=True)
class Fields:
    """A document shown with one line per member."""

    members: Mapping[str, Any]
    title: str = ""


@dataclass(frozen=True, slots=True, kw_only=True)
class CommandResult:
    """A command's result.

    Attributes:
        document: The result in a stable form, for programs.
        sections: The result for people.
        ok: Whether the command succeeded; decides the exit status.
        notes: Remarks for people, each a line on standard error.
    """

    document: Mapping[str, Any]
    sections: Sequence[Table | Fields]
    ok: bool = True
    notes: Sequence[str] = field(default=())

    def to_json(self) -> str:
        """Return the document as JSON."""
        text = json.dumps(self.document, indent=1, ensure_ascii=False)
        # JSON already escapes line breaks within values, so the remaining ones are the document's own.
        return "\n".join(map(_escaped, text.split("\n")))

    def to_text(self, width: int | None) -> str:
        """Return the sections as text, at most `width` columns wide; None for no limit."""
        return "\n\n".join(filter(None, (_rendered(section, width) for section in self.sections)))


def _rendered(section: Table | Fields, width: int | None) -> str:
    lines = _table(section, width) if isinstance(section, Table) else _field_lines(section.members, width)
    return "\n".join(map(escape_unprintable, [section.title, *lines] if section.title else lines))


def _escaped(line: str) -> str:
    """Return an equal line of JSON in which unprintable characters are escaped."""
    return line if line.isprintable() else "".join(map(_json_character, line))


def _json_character(character: str) -> str:
    return character if character.isprintable() else json.dumps(character)[1:-1]


def _table(table: Table, width: int | None) -> list[str]:
    if not table.rows:
        return [table.empty]
    cells = [[shown(row.get(column)) for column in table.columns] for row in table.rows]
    widths = [max(map(len, column)) for column in zip(table.columns, *cells, strict=True)]
    if width is not None:
        fitting = _fitted(table, widths, width)
        if fitting is None:
            return _records(table, width)
        widths = fitting
    return [_line(line, widths) for line in (table.columns, *cells)]


def _fitted(table: Table, widths: list[int], width: int) -> list[int] | None:
    """Return column widths that fit, cutting the widest columns first; None if none fit."""
    fitting = list(widths)
    least = [
        natural if name in table.whole else min(natural, max(_NARROWEST, len(name)))
        for name, natural in zip(table.columns, widths, strict=True)
    ]
    excess = sum(fitting) + len(_GAP) * (len(fitting) - 1) - width
    while excess > 0:
        spare = max(range(len(fitting)), key=lambda at: (fitting[at] > least[at], fitting[at]))
        if fitting[spare] <= least[spare]:
            return None
        fitting[spare] -= 1
        excess -= 1
    return fitting


def _records(table: Table, width: int) -> list[str]:
    """Return a table that is too wide for the terminal as one block of lines per row."""
    blocks = [_field_lines({name: row.get(name) for name in table.columns}, width) for row in table.rows]
    return [line for block in blocks for line in (*block, "")][:-1]


def _field_lines(members: Mapping[str, Any], width: int | None) -> list[str]:
    longest = max(map(len, members), default=0)
    lines = []
    for name, value in members.items():
        text = shown(value)
        space = None if width is None else max(_NARROWEST, width - longest - len(_GAP))
        pieces = _pieces(text, space)
        lines.append(f"{name.ljust(longest)}{_GAP}{pieces[0]}".rstrip())
        lines += [f"{' ' * longest}{_GAP}{piece}" for piece in pieces[1:]]
    return lines


def _pieces(text: str, space: int | None) -> list[str]:
    """Wrap a text at spaces; a word that is too long stays whole."""
    if space is None or len(text) <= space:
        return [text]
    lines = [""]
    for word in text.split(" "):
        if lines[-1] and len(lines[-1]) + 1 + len(word) > space:
            lines.append(word)
        else:
            lines[-1] = f"{lines[-1]} {word}" if lines[-1] else word
    return lines


def _line(cells: Sequence[str], widths: Sequence[int]) -> str:
    shortened = (
        cell if len(cell) <= width else f"{cell[: width - 1]}{_CUT}"
        for cell, width in zip(cells, widths, strict=True)
    )
    return _GAP.join(cell.ljust(width) for cell, width in zip(shortened, widths, strict=True)).rstrip()


def shown(value: Any) -> str:
    """Return a value as one line of text without terminal control characters."""
    match value:
        case None:
            text = "-"
        case bool():
            text = "yes" if value else "no"
        case float():
            text = f"{value:.6g}"
        case str():
            text = value
        case Mapping():
            text = ", ".join(f"{shown(name)} {shown(member)}" for name, member in value.items()) or "-"
        case Sequence():
            text = ", ".join(map(shown, value)) or "-"
        case _:
            text = str(value)
    return escape_unprintable(text)
