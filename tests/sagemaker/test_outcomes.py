"""Tests of joining outcomes with rows, and of the previous batch that `predict` receives."""

# pandas' own annotations call every column "Series | DataFrame".
# pyright: reportGeneralTypeIssues=false

from __future__ import annotations

import json
from datetime import date
from decimal import Decimal
from typing import TYPE_CHECKING, Any

import pandas as pd
import pyarrow as pa
import pytest

from prediction_contract.cleaning.cleaning_rules import NO_CLEANING
from prediction_contract.rows.row_contract import row_contract
from prediction_contract.rows.schema import PredictionSchema
from sagemaker_scripts.batches.schema_frame import entity_frame
from sagemaker_scripts.learning.outcomes import (
    OutcomesError,
    PreparedTables,
    ScoredPartition,
    joined_tables,
    newest_outcomes,
    predictions_of,
    with_known_outcomes,
    with_outcomes,
)
from tests.sagemaker.written_functions import function_writer

if TYPE_CHECKING:
    from collections.abc import Callable
    from pathlib import Path

    from sagemaker_scripts.functions.function_calls import ModelFunctions

SCHEMA = PredictionSchema.from_document(
    {
        "key": "entity",
        "columns": [
            {"name": "entity", "type": "string", "nullable": False},
            {"name": "count", "type": "long", "nullable": True},
            {"name": "cost", "type": "decimal(10,2)", "nullable": True},
            {"name": "day", "type": "date", "nullable": True},
            {"name": "more", "type": "json", "nullable": True},
        ],
    }
)
ROWS: list[dict[str, Any]] = [
    {"entity": "a", "count": 2**53 + 1, "cost": 1.5, "day": "2013-02-01", "more": {"x": [1]}},
    {"entity": "b", "count": None, "cost": None, "day": None, "more": None},
    {"entity": "c", "count": 3, "cost": 2, "day": "2013-02-03", "more": "text"},
]
NO_OUTCOMES = pa.table({"partition": pa.nulls(0), "entity_id": pa.nulls(0), "late": pa.nulls(0)})


def scored() -> ScoredPartition:
    """Return a batch of three rows as a job reads it."""
    accept = row_contract(SCHEMA).accept
    lines = [json.dumps(row).encode() for row in ROWS]
    frame = entity_frame(SCHEMA, NO_CLEANING, [(line, accept(line)) for line in lines])
    return ScoredPartition("2013-02-01", frame)


def outcomes(**late: int) -> pa.Table:
    """Return outcomes of entities for the batch's partition, and one for the day before."""
    return pa.table(
        {
            "partition": ["2013-01-31", *["2013-02-01"] * len(late)],
            "entity_id": ["a", *late],
            "late": [99, *late.values()],
        }
    )


