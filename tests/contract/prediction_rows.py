"""Hypothesis strategies for rows of every column type, as the JSON lines of a batch."""

from __future__ import annotations

import json
from datetime import UTC, datetime
from decimal import Decimal

from hypothesis import strategies as st

from prediction_contract.rows.schema import Column, ColumnType, PredictionSchema


def column(name: str, kind: str, *, nullable: bool = True) -> Column:
    """Return a column whose type is written as in a manifest."""
    return Column(name, ColumnType.parse(kind), nullable)


FULL_SCHEMA = PredictionSchema(
    (
        column("flight", "string", nullable=False),
        column("carrier", "string"),
        column("seats", "long"),
        column("fare", "decimal(38,10)"),
        column("serial", "decimal(38,0)"),
        column("probability", "double"),
        column("late", "boolean"),
        column("day", "date"),
        column("departs", "timestamp"),
        column("reasons", "json"),
    ),
    "flight",
)

_CHARACTERS = st.characters(exclude_categories=["Cs"], exclude_characters="\0")
TEXTS = st.text(_CHARACTERS, max_size=40)
KEYS = st.text(_CHARACTERS, min_size=1, max_size=60)
LONGS = st.integers(-(2**63), 2**63 - 1)
SERIALS = st.integers(-(10**38) + 1, 10**38 - 1)
FARES = SERIALS.map(
    lambda digits: Decimal(digits).scaleb(-10) if abs(digits) < 10**28 else Decimal(digits % 10**28)
)
DOUBLES = st.floats(allow_nan=False, allow_infinity=False, allow_subnormal=False).filter(
    lambda number: number == 0 or 1e-130 <= abs(number) < 1e126
)
STORABLE = st.one_of(
    LONGS,
    SERIALS,
    st.builds(
        lambda digits, exponent: Decimal(f"{digits}E{exponent}"),
        st.integers(1, 10**9),
        st.integers(-130, 110),
    ),
)
NESTED = st.recursive(
    st.one_of(st.none(), st.booleans(), STORABLE, TEXTS),
    lambda inner: st.one_of(
        st.lists(inner, max_size=3), st.dictionaries(TEXTS.filter(bool), inner, max_size=3)
    ),
    max_leaves=8,
)


def json_text(value: object) -> str:
    """Return a value as JSON, decimals with all their digits."""
    if isinstance(value, Decimal):
        return str(value)
    if isinstance(value, dict):
        return f"{{{','.join(f'{json.dumps(name)}:{json_text(member)}' for name, member in value.items())}}}"
    if isinstance(value, list):
        return f"[{','.join(map(json_text, value))}]"
    return json.dumps(value)


def _iso_text(moment: datetime) -> str:
    return moment.isoformat()


ROWS = st.fixed_dictionaries(
    {"flight": KEYS},
    optional={
        "carrier": st.none() | TEXTS,
        "seats": st.none() | LONGS,
        "fare": st.none() | FARES,
        "serial": SERIALS,
        "probability": st.none() | DOUBLES,
        "late": st.none() | st.booleans(),
        "day": st.dates().map(str),
        "departs": st.datetimes(timezones=st.just(UTC)).map(_iso_text),
        "reasons": NESTED,
    },
)
