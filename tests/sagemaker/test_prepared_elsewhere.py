"""Tests of features that were prepared elsewhere: a source's rows used as they are."""

from __future__ import annotations

import hashlib
import io
import json
from dataclasses import replace
from datetime import UTC, datetime, timedelta
from decimal import Decimal
from typing import TYPE_CHECKING, Any

import pyarrow as pa
import pyarrow.parquet as pq
import pytest

from prediction_batches.object_store import (
    InputMissingError,
    ObjectAlteredError,
    ObjectStore,
    input_object,
)
from prediction_contract.jobs.job_arguments import FeatureArguments
from prediction_contract.jobs.model_inputs import InvalidInputsError, ModelInputs
from prediction_contract.manifests.manifest import InputObject
from sagemaker_scripts.features import feature_writer
from sagemaker_scripts.features.feature_files import FeaturesError
from sagemaker_scripts.features.feature_store import feature_set
from sagemaker_scripts.features.files_elsewhere import RowsElsewhere
from sagemaker_scripts.features.preparation import prepared_partition
from sagemaker_scripts.features.source_rows import SourceRows
from sagemaker_scripts.functions.entity_rows import EntityRowsError
from sagemaker_scripts.learning.prepared_partitions import PreparedPartitions
from sagemaker_scripts.prepare_features import prepare
from sagemaker_scripts.sources.source_objects import SourceError
from tests.fakes.memory_s3 import MemoryS3
from tests.sagemaker.sources.source_reading import DAY, bucket, file_of, orders, sources_of
from tests.sagemaker.written_functions import function_writer

if TYPE_CHECKING:
    from pathlib import Path

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
    """Run the features job of a day, and return the features that scoring finds."""
    key, content = inputs.to_document()
    store.put(key, content)
    arguments = FeatureArguments(
        model="churn", partition=DAY, bucket="data", run_id="r", code_version="v", inputs_key=key
    )
    (written,) = prepare(arguments, store)
    assert feature_set(store, "churn", DAY) == written
    return written


def rows_of(*rows: dict[str, Any]) -> ObjectStore:
    """Return a bucket with a day's file of the given rows."""
    return bucket(**{KEY: file_of(list(rows), "parquet", SCHEMA)})


def test_rows_become_features_unchanged() -> None:
    """Without a features function, only the key becomes text; other values and the file are unchanged."""
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


def files(store: ObjectStore) -> list[str]:
    """Return the names of all files below `features/`."""
    return [key.rpartition("/")[2] for key in sorted(store.client.objects) if key.startswith("features/")]


def test_files_are_referenced_and_not_copied() -> None:
    """The index and the manifest's inputs name the source's own file and its digest."""
    store = rows_of(*ROWS)
    found = prepared(store)
    assert files(store) == ["features.json"]
    raw = InputObject(KEY, hashlib.sha256(store.get(KEY)).hexdigest())
    assert found.inputs == (found.index, raw)
    assert found.index == input_object(f"{found.prefix}features.json", store.get(found.index.key))


TIMED = orders(
    columns=(("customer_id", "long"), ("spent", "decimal(20,2)"), ("seen_at", "timestamp")),
    known_at="seen_at",
)


def timed_file(*rows: tuple[int, int], day: str = "2013-02-02", group: int = 2) -> bytes:
    """Return a file of customers, hours when they became known, and types other than declared."""
    start = datetime.fromisoformat(f"{day}T00:00+00:00")
    times = [start + timedelta(hours=hour) for _, hour in rows]
    table = pa.table(
        {
            "unused": ["x"] * len(rows),
            "customer_id": pa.array([customer for customer, _ in rows], pa.int32()),
            "seen_at": pa.array(times, pa.timestamp("ns", "UTC")),
            "spent": pa.array([Decimal(customer) for customer, _ in rows], pa.decimal128(10, 0)),
        }
    )
    sink = io.BytesIO()
    pq.write_table(table, sink, row_group_size=group)
    return sink.getvalue()


def test_rows_are_cast_and_filtered_while_read(tmp_path: Path) -> None:
    """Files read group by group give the declared types and the rows that a full read gives."""
    store = bucket(
        **{
            KEY: timed_file((1, 1), (2, 25), (3, 2), (4, 3), (5, 30), (6, 31)),
            KEY.replace("a.parquet", "b.parquet"): timed_file((7, 24), (8, 26)),
            KEY.replace("a.parquet", "c.parquet"): timed_file((9, 23), (10, -1)),
        }
    )
    inputs = replace(INPUTS, sources=(TIMED,))
    found = prepared(store, inputs)
    assert [(file.object.key[-9:], file.row_groups) for file in found.features] == [
        ("a.parquet", (1, 2, 0)),
        ("c.parquet", (2,)),
    ]
    assert found.read_features(store).to_pylist() == [
        {
            "entity_id": str(customer),
            "spent": Decimal(customer),
            "seen_at": datetime.fromisoformat("2013-02-02T00:00+00:00") + timedelta(hours=hour),
            "partition": DAY,
        }
        for customer, hour in ((1, 1), (3, 2), (4, 3), (9, 23), (10, -1))
    ]
    with sources_of(store, TIMED) as sources:
        held = prepared_partition(inputs, sources, DAY).features
    assert found.read_features(store).drop_columns("partition").equals(held)
    middle = found.features[0].fetched(store, tmp_path).batches(1, 1, rows_per_batch=1)
    assert [batch["entity_id"].to_pylist() for batch in middle] == [["3"], ["4"]]


