"""Tests of features that were prepared elsewhere: a source's rows as they are, by the name of their key."""

from __future__ import annotations

from dataclasses import replace
from decimal import Decimal
from typing import TYPE_CHECKING, Any

import pyarrow as pa
import pytest

from prediction_contract.jobs.job_arguments import FeatureArguments
from prediction_contract.jobs.model_inputs import InvalidInputsError, ModelInputs
from sagemaker_scripts.features.feature_store import feature_set
from sagemaker_scripts.functions.entity_rows import EntityRowsError
from sagemaker_scripts.prepare_features import prepare
from tests.sagemaker.sources.source_reading import DAY, bucket, file_of, orders
from tests.sagemaker.written_functions import function_writer

if TYPE_CHECKING:
    from pathlib import Path

    from prediction_batches.object_store import ObjectStore
    from sagemaker_scripts.features.feature_store import FeatureSet

KEY = f"raw/orders/dt={DAY}/a.parquet"
SCHEMA = pa.schema({"customer_id": pa.int64(), "visits": pa.int64(), "spent": pa.decimal128(20, 2)})
ROWS = [
    {"customer_id": 2**53 + 1, "visits": None, "spent": Decimal("1.10")},
    {"customer_id": 7, "visits": 2**53 + 1, "spent": None},
]
INPUTS = ModelInputs(
    model="churn",
    functions="acme.defs.churn",
    sources=(orders(columns=()),),
    prepared="orders",
    entity="customer_id",
)


def prepared(store: ObjectStore, inputs: ModelInputs = INPUTS) -> FeatureSet:
    """Run the features job of a day, and return the features as scoring finds them."""
    key, content = inputs.to_document()
    store.put(key, content)
    arguments = FeatureArguments(
        model="churn", partition=DAY, bucket="data", run_id="r", code_version="v", inputs_key=key
    )
    (written,) = prepare(arguments, store)
    assert feature_set(store, "churn", DAY) == written
    return written


def rows_of(*rows: dict[str, Any]) -> ObjectStore:
    """Return a bucket with a day's file."""
    return bucket(**{KEY: file_of(list(rows), "parquet", SCHEMA)})


def test_rows_are_features_as_they_are() -> None:
    """No function is called, the key is a text, and neither other values nor the file are changed."""
    store = rows_of(*ROWS)
    before = store.get(KEY)
    found = prepared(store)
    assert found.read_features(store).to_pylist() == [
        {
            "entity_id": str(row["customer_id"]),
            **{name: row[name] for name in ("visits", "spent")},
            "partition": DAY,
        }
        for row in ROWS
    ]
    assert (found.rows, found.outcomes) == (2, None)
    assert store.get(KEY) == before


def test_a_history_serves_the_outcomes_alone(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    """The features are the partition's own rows; outcomes see the earlier ones as well."""
    write = function_writer(tmp_path, monkeypatch)
    functions = write(
        outcomes="""
        def outcomes(partition, orders):
            before = orders[orders["partition"] != partition]
            before = before.assign(entity_id=before["customer_id"].astype(str))
            return before[["partition", "entity_id", "visits"]]
        """
    )
    store = rows_of(ROWS[0])
    store.put(KEY.replace(DAY, "2013-02-02"), file_of([ROWS[1]], "parquet", SCHEMA))
    inputs = replace(
        INPUTS, functions=functions.inputs.functions, sources=(orders(columns=(), history=1),), outcomes=True
    )
    found = prepared(store, inputs)
    assert found.read_features(store)["entity_id"].to_pylist() == [str(2**53 + 1)]
    assert found.read_outcomes(store).to_pylist() == [
        {"partition": "2013-02-02", "entity_id": "7", "visits": 2**53 + 1}
    ]


@pytest.mark.parametrize(
    ("rows", "entity", "complaint"),
    [
        ([ROWS[1], ROWS[1]], "customer_id", "Source orders returned for 2013-02-03 more than one row of '7'"),
        (
            [ROWS[1] | {"customer_id": None}],
            "customer_id",
            "1 rows without entity_id; the first is row 1",
        ),
        (ROWS, "customer", "Source orders has no column customer, which is declared as the key"),
        (ROWS, "spent", "the column entity_id as decimal128"),
    ],
)
def test_rows_that_do_not_name_each_entity_once_are_refused(
    rows: list[dict[str, Any]], entity: str, complaint: str
) -> None:
    """The error names source, partition and keys, and nothing is written."""
    store = rows_of(*rows)
    with pytest.raises(EntityRowsError, match=complaint):
        prepared(store, replace(INPUTS, entity=entity))
    assert not [key for key in store.client.objects if key.startswith("features/")]


@pytest.mark.parametrize(
    ("values", "complaint"),
    [
        (pa.array([5]), "the column partition as int64, which is no text"),
        (pa.array(["7"]), "the partition '7', which has another form"),
        (pa.array(["2013-02"]), "the partition '2013-02', which has another form"),
    ],
)
def test_a_column_partition_of_another_meaning_is_refused(values: pa.Array, complaint: str) -> None:
    """Its rows would be left out as those of other partitions."""
    store = bucket(
        **{
            KEY: file_of(
                [{"customer_id": "a", "partition": values[0].as_py()}],
                "parquet",
                pa.schema({"customer_id": pa.string(), "partition": values.type}),
            )
        }
    )
    with pytest.raises(EntityRowsError, match=complaint):
        prepared(store)


def test_inputs_that_were_altered_are_refused() -> None:
    """They name what a job imports; their name is made of their content."""
    store = rows_of(*ROWS)
    key, content = INPUTS.to_document()
    store.put(key, content.replace(b"acme.defs.churn", b"other.defs.evil"))
    arguments = FeatureArguments(
        model="churn", partition=DAY, bucket="data", run_id="r", code_version="v", inputs_key=key
    )
    with pytest.raises(InvalidInputsError, match=f"{key} was altered"):
        prepare(arguments, store)
