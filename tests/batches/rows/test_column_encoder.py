"""Rows that are encoded by columns equal rows that are written one at a time."""

from __future__ import annotations

import random
from collections import Counter

import pandas as pd
import pytest

from prediction_batches.rows.column_encoder import ColumnEncoder
from prediction_batches.rows.given_rows import given_rows
from tests.batches.rows.random_columns import random_values
from tests.batches.rows.row_reference import check_equal, encoded, schema_of

# The key is in the middle of the sorted names, and the schema is not sorted.
TYPES = {
    "z_text": "string",
    "m_key": "string",
    "n_long": "long",
    "a_long": "long",
    "d_double": "double",
    "x_double": "double",
    "e_small": "decimal(7,2)",
    "f_tiny": "decimal(38,38)",
    "g_wide": "decimal(38,0)",
    "h_mid": "decimal(20,10)",
    "i_flag": "boolean",
    "p_day": "date",
    "q_moment": "timestamp",
    "r_moment": "timestamp",
    "s_nested": "json",
    "b_text": "string",
}
REQUIRED = frozenset({"a_long", "x_double", "g_wide", "q_moment", "b_text"})
SCHEMA = schema_of(TYPES, "m_key", required=REQUIRED)


def random_frame(seed: int, rows: int, *, ugly: float) -> pd.DataFrame:
    """Return random rows as Python objects."""
    rng = random.Random(seed)
    columns = {
        column.name: random_values(column, rows, rng, ugly=ugly, null=0.2 if column.nullable else 0.001)
        for column in SCHEMA.columns
    }
    return pd.DataFrame({name: pd.Series(values, dtype=object) for name, values in columns.items()})


@pytest.mark.parametrize("seed", range(4))
@pytest.mark.parametrize("ugly", [0.0, 0.002, 0.02, 0.2])
def test_encoded_rows_equal_rows_written_one_at_a_time(seed: int, ugly: float) -> None:
    """Lines, checksums, verdicts and Delta values match for good rows and for rows that no store can hold."""
    lines = check_equal(SCHEMA, random_frame(seed, 1500, ugly=ugly))
    verdicts = Counter(line.refusal for line in lines)
    assert verdicts[None]
    assert ugly < 0.1 or verdicts.keys() >= {
        None,
        "not_a_number",
        "number_too_long",
        "null_not_allowed",
        "nul_character",
        "too_deep",
        "unparsable",
        "empty_name",
    }


@pytest.mark.parametrize("ugly", [0.0, 0.02, 0.2])
def test_stored_checksums_identify_accepted_rows(ugly: float) -> None:
    """A data file's checksums show which of its rows were refused."""
    encoder = ColumnEncoder(SCHEMA)
    found = encoder.encode(given_rows(SCHEMA, random_frame(7, 3000, ugly=ugly)))
    proven = encoder.accepted(found.columns, found.checksums)
    assert {place for place in range(len(found)) if not proven[place]} == found.refusals.keys()


def test_read_back_separates_accepted_from_refused_rows() -> None:
    """Rows read back are accepted only if their line was, even where a refused row has a valid spelling."""
    schema = schema_of({"key": "string", "words": "string", "z_nested": "json"}, "key")
    keys = ["a", "", "k" * 2049, "b", "c", "d", "e" * 2048]
    words = ["x", "x", "x", "w" * 420_000, None, "w" * 66_000, "\0"]
    nested = pd.Series([{"n": 1.5}, [], 1, 2, 3, None, "z"], dtype=object)
    rows = encoded(schema, pd.DataFrame({"key": keys, "words": words, "z_nested": nested}))
    assert sorted(rows.refusals) == [1, 2, 3, 6]
    encoder = ColumnEncoder(schema)
    assert encoder.accepted(rows.columns, rows.checksums).tolist() == [
        place not in rows.refusals for place in range(7)
    ]
    assert not encoder.accepted(rows.columns, rows.checksums + 1).any()
