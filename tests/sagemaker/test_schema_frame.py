"""Tests that rows pass through DataFrames without rounding, lost or invented values."""

# pandas' own annotations call every column "Series | DataFrame".
# pyright: reportReturnType=false

from __future__ import annotations

import io
from datetime import UTC, date, datetime
from decimal import Decimal
from typing import TYPE_CHECKING, Any

import numpy as np
import pandas as pd
import pyarrow as pa
import pyarrow.parquet as pq
import pytest
from hypothesis import example, given, settings
from hypothesis import strategies as st

from prediction_batches.errors import PredictionsError
from prediction_batches.object_store import ObjectStore
from prediction_contract.jobs.model_inputs import ModelInputs
from prediction_contract.rows.row_contract import row_contract
from prediction_contract.text.canonical_json import parse_json
from sagemaker_scripts.batches.previous_batch import find_previous
from sagemaker_scripts.batches.previous_rows import previous_frame
from sagemaker_scripts.features.feature_store import feature_set
from sagemaker_scripts.functions.function_calls import ModelFunctions
from sagemaker_scripts.learning.outcomes import (
    OutcomesError,
    PreparedTables,
    ScoredPartition,
    predictions_of,
    with_known_outcomes,
)
from tests.batches.rows.row_reference import encoded
from tests.fakes.memory_s3 import MemoryS3
from tests.sagemaker.prepared_tables import prepared_of, write_feature_set
from tests.sagemaker.stored_batches import schema_of, write_batch

if TYPE_CHECKING:
    from prediction_batches.rows.encoded_rows import EncodedRows

MODEL, DAY, NEXT_DAY = "m", "2013-02-01", "2013-02-02"
BATCH, NEXT_BATCH = "20130201T060000Z-00000001", "20130202T060000Z-00000002"
TYPES = {
    "entity_id": "string",
    # The platform uses this name as well.
    "partition": "string",
    "count": "long",
    "wide": "decimal(38,0)",
    "exact": "decimal(38,19)",
    "share": "double",
    "flag": "boolean",
    "day": "date",
    "moment": "timestamp",
    "nested": "json",
}
SCHEMA = schema_of(TYPES, key="entity_id")
NOTHING: dict[str, Any] = dict.fromkeys(TYPES)
EDGES: list[dict[str, Any]] = [
    NOTHING | {"entity_id": "nothing"},
    {
        "entity_id": "high",
        "partition": "1999-01-01",
        "count": 1234567890123456789,
        "wide": Decimal(10**38 - 1),
        "exact": Decimal("1234567890123456789.1234567890123456789"),
        "share": 5e125,
        "flag": True,
        "day": date.max,
        "moment": datetime.max.replace(tzinfo=UTC),
        "nested": {"a": [None, True, Decimal(2**63 + 1), {"b": Decimal("0.10")}], "c": "NaT"},
    },
    NOTHING | {"entity_id": "low", "count": -(2**63), "day": date.min, "nested": [[1, 2], [3, 4]]},
    NOTHING | {"entity_id": "first moment", "moment": datetime.min.replace(tzinfo=UTC)},
]

_TEXTS = st.text(st.characters(exclude_categories=["Cs"], exclude_characters="\0"), max_size=9)
_NUMBERS = st.decimals(allow_nan=False, allow_infinity=False, places=3, min_value=-(10**9), max_value=10**9)
_JSON = st.recursive(
    st.none() | st.booleans() | st.integers(-(2**80), 2**80) | _NUMBERS | _TEXTS,
    lambda inner: st.lists(inner, max_size=3) | st.dictionaries(_TEXTS.filter(bool), inner, max_size=3),
    max_leaves=6,
)
_VALUES: dict[str, st.SearchStrategy[Any]] = {
    "partition": _TEXTS,
    "count": st.integers(-(2**63), 2**63 - 1),
    "wide": st.integers(-(10**38) + 1, 10**38 - 1).map(Decimal),
    "exact": st.integers(-(10**38) + 1, 10**38 - 1).map(lambda digits: Decimal(f"{digits}e-19")),
    "share": st.floats(-1e125, 1e125).filter(lambda value: value == 0 or abs(value) > 1e-129),
    "flag": st.booleans(),
    "day": st.dates(),
    "moment": st.datetimes(timezones=st.just(UTC)),
    "nested": _JSON,
}
_ROWS = st.lists(
    st.fixed_dictionaries(
        {"entity_id": _TEXTS.filter(bool), **{name: st.none() | values for name, values in _VALUES.items()}}
    ),
    min_size=1,
    max_size=6,
    unique_by=lambda row: row["entity_id"],
)


def unchanged(_features: pd.DataFrame, _artifact: Any, previous: pd.DataFrame | None) -> pd.DataFrame:
    """Return the previous batch as the prediction."""
    assert previous is not None
    assert previous.attrs["partition"] == DAY
    return previous[list(SCHEMA.names)]


def put_first_batch(store: ObjectStore, rows: list[dict[str, Any]]) -> EncodedRows:
    """Write a batch, and outcomes of all its entities into the next day's features."""
    frame = pd.DataFrame({name: pd.Series([row[name] for row in rows], dtype=object) for name in TYPES})
    written = encoded(SCHEMA, frame)
    assert written.refusals == {}
    manifest = write_batch(store, SCHEMA, rows, model=MODEL, partition=DAY, batch_id=BATCH)
    store.put(manifest.key, manifest.to_bytes())
    entities = pd.DataFrame({"entity_id": [row["entity_id"] for row in rows]})
    write_feature_set(
        store,
        prepared_of(entities, entities.assign(partition=DAY, seen=True)),
        model=MODEL,
        partition=NEXT_DAY,
        run_id="r",
        code_version="v",
    )
    return written