@pytest.fixture
def write(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> Callable[..., ModelFunctions]:
    """Return a function that writes a model's functions."""
    return function_writer(tmp_path, monkeypatch)


def test_join_with_outcomes_keeps_row_order_and_types() -> None:
    """Joined rows keep order and values; rows without an outcome are left out."""
    rows = pa.table({"entity_id": ["c", "x", "a"], "list": [[1], [], None], "number": [2**53 + 1, None, 1]})
    found = with_outcomes(rows, outcomes(a=5, c=7), "2013-02-01")
    assert found.to_pylist() == [
        {"entity_id": "c", "list": [1], "number": 2**53 + 1, "late": 7},
        {"entity_id": "a", "list": None, "number": 1, "late": 5},
    ]
    nothing = with_outcomes(rows, NO_OUTCOMES, "2013-02-01")
    assert (nothing.num_rows, nothing.column_names) == (0, ["entity_id", "list", "number", "late"])


def test_latest_outcome_wins() -> None:
    """An entity's outcome comes from the last table that has it."""
    tables = [
        NO_OUTCOMES,
        pa.table({"partition": ["d", "d"], "entity_id": ["a", "b"], "late": [1, 2]}),
        pa.table({"partition": ["d", "d"], "entity_id": ["b", "c"], "late": [3.5, 4]}),
    ]
    found = newest_outcomes(tables)
    assert dict(zip(found["entity_id"].to_pylist(), found["late"].to_pylist(), strict=True)) == {
        "a": 1,
        "b": 3.5,
        "c": 4,
    }


def test_conflicting_column_types_are_named() -> None:
    """A column with numbers in one table and text in another is refused by name."""
    with pytest.raises(
        OutcomesError, match="The features have columns of several types: x is int64 and string"
    ):
        joined_tables([pa.table({"x": [1]}), pa.table({"x": ["a"]})], "The features")


def test_pandas_previous_batch_has_schema_types() -> None:
    """The DataFrame has the schema's types, and the partition is an attribute, not a column."""
    found = with_known_outcomes(scored(), outcomes(a=5, c=7))
    assert found.attrs["partition"] == "2013-02-01"
    assert list(found["entity_id"]) == ["a", "c"]
    assert list(found["late"]) == [5, 7]
    assert [str(found[name].dtype) for name in ("count", "cost", "late")] == [
        "Int64",
        "decimal128(10, 2)[pyarrow]",
        "Int64",
    ]
    assert found["more"][0] == {"x": [1]}


REPORTED = """
def predict(features, model, previous):
    model.append(previous)
    return features.{select}
"""


@pytest.mark.parametrize(
    ("tables", "select", "rows_of"),
    [
        ("polars", "select('entity_id')", lambda table: table.to_dicts()),
        ("arrow", "select(['entity_id'])", lambda table: table.to_pylist()),
    ],
)
def test_polars_and_arrow_get_previous_batch_as_native_table(
    write: Callable[..., ModelFunctions], tables: str, select: str, rows_of: Callable[[Any], Any]
) -> None:
    """The partition is in a column previous_partition, and JSON stays text."""
    functions = write(tables=tables, predict=REPORTED.format(select=select))
    features = pa.table({"entity_id": ["a"], "partition": ["2013-02-02"]})
    given: list[Any] = []
    prepared = PreparedTables(features, outcomes(a=5))
    predictions_of(functions, "2013-02-02", prepared, given, None)
    predictions_of(functions, "2013-02-02", prepared, given, scored())
    assert given[0] is None
    assert rows_of(given[1]) == [
        {
            "entity_id": "a",
            "count": 2**53 + 1,
            "cost": Decimal("1.50"),
            "day": date(2013, 2, 1),
            "more": '{"x":[1]}',
            "late": 5,
            "previous_partition": "2013-02-01",
        }
    ]


@pytest.mark.parametrize("tables", ["pandas", "polars", "arrow"])
@pytest.mark.parametrize(("whole", "entities"), [(False, ["c", "a"]), (True, ["a", "b", "c"])])
def test_predict_gets_previous_rows_of_its_entities_unless_whole(
    write: Callable[..., ModelFunctions], tables: str, whole: bool, entities: list[str]
) -> None:
    """Previous rows come in the order of the features, or all of them for a whole model."""
    select = "[['entity_id']]" if tables == "pandas" else "select(['entity_id'])"
    body = REPORTED.format(select=select).replace("features.[", "features[")
    functions = write(tables=tables, whole=whole, predict=body)
    given: list[Any] = []
    features = pa.table({"entity_id": ["c", "new", "a"]})
    predictions_of(functions, "2013-02-02", PreparedTables(features, None), given, scored())
    found = given[0]["entity_id"]
    assert (found.to_pylist() if tables == "arrow" else list(found)) == entities
    # There are no outcomes.
    assert "late" not in (given[0].column_names if tables == "arrow" else list(given[0].columns))
    if tables == "pandas":
        counts = {"a": 2**53 + 1, "b": pd.NA, "c": 3}
        assert list(given[0]["count"]) == [counts[entity] for entity in entities]
        assert list(given[0].index) == list(range(len(entities)))


@pytest.mark.parametrize(("whole", "entities"), [(False, []), (True, ["b"])])
def test_previous_batch_without_matching_entities_is_a_table(
    write: Callable[..., ModelFunctions], whole: bool, entities: list[str]
) -> None:
    """Without matching entities, predict gets no rows, or all known ones if whole, but never None."""
    functions = write(whole=whole, predict=REPORTED.format(select="copy()"))
    given: list[Any] = []
    features = PreparedTables(pa.table({"entity_id": ["new"]}), outcomes(b=1))
    predictions_of(functions, "2013-02-02", features, given, scored())
    assert list(given[0]["entity_id"]) == entities
    assert [str(given[0][name].dtype) for name in ("count", "late")] == ["Int64", "Int64"]


def test_outcome_column_named_like_row_column_is_refused() -> None:
    """A column that occurs in rows and outcomes is refused, because pandas would rename both."""
    taken = pa.table({"partition": ["2013-02-01"], "entity_id": ["a"], "cost": [1]})
    for join in (
        lambda: with_known_outcomes(scored(), taken),
        lambda: with_outcomes(pa.table({"entity_id": ["a"], "cost": [2]}), taken, "2013-02-01"),
    ):
        with pytest.raises(OutcomesError, match=r"joined with: cost\. Rename these columns"):
            join()


def test_prediction_column_named_previous_partition_is_refused(
    write: Callable[..., ModelFunctions],
) -> None:
    """A predicted column must not have the name that the platform adds for Polars and Arrow."""
    functions = write(tables="polars", predict=REPORTED.format(select="select('entity_id')"))
    batch = ScoredPartition("d", pd.DataFrame({"entity_id": ["a"], "previous_partition": ["x"]}))
    features = PreparedTables(pa.table({"entity_id": ["a"]}), None)
    with pytest.raises(OutcomesError, match="previous_partition; the platform adds this column"):
        predictions_of(functions, "d2", features, [], batch)
