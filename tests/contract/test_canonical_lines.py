"""Tests that the fast pattern and the parser read the same rows from lines."""

from __future__ import annotations

import json
from dataclasses import replace
from decimal import Decimal
from typing import Any

import pytest
from hypothesis import given
from hypothesis import strategies as st

from prediction_contract.errors import InvalidRowError
from prediction_contract.rows.prediction_line import prediction_line
from prediction_contract.rows.row_contract import RowContract
from prediction_contract.rows.schema import PredictionSchema
from prediction_contract.stores.online_item import OnlineItems
from prediction_contract.stores.online_item_text import OnlineItemTexts
from tests.contract.prediction_rows import FULL_SCHEMA, ROWS, column, json_text

BATCH = "20130201T060000Z-0123abcd"
# The pattern is not used for schemas with a column of nested values.
FLAT = PredictionSchema(tuple(one for one in FULL_SCHEMA.columns if one.name != "reasons"), FULL_SCHEMA.key)
CONTRACT = RowContract(FLAT)
STRICT = RowContract(replace(FLAT, columns=tuple(replace(one, nullable=False) for one in FLAT.columns)))
FLAT_ROWS = ROWS.map(lambda row: {name: row[name] for name in row if name != "reasons"})

# Texts that resemble a column's values but may be invalid.
_SPELLINGS = st.one_of(
    st.sampled_from(
        [
            "null",
            "true",
            "01",
            "-0",
            "-0.0",
            "0.50",
            "1.",
            "1e5",
            "1E+3",
            "1e400",
            "1e-400",
            "1e-131",
            "-",
            "+1",
        ]
    ),
    st.from_regex(r"-?[0-9]{1,40}(\.[0-9]{1,40})?([eE][+-]?[0-9]{1,4})?", fullmatch=True),
    st.from_regex(r'"[0-9]{4}-[0-9]{2}-[0-9]{2}"', fullmatch=True),
    st.from_regex(
        r'"20[0-9]{2}-(0[1-9]|1[0-3])-[0-3][0-9]T[0-2][0-9]:[0-6][0-9]:[0-6][0-9](\.[0-9]{1,7})?(Z|[+-]0[01]:00)"',
        fullmatch=True,
    ),
    st.text(max_size=12).map(lambda text: json.dumps(text, ensure_ascii=False)),
    st.text('ab"\\\x00\x1f\x7f é', max_size=5).map(lambda text: f'"{text}"'),
)
_SEPARATORS = st.sampled_from([",", ", ", ", ,", ",,", " ,", ""])


@st.composite
def written_lines(draw: st.DrawFn) -> bytes:
    """Draw lines that match, or nearly match, the spelling of a writer."""
    names = [name for name in sorted(FLAT.names) if name == "flight" or draw(st.booleans())]
    spelled = {
        name: draw(_SPELLINGS) if name != "flight" or draw(st.booleans()) else '"AA"' for name in names
    }
    colon = draw(st.sampled_from([":", ": ", " :"]))
    separators = [draw(_SEPARATORS) if draw(st.integers(0, 20)) == 0 else "," for _ in names]
    members = "".join(
        f'"{name}"{colon}{text}{separator}'
        for (name, text), separator in zip(spelled.items(), separators, strict=True)
    )
    checksum = draw(st.sampled_from(["", '"row_checksum":1', '"row_checksum":"1"']))
    text = f"{{{members}{checksum}}}" if checksum or draw(st.integers(0, 9)) == 0 else f"{{{members[:-1]}}}"
    return text.encode(errors="surrogatepass") + draw(
        st.sampled_from([b"\n", b"\r\n", b"", b" ", b"\n\n", b"x"])
    )


def outcome(read: Any, line: bytes) -> Any:
    """Return all parts of the row that a reader returns, or the reason of its refusal."""
    try:
        row = read(line)
    except InvalidRowError as error:
        return error.reason, error.column
    return row.key, row.canonical, row.checksum, row.values, row.texts


@given(written_lines())
@pytest.mark.parametrize("contract", [CONTRACT, STRICT], ids=["nullable", "required"])
def test_pattern_and_parser_agree(contract: RowContract, line: bytes) -> None:
    """Pattern and parser return the same row, or the same reason for refusal, for any line."""
    assert outcome(contract.accept, line) == outcome(contract._parsed, line)


@given(FLAT_ROWS)
def test_written_rows_are_read_alike(row: dict[str, Any]) -> None:
    """Pattern and parser return the same row for every line of the writer."""
    line = prediction_line(CONTRACT, json.loads(json_text(row), parse_float=float) | row).content
    assert outcome(CONTRACT.accept, line) == outcome(CONTRACT._parsed, line)


def test_written_line_matches_the_pattern() -> None:
    """A usual line is read by the fast pattern, even if values are missing."""
    values = {"flight": "AA é", "seats": 7, "fare": 1.5, "probability": 0.125, "late": True, "day": None}
    line = prediction_line(CONTRACT, dict.fromkeys(FLAT.names) | values).content
    assert CONTRACT._canonical_lines.read(line) is not None
    assert CONTRACT.accept(line).pieces is not None


@given(FLAT_ROWS)
def test_lines_in_schema_order_give_the_same_rows(row: dict[str, Any]) -> None:
    """Lines of earlier versions, in schema order and with nulls, give the same rows."""
    written = f"{json_text(dict.fromkeys(FLAT.names) | row)[:-1]},"
    now = RowContract(FLAT).accept(json_text(row).encode())
    earlier = f'{written}"row_checksum":{now.checksum}}}'.encode()
    assert CONTRACT._canonical_lines.read(earlier) is None
    assert outcome(CONTRACT.accept, earlier) == outcome(lambda _: now, b"")


def test_written_line_is_canonical_text_and_checksum() -> None:
    """A row has one written line, whatever the order and spelling of its values."""
    values = {"seats": 7, "flight": "AA", "fare": Decimal("1.50"), "departs": None, "probability": -0.0}
    line = prediction_line(CONTRACT, values)
    assert line.row is not None
    assert line.row.canonical == b'{"fare":1.5,"flight":"AA","probability":0.0,"seats":7}'
    stated = f',"row_checksum":{line.checksum}}}\n'.encode()
    assert line.content == line.row.canonical[:-1] + stated


@given(ROWS)
def test_item_text_matches_the_built_item(row: dict[str, Any]) -> None:
    """An item's text equals the built item, with nested, absent and empty values and all digits."""
    for schema, values in (
        (FULL_SCHEMA, row),
        (FLAT, {name: row[name] for name in row if name != "reasons"}),
    ):
        accepted = RowContract(schema).accept(json_text(values).encode())
        text = OnlineItemTexts(schema, BATCH, 1_900_000_000).text(accepted)
        assert json.loads(text) == OnlineItems(schema).build(accepted, BATCH, 1_900_000_000)


def test_percent_signs_in_values_are_kept() -> None:
    """Percent signs in values are not treated as placeholders."""
    contract = RowContract(
        PredictionSchema((column("id", "string", nullable=False), column("n", "string")), "id")
    )
    row = contract.accept(b'{"id":"%s","n":"100%d"}')
    assert row.canonical == b'{"id":"%s","n":"100%d"}'
    text = OnlineItemTexts(contract.schema, BATCH, 1).text(row)
    assert json.loads(text)["n"] == {"S": "100%d"}