def next_rows(store: ObjectStore, predict: Any) -> EncodedRows:
    """Score the next day as the score job does, and return the rows that it delivers."""
    previous = find_previous(
        store, lambda *_: None, model=MODEL, partition=NEXT_DAY, lookback=1, batch_id=NEXT_BATCH
    )
    assert previous is not None
    found = feature_set(store, MODEL, NEXT_DAY)
    with pytest.MonkeyPatch.context() as patch:
        patch.setattr(ModelFunctions, "_function", lambda *_: predict)
        predictions = predictions_of(
            ModelFunctions(ModelInputs(model=MODEL, functions="acme.defs.m")),
            NEXT_DAY,
            PreparedTables(found.read_features(store), found.read_outcomes(store)),
            {},
            ScoredPartition(previous.manifest.partition, previous_frame(store, previous)),
        )
    return encoded(SCHEMA, predictions)


@settings(max_examples=15, deadline=None)
@example(EDGES)
@example([NOTHING | {"entity_id": "nothing at all"}])
@given(_ROWS)
def test_returned_previous_batch_is_delivered_unchanged(rows: list[dict[str, Any]]) -> None:
    """Rows of every type pass from the previous batch through `predict` unchanged, in JSON and Parquet."""
    store = ObjectStore(MemoryS3(), "mlpipe-data")
    first = put_first_batch(store, rows)
    again = next_rows(store, unchanged)
    assert again.checksums.tolist() == first.checksums.tolist()
    contract = row_contract(SCHEMA)
    assert [contract.accept(line).values for line in again.lines.to_pylist()] == rows
    file = io.BytesIO()
    pq.write_table(pa.table(again.columns), file)
    stored = pq.read_table(file, columns=list(TYPES)).to_pylist()
    for row in stored:
        row["nested"] = None if row["nested"] is None else parse_json(row["nested"].encode())
    assert stored == rows


_FLOATS: dict[str, Any] = {
    "float16": lambda numbers: np.array(numbers, dtype="float64").astype("float16"),
    "float32": lambda numbers: np.array(numbers, dtype="float32"),
    "float64": lambda numbers: np.array(numbers, dtype="float64"),
    "Float32": lambda numbers: pd.array(np.array(numbers, dtype="float32"), dtype="Float32"),
    "scalars": lambda numbers: pd.Series([np.float32(number) for number in numbers], dtype=object),
}
_BOUNDS = {"float16": 2**11, "float64": 2**53}


@settings(max_examples=60, deadline=None)
@example([16777217], "float32")
@example([16777217], "Float32")
@example([1, float("inf")], "float32")
@given(
    st.lists(
        st.integers(-(2**12), 2**12) | st.integers(-(2**54), 2**54) | st.sampled_from([np.inf, -np.inf]),
        min_size=1,
        max_size=4,
    ),
    st.sampled_from(sorted(_FLOATS)),
)
def test_float_for_long_column_is_exact_or_refused(numbers: list[Any], kind: str) -> None:
    """The job fails if a float may have lost digits, an infinity refuses its row, other rows are exact."""
    with np.errstate(over="ignore"):
        counts = _FLOATS[kind](numbers)
    rows = pd.DataFrame({"entity_id": [str(place) for place in range(len(numbers))]})
    rows = rows.assign(**{name: None for name in TYPES if name not in {"entity_id", "count"}}, count=counts)
    finite = [abs(number) for number in map(float, counts) if np.isfinite(number)]
    if max(finite, default=0) >= _BOUNDS.get(kind, 2**24):
        with pytest.raises(PredictionsError, match="may have lost digits"):
            encoded(SCHEMA, rows)
        return
    found = encoded(SCHEMA, rows)
    for place, (number, count) in enumerate(zip(numbers, counts, strict=True)):
        if np.isfinite(float(count)):
            assert row_contract(SCHEMA).accept(found.lines[place].as_py()).values["count"] == number
        else:
            assert found.refusals[place].reason == "not_a_number"


@pytest.mark.parametrize(
    "wrong",
    [
        lambda share: share - share + float("nan"),
        lambda share: (share - share) / (share - share),
        lambda share: (share * 0).astype("float64") / 0.0,
    ],
)
def test_computed_nan_is_not_null(wrong: Any) -> None:
    """A computed NaN refuses its row, although nulls in the same column are accepted."""
    store = ObjectStore(MemoryS3(), "mlpipe-data")
    put_first_batch(store, [NOTHING | {"entity_id": "a", "share": 1.5}, NOTHING | {"entity_id": "b"}])

    def predict(*given: Any) -> pd.DataFrame:
        rows = unchanged(*given)
        return rows.assign(share=wrong(rows["share"]).where(rows["entity_id"] == "a", rows["share"]))

    refusals = next_rows(store, predict).refusals
    assert {place: refusal.reason for place, refusal in refusals.items()} == {0: "not_a_number"}


def test_outcome_named_like_prediction_is_refused() -> None:
    """The join in pandas would rename both columns, and `predict` would find neither."""
    rows = pd.DataFrame({"entity_id": ["a"], "minutes": [1]})
    with pytest.raises(OutcomesError, match=r"minutes.*Rename these columns"):
        with_known_outcomes(ScoredPartition(DAY, rows), pa.Table.from_pandas(rows.assign(partition=DAY)))