@pytest.mark.parametrize("copied", [False, True])
def test_partitions_of_a_range_get_rows_known_in_time(copied: bool) -> None:
    """Each partition gets the rows known when it began, and repeating the range changes nothing."""
    name = "all (1).parquet" if copied else "all.parquet"
    store = bucket(**{f"raw/{name}": timed_file((1, 1), (2, 23), (3, 25), (4, 47), (5, 49), group=1)})
    inputs = replace(INPUTS, sources=(replace(TIMED, path=f"raw/{name}"),))
    key, content = inputs.to_document()
    store.put(key, content)
    arguments = FeatureArguments(
        model="churn",
        partition="2013-02-03",
        last_partition="2013-02-05",
        bucket="data",
        run_id="r",
        code_version="v",
        inputs_key=key,
    )
    found = [each.read_features(store)["entity_id"].to_pylist() for each in prepare(arguments, store)]
    assert found == [["1", "2"], ["1", "2", "3", "4"], ["1", "2", "3", "4", "5"]]
    before = dict(store.client.objects)
    prepare(arguments, store)
    assert store.client.objects == before
    assert bool([name for name in before if name.endswith("-00000.parquet")]) == copied


def test_rows_of_other_partitions_are_left_out() -> None:
    """With a partition column, only the partition's own rows are used, from all files of the history."""
    source = orders(columns=(("customer_id", "string"), ("partition", "string")), history=1)
    rows = [{"customer_id": "a", "partition": DAY}, {"customer_id": "b", "partition": "2013-02-02"}]
    store = bucket(
        **{
            KEY.replace(DAY, "2013-02-02"): file_of(rows[::-1], "parquet"),
            KEY: file_of([{"customer_id": "c", "partition": DAY}], "parquet"),
        }
    )
    found = prepared(store, replace(INPUTS, sources=(source,)))
    assert found.read_features(store).to_pylist() == [
        {"entity_id": "a", "partition": DAY},
        {"entity_id": "c", "partition": DAY},
    ]
    assert [file.row_groups for file in found.features] == [(1,), (1,)]


def test_undeclared_column_types_are_reconciled_across_files(tmp_path: Path) -> None:
    """A column that is null in one file gets the type of the others; conflicting types are refused."""
    other = KEY.replace("a.parquet", "b.parquet")
    rows = [{"customer_id": "a", "note": None}], [{"customer_id": "b", "note": "x"}]
    store = bucket(**{KEY: file_of(rows[0], "parquet"), other: file_of(rows[1], "parquet")})
    found = prepared(store)
    assert found.read_features(store)["note"].to_pylist() == [None, "x"]
    schemas = {file.fetched(store, tmp_path).schema for file in found.features}
    assert [schema.field("note").type for schema in schemas] == [pa.large_string()]
    store.put(other, file_of([{"customer_id": "b", "note": 7}, {"customer_id": "c", "note": 8}], "parquet"))
    store.put(KEY, file_of([{"customer_id": "a", "note": "y"}], "parquet"))
    with pytest.raises(
        SourceError, match=r"a\.parquet has note as .*string, but .*b\.parquet has note as int64"
    ):
        prepared(store)


def test_file_changed_after_preparation_is_refused() -> None:
    """A changed or deleted source file is refused with its name and the remedy."""
    store = rows_of(*ROWS)
    found = prepared(store)
    store.put(KEY, file_of([ROWS[0]], "parquet", SCHEMA))
    changed = rf"{KEY} does not have SHA-256 .* of {DAY} .*Run the features job for this partition again"
    with pytest.raises(ObjectAlteredError, match=changed):
        found.read_features(store)
    del store.client.objects[KEY]
    with pytest.raises(InputMissingError, match=r"does not exist.*do not change files of source orders"):
        found.read_features(store)


