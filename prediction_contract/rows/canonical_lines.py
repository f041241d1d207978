"""A fast reader of canonical lines, which uses one regular expression instead of a JSON parser.

Parsing JSON, checking each value and writing it again is most of the cost of a load. If the members of a line
are in name order and each value is simple, the pieces of the line are already canonical. All other lines are
parsed, for example lines of earlier releases, which are in schema order. This module affects speed only: both
ways give the same row, which a test checks.
"""

from __future__ import annotations

import re
from json.encoder import encode_basestring
from typing import TYPE_CHECKING, TypeAlias

from prediction_contract.limits import (
    DOUBLE_BEYOND_LARGEST,
    MAX_PARTITION_KEY_BYTES,
    SMALLEST_DOUBLE,
)
from prediction_contract.rows.schema import Kind

if TYPE_CHECKING:
    from collections.abc import Callable, Iterable, Sequence

    from prediction_contract.rows.schema import Column, PredictionSchema

# The key; for each column in name order the canonical text without quotation marks, or None for no value; the
# row's canonical JSON; the checksum in the line, or None if it has none.
CanonicalLine: TypeAlias = "tuple[str, list[str | None], str, str | None]"

# The text before and after a piece in canonical JSON, by kind.
QUOTES: dict[Kind, str] = dict.fromkeys((Kind.STRING, Kind.DATE, Kind.TIMESTAMP), '"')

# A line of this length always fits into an item.
_LONGEST_LINE = 64 * 1024
# A character has at most four bytes, so a key of this length fits every store.
_KEY_CHARACTERS = MAX_PARTITION_KEY_BYTES // 4
# The cached combinations of empty columns. The templates of further combinations are not cached.
_MAX_TEMPLATES = 256
# A text without escapes, quotation marks and control characters is its own canonical JSON.
_CHARACTERS = r'[^"\\\x00-\x1f]'
# Eighteen digits are below 2^63.
_LONG = "(0|-?[1-9][0-9]{0,17})"
# Fewer than 38 digits, and more than the 17 that a double needs.
_DOUBLE = "(-?(?:0|[1-9][0-9]{0,16})(?:[.][0-9]{1,20})?(?:[eE][+-]?[0-9]{1,3})?)"
# Days that exist in every year. Other days are left to the parser.
_DAY = (
    "(?!0000)[0-9]{4}-(?:(?:0[13578]|1[02])-(?:0[1-9]|[12][0-9]|3[01])"
    "|(?:0[469]|11)-(?:0[1-9]|[12][0-9]|30)|02-(?:0[1-9]|1[0-9]|2[0-8]))"
)
_TIME = "(?:[01][0-9]|2[0-3]):[0-5][0-9]:[0-5][0-9](?:[.][0-9]{6})?"
_WHOLE_SECONDS = len("2013-02-01T06:00:00")
# Marks a placeholder while the text of a template is escaped.
_HOLE = "\0"


class CanonicalLineReader:
    """Reads the canonical lines of one schema."""

    def __init__(self, schema: PredictionSchema) -> None:
        columns = sorted(schema.columns, key=lambda column: column.name)
        members = "".join(_member(column, is_key=column.name == schema.key) for column in columns)
        checksum = r'(?:"row_checksum": ?(-?[1-9][0-9]{0,18}))?'
        # No value ends with a comma or a space, so a member's separator is never the last.
        self._pattern = re.compile(rf"\{{{members}{checksum}(?<![, {{])\}}\r?\n?")
        self._key = [column.name for column in columns].index(schema.key)
        self._spellers = [
            (place, _SPELLERS[column.type.kind])
            for place, column in enumerate(columns)
            if column.type.kind in _SPELLERS
        ]
        self._template = RowTemplate(
            (f"{encode_basestring(column.name)}:{(quote := QUOTES.get(column.type.kind, ''))}", quote)
            for column in columns
        )
        self._has_json = any(column.type.kind is Kind.JSON for column in columns)

    def read(self, line: bytes) -> CanonicalLine | None:
        """Return the row of a line, or None if the line must be parsed."""
        if self._has_json or len(line) > _LONGEST_LINE:
            return None
        try:
            found = self._pattern.fullmatch(line.decode())
            if found is None:
                return None
            *pieces, checksum = found.groups()
            for place, spell in self._spellers:
                text = pieces[place]
                if text is not None:
                    pieces[place] = spell(text)
        except ValueError:
            # The line is not UTF-8 or has an unusual double. The parser decides and explains.
            return None
        return pieces[self._key], pieces, self._template.fill(pieces), checksum


