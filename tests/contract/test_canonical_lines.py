"""Reading rows by a pattern changes nothing but the speed."""

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
# A column of nested values keeps the pattern away.
FLAT = PredictionSchema(tuple(one for one in FULL_SCHEMA.columns if one.name != "reasons"), FULL_SCHEMA.key)
CONTRACT = RowContract(FLAT)
STRICT = RowContract(replace(FLAT, columns=tuple(replace(one, nullable=False) for one in FLAT.columns)))
FLAT_ROWS = ROWS.map(lambda row: {name: row[name] for name in row if name != "reasons"})

# Texts that look like a column's values and may be none.
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
    """Return lines that are nearly, or wholly, as a writer spells them."""
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
    """Return all that a reader says of a line."""
    try:
        row = read(line)
    except InvalidRowError as error:
        return error.reason, error.column
    return row.key, row.canonical, row.checksum, row.values, row.texts


@given(written_lines())
@pytest.mark.parametrize("contract", [CONTRACT, STRICT], ids=["nullable", "required"])
def test_pattern_and_parser_agree(contract: RowContract, line: bytes) -> None:
    """Whatever a line holds: the same row, or the same reason to refuse it."""
    assert outcome(contract.accept, line) == outcome(contract._parsed, line)


@given(FLAT_ROWS)
def test_our_writers_rows_are_parsed_alike(row: dict[str, Any]) -> None:
    """Every storable value, with the checksum that the writer states: the same row in all its parts."""
    line = prediction_line(CONTRACT, json.loads(json_text(row), parse_float=float) | row).content
    assert outcome(CONTRACT.accept, line) == outcome(CONTRACT._parsed, line)


def test_a_written_line_matches_the_pattern() -> None:
    """The usual line does go the fast way, with values missing too."""
    values = {"flight": "AA é", "seats": 7, "fare": 1.5, "probability": 0.125, "late": True, "day": None}
    line = prediction_line(CONTRACT, dict.fromkeys(FLAT.names) | values).content
    assert CONTRACT._canonical_lines.read(line) is not None
    assert CONTRACT.accept(line).pieces is not None


@given(FLAT_ROWS)
def test_lines_in_the_schemas_order_are_the_same_rows(row: dict[str, Any]) -> None:
    """Batches of earlier versions are written so, with nulls and values as they came."""
    written = f"{json_text(dict.fromkeys(FLAT.names) | row)[:-1]},"
    now = RowContract(FLAT).accept(json_text(row).encode())
    earlier = f'{written}"row_checksum":{now.checksum}}}'.encode()
    assert CONTRACT._canonical_lines.read(earlier) is None
    assert outcome(CONTRACT.accept, earlier) == outcome(lambda _: now, b"")


def test_a_written_line_is_the_rows_canonical_text_and_its_checksum() -> None:
    """Whatever order and spelling the values came in, there is one line of a row."""
    values = {"seats": 7, "flight": "AA", "fare": Decimal("1.50"), "departs": None, "probability": -0.0}
    line = prediction_line(CONTRACT, values)
    assert line.row is not None
    assert line.row.canonical == b'{"fare":1.5,"flight":"AA","probability":0.0,"seats":7}'
    stated = f',"row_checksum":{line.checksum}}}\n'.encode()
    assert line.content == line.row.canonical[:-1] + stated


@given(ROWS)
def test_an_item_is_written_as_it_is_built(row: dict[str, Any]) -> None:
    """The text of an item is that of the item: nested, absent and empty values, and every number's digits."""
    for schema, values in (
        (FULL_SCHEMA, row),
        (FLAT, {name: row[name] for name in row if name != "reasons"}),
    ):
        accepted = RowContract(schema).accept(json_text(values).encode())
        text = OnlineItemTexts(schema, BATCH, 1_900_000_000).text(accepted)
        assert json.loads(text) == OnlineItems(schema).build(accepted, BATCH, 1_900_000_000)


def test_names_and_values_with_percent_signs_stay_as_they_are() -> None:
    """What looks like a placeholder is none."""
    contract = RowContract(
        PredictionSchema((column("id", "string", nullable=False), column("n", "string")), "id")
    )
    row = contract.accept(b'{"id":"%s","n":"100%d"}')
    assert row.canonical == b'{"id":"%s","n":"100%d"}'
    text = OnlineItemTexts(contract.schema, BATCH, 1).text(row)
    assert json.loads(text)["n"] == {"S": "100%d"}