@pytest.mark.parametrize("ending", ["csv", "jsonl.gz"])
def test_csv_and_json_rows_are_copied_to_parquet(ending: str, monkeypatch: pytest.MonkeyPatch) -> None:
    """CSV and JSON lines are copied to Parquet files with row groups, and the index names the source."""
    monkeypatch.setattr(feature_writer, "GROUP_ROWS", 2)
    rows = [{"customer_id": f"c{number}", "visits": number} for number in range(5)]
    key = KEY.replace("parquet", ending)
    store = bucket(**{key: file_of(rows, ending)})
    source = orders(
        format=ending.split(".", maxsplit=1)[0],
        path=f"raw/orders/dt={{date}}/*.{ending}",
        columns=(("customer_id", "string"), ("visits", "long")),
    )
    found = prepared(store, replace(INPUTS, sources=(source,)))
    assert files(store) == ["features-00000.parquet", "features.json"]
    assert [file.row_groups for file in found.features] == [(2, 2, 1)]
    assert found.read_features(store).drop_columns("partition").to_pylist() == [
        {"entity_id": row["customer_id"], "visits": row["visits"]} for row in rows
    ]
    index = json.loads(store.get(found.index.key))
    assert [each["key"] for each in index["sources"]] == [key]


def test_file_with_unsafe_key_is_copied() -> None:
    """A file whose key has characters that a manifest does not allow is copied."""
    key = KEY.replace("a.parquet", "part 1 (new).parquet")
    store = bucket(**{key: file_of(ROWS, "parquet", SCHEMA)})
    found = prepared(store)
    assert files(store) == ["features-00000.parquet", "features.json"]
    assert found.read_features(store)["entity_id"].to_pylist() == [str(row["customer_id"]) for row in ROWS]


def test_rows_all_known_later_give_empty_features() -> None:
    """If no row was known in time, the features are one empty file with all columns."""
    store = bucket(**{KEY: timed_file((1, 24), (2, 25))})
    found = prepared(store, replace(INPUTS, sources=(TIMED,)))
    assert found.read_features(store).schema.names == ["entity_id", "spent", "seen_at", "partition"]
    assert (found.rows, files(store)) == (0, ["features-00000.parquet", "features.json"])


def test_duplicate_entities_across_files_are_refused() -> None:
    """The error names the first five duplicate entities and counts the others, however far apart they are."""
    store = bucket(
        **{
            KEY: timed_file(*((number, 1) for number in range(9))),
            KEY.replace("a.parquet", "b.parquet"): timed_file((11, 1), *((number, 1) for number in range(7))),
        }
    )
    complaint = r"Source orders returned several rows for 2013-02-03 of '0', '1', '2', '3', '4' and 2 more"
    with pytest.raises(EntityRowsError, match=complaint):
        prepared(store, replace(INPUTS, sources=(TIMED,)))
    assert not files(store)


def test_missing_key_row_number_counts_across_files() -> None:
    """The number of a row without a key counts the rows of all the partition's files."""
    rows = [{"customer_id": "a"}, {"customer_id": None}]
    store = bucket(
        **{
            KEY: file_of([{"customer_id": "x"}, {"customer_id": "y"}], "parquet"),
            KEY.replace("a.parquet", "b.parquet"): file_of(rows, "parquet"),
        }
    )
    with pytest.raises(EntityRowsError, match=r"1 rows without entity_id for .*; the first is row 4"):
        prepared(store)


def test_training_reads_files_in_place() -> None:
    """Training examples come from the source's own files, and their digests are recorded."""
    store = rows_of(*ROWS)
    found = prepared(store)
    partitions = PreparedPartitions.of_sets(store, [found], [], has_outcomes=False)
    assert partitions.examples().equals(found.read_features(store))
    assert partitions.sources == [hashlib.sha256(store.get(KEY)).hexdigest()]


def test_spark_times_get_the_type_of_the_delta_table(tmp_path: Path) -> None:
    """Spark's 96-bit times without a zone become microseconds in UTC, as the Delta table declares."""
    moment = datetime(2013, 2, 2, 5, 0, 0, 123456)  # noqa: DTZ001  # without a zone, as in the file
    rows = pa.table({"customer_id": ["a"], "seen_at": pa.array([moment], pa.timestamp("ns"))})
    path = tmp_path / "rows.parquet"
    pq.write_table(rows, path, use_deprecated_int96_timestamps=True, store_schema=False)
    given = pa.schema(
        {
            "customer_id": pa.string(),
            "seen_at": pa.timestamp("us", "UTC"),
            "area": pa.string(),
            "since": pa.date32(),
        }
    )
    elsewhere = RowsElsewhere(SourceRows("orders", "customer_id", DAY, "churn"), (), "seen_at", given)
    with elsewhere.opened(path, "a file") as file:
        (found,) = elsewhere.group(file, 0, "a file", (("area", "north"),))
    assert found.to_pylist() == [
        {
            "entity_id": "a",
            "seen_at": moment.replace(tzinfo=UTC),
            "area": "north",
            "since": None,
            "partition": DAY,
        }
    ]