class RowTemplate:
    """Builds rows as JSON text from pieces, the texts of values without quotation marks.

    Args:
        members: The text before and after the value of each column.
        first: The text before all members. If it has other members, it ends with a comma.
        last: The text after all members.
    """

    def __init__(self, members: Iterable[tuple[str, str]], first: str = "{", last: str = "}") -> None:
        self._members = list(members)
        self._first = first
        self._last = last
        self._made: dict[tuple[int, ...], str] = {}
        self._whole = self._text(())

    def fill(self, pieces: Sequence[str | int | None]) -> str:
        """Return a row's text from one piece per member. A member whose piece is None is left out."""
        if None not in pieces:
            return self._whole % tuple(pieces)
        missing = tuple([place for place, piece in enumerate(pieces) if piece is None])
        text = self._made.get(missing)
        if text is None:
            text = self._text(missing)
            if len(self._made) < _MAX_TEMPLATES:
                self._made[missing] = text
        return text % tuple([piece for piece in pieces if piece is not None])

    def _text(self, missing: tuple[int, ...]) -> str:
        kept = [member for place, member in enumerate(self._members) if place not in missing]
        text = ",".join(f"{before}{_HOLE}{after}" for before, after in kept)
        return f"{self._first}{text}{self._last}".replace("%", "%%").replace(_HOLE, "%s")


def _member(column: Column, *, is_key: bool) -> str:
    name = f"{encode_basestring(column.name)}: ?"
    if is_key:
        return f'{name}"({_CHARACTERS}{{1,{_KEY_CHARACTERS}}}+)"(?:, ?|(?=\\}}))'
    value = _value(column)
    if column.nullable:
        return f"(?:{name}(?:null|{value})(?:, ?|(?=\\}})))?+"
    return f"{name}{value}(?:, ?|(?=\\}}))"


def _value(column: Column) -> str:
    kind = column.type.kind
    if kind is Kind.DECIMAL:
        scale, whole_digits = column.type.scale, column.type.precision - column.type.scale
        whole = f"(?:0|[1-9][0-9]{{0,{whole_digits - 1}}})" if whole_digits else "0"
        fraction = f"(?:[.][0-9]{{1,{scale}}})?" if scale else ""
        return f"(-?{whole}{fraction})"
    return {
        Kind.STRING: f'"({_CHARACTERS}*+)"',
        Kind.LONG: _LONG,
        Kind.DOUBLE: _DOUBLE,
        Kind.BOOLEAN: "(true|false)",
        Kind.DATE: f'"({_DAY})"',
        Kind.TIMESTAMP: f'"({_DAY}T{_TIME})(?:Z|[+]00:00)"',
        Kind.JSON: "()",
    }[kind]


def _decimal_text(text: str) -> str:
    if "." in text:
        text = text.rstrip("0").rstrip(".")
    return "0" if text == "-0" else text


def _double_text(text: str) -> str:
    number = float(text)
    if SMALLEST_DOUBLE <= abs(number) < DOUBLE_BEYOND_LARGEST:
        return repr(number)
    if text in {"0", "0.0"}:
        return "0.0"
    raise ValueError(text)


def _timestamp_text(text: str) -> str:
    return f"{text}.000000Z" if len(text) == _WHOLE_SECONDS else f"{text}Z"


# Functions that make a piece canonical. Pieces of other kinds are canonical already.
_SPELLERS: dict[Kind, Callable[[str], str]] = {
    Kind.DECIMAL: _decimal_text,
    Kind.DOUBLE: _double_text,
    Kind.TIMESTAMP: _timestamp_text,
}