class WeighingS3(MemoryS3):
    """An in-memory bucket that records Arrow's allocated bytes at each read and write."""

    def __init__(self, objects: dict[str, bytes]) -> None:
        super().__init__(objects)
        self.held: list[int] = []

    def get_object(self, **asked: Any) -> dict[str, Any]:
        """Record the allocated bytes, then read the object."""
        self.held.append(pa.total_allocated_bytes())
        return super().get_object(**asked)

    def put_object(self, **asked: Any) -> None:
        """Record the allocated bytes, then write the object."""
        self.held.append(pa.total_allocated_bytes())
        super().put_object(**asked)


@pytest.mark.parametrize("ending", ["parquet", "csv", "jsonl"])
def test_preparation_does_not_hold_all_features(ending: str, monkeypatch: pytest.MonkeyPatch) -> None:
    """Preparing a partition takes less than half the memory of its rows."""
    monkeypatch.setattr(feature_writer, "GROUP_ROWS", 5_000)
    monkeypatch.setattr(feature_writer, "FILE_ROWS", 10_000)
    for module in ("csv_files._BLOCK", "json_line_files._BLOCK"):
        monkeypatch.setattr(f"sagemaker_scripts.sources.{module}", 100_000)
    numbers = range(40_000)
    rows = [{"customer_id": f"{number}", "note": f"{number:0100}"} for number in numbers]
    keys = [KEY.replace("a.parquet", f"{number}.{ending}") for number in range(4)]
    objects = {key: file_of(rows[number::4], ending) for number, key in enumerate(keys)}
    held = pa.Table.from_pylist(rows).nbytes
    store = ObjectStore(WeighingS3(objects), "data")
    source = orders(
        format=ending,
        path=f"raw/orders/dt={{date}}/*.{ending}",
        columns=(("customer_id", "string"), ("note", "string")),
    )
    before = pa.total_allocated_bytes()
    assert prepared(store, replace(INPUTS, sources=(source,))).rows == len(rows)
    assert max(store.client.held) - before < held / 2


@pytest.mark.parametrize(
    ("change", "complaint"),
    [
        ({"features": []}, "features names no file"),
        ({"elsewhere": {"source": "orders"}}, "entity is missing"),
        ({"elsewhere": None}, "elsewhere is null"),
    ],
)
def test_malformed_index_of_files_elsewhere_is_refused(change: dict[str, Any], complaint: str) -> None:
    """The error names the malformed member of the index."""
    store = rows_of(*ROWS)
    found = prepared(store)
    index = json.loads(store.get(found.index.key)) | change
    store.put(found.index.key, json.dumps(index).encode())
    with pytest.raises(FeaturesError, match=complaint):
        feature_set(store, "churn", DAY)


def test_history_is_used_only_for_outcomes(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    """Features are the partition's own rows, while the outcomes function also gets earlier ones."""
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
        ([ROWS[1], ROWS[1]], "customer_id", "Source orders returned several rows for 2013-02-03 of '7'"),
        (
            [ROWS[1] | {"customer_id": None}],
            "customer_id",
            "1 rows without entity_id for .*; the first is row 1",
        ),
        (ROWS, "customer", "Source orders has no column customer, which is declared as the key"),
        (ROWS, "spent", "returned column entity_id for .* as decimal128"),
    ],
)
def test_rows_with_invalid_keys_are_refused(rows: list[dict[str, Any]], entity: str, complaint: str) -> None:
    """Duplicate, missing or mistyped keys are refused by source and partition, and nothing is written."""
    store = rows_of(*rows)
    with pytest.raises(EntityRowsError, match=complaint):
        prepared(store, replace(INPUTS, entity=entity))
    assert not [key for key in store.client.objects if key.startswith("features/")]


@pytest.mark.parametrize(
    ("values", "complaint"),
    [
        (pa.array([5]), "returned column partition for .* as int64, not as text"),
        (pa.array(["7"]), "returned partition '7' for .*, which is not a partition of the same kind"),
        (
            pa.array(["2013-02"]),
            "returned partition '2013-02' for .*, which is not a partition of the same kind",
        ),
    ],
)
def test_partition_column_with_foreign_values_is_refused(values: pa.Array, complaint: str) -> None:
    """A partition column with other values is refused; otherwise all its rows would be left out."""
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


def test_altered_inputs_document_is_refused() -> None:
    """An inputs document that does not match the digest in its key could make a job import other code."""
    store = rows_of(*ROWS)
    key, content = INPUTS.to_document()
    store.put(key, content.replace(b"acme.defs.churn", b"other.defs.evil"))
    arguments = FeatureArguments(
        model="churn", partition=DAY, bucket="data", run_id="r", code_version="v", inputs_key=key
    )
    with pytest.raises(InvalidInputsError, match=f"{key} was altered"):
        prepare(arguments, store)
