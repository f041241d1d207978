"""Tests of prepared features on S3, and of reading and writing objects there."""

from __future__ import annotations

import json

import pandas as pd
import pyarrow as pa
import pytest
from botocore.exceptions import ClientError

from prediction_batches.object_store import ObjectAlteredError, ObjectStore
from prediction_contract.jobs.job_arguments import FeatureArguments
from sagemaker_scripts.features.feature_store import (
    FeaturesError,
    FeatureSet,
    feature_set,
    partitions_between,
)
from sagemaker_scripts.prepare_features import prepare
from sagemaker_scripts.sources.source_objects import SourceMissingError
from tests.fakes.foreign_documents import PYTHON, other_documents
from tests.fakes.memory_s3 import MemoryS3
from tests.sagemaker.declared_models import INPUTS
from tests.sagemaker.prepared_tables import prepared_of, write_feature_set
from tests.sagemaker.real_flights import stored_days

DAY = "2013-01-04"


@pytest.fixture
def store() -> ObjectStore:
    """Give a bucket with four days of raw flights, and a model's inputs document."""
    store = stored_days(f"2013-01-{day:02}" for day in range(1, 5))
    store.put(*INPUTS["airport_congestion"].to_document())
    return store


def arguments(run_id: str = "run-1", **changes: str) -> FeatureArguments:
    """Return the arguments of a features job."""
    given = {"model": "airport_congestion", "partition": DAY, "bucket": "mlpipe-data"}
    given["inputs_key"] = INPUTS["airport_congestion"].to_document()[0]
    return FeatureArguments(**given | changes, run_id=run_id, code_version="v")


def written(store: ObjectStore, run_id: str, *entities: str) -> FeatureSet:
    """Write features of the given entities."""
    outcomes = pd.DataFrame({"partition": [], "entity_id": []}, dtype="str")
    prepared = prepared_of(pd.DataFrame({"entity_id": list(entities)}), outcomes)
    return write_feature_set(store, prepared, model="m", partition=DAY, run_id=run_id, code_version="v")


def test_features_are_read_unchanged(store: ObjectStore) -> None:
    """Large integers beside a null keep their digits and their type."""
    numbers = [2**53 + 1, None]
    rows = pd.DataFrame({"entity_id": ["a", "b"], "plain": pd.Series(numbers, dtype=object)})
    rows["nullable"] = pd.Series(numbers, dtype="Int64")
    outcomes = rows.assign(partition="2013-01-03")
    found = write_feature_set(
        store,
        prepared_of(rows, outcomes),
        model="m",
        partition=DAY,
        run_id="r",
        code_version="v",
    )
    read, read_outcomes = found.read_features(store), found.read_outcomes(store)
    for name in ("plain", "nullable"):
        assert read[name].to_pylist() == read_outcomes[name].to_pylist() == numbers
        assert read.schema.field(name).type == pa.int64()


def test_malformed_index_is_refused_in_plain_words(store: ObjectStore) -> None:
    """The error about a malformed index contains no Python terms."""
    for content in other_documents():
        store.put("features/m/dt=2013-01-04/run=r/features.json", content)
        with pytest.raises(FeaturesError, match="not an index of features") as caught:
            feature_set(store, "m", "2013-01-04")
        assert not PYTHON.search(str(caught.value))


def test_job_prepares_days_and_records_their_sources(store: ObjectStore) -> None:
    """Each day has its own folder, whose index names the raw files that were read."""
    sets = prepare(arguments(partition="2013-01-03", last_partition=DAY), store)
    assert [each.prefix for each in sets] == [
        f"features/airport_congestion/dt={day}/run=run-1/" for day in ("2013-01-03", DAY)
    ]
    index = json.loads(store.get(f"{sets[1].prefix}features.json"))
    assert [source["key"].split("/")[3] for source in index["sources"]] == [
        f"dt=2013-01-{day:02}" for day in range(1, 5)
    ]
    assert set(index["sources"][0]) == {"source", "bucket", "key", "size", "etag"}
    features, outcomes = sets[1].read_features(store), sets[1].read_outcomes(store)
    assert features.num_rows == sets[1].rows
    assert set(features["partition"].to_pylist()) == {DAY}
    assert set(outcomes["partition"].to_pylist()) == {"2013-01-01", "2013-01-02", "2013-01-03"}


def test_repeated_job_writes_the_same_bytes(store: ObjectStore) -> None:
    """A retry changes nothing for jobs that read the features meanwhile."""
    prepare(arguments(), store)
    before = dict(store.client.objects)
    prepare(arguments(), store)
    assert store.client.objects == before


def test_newest_finished_run_is_read_by_default(store: ObjectStore) -> None:
    """A run without an index is ignored, and an older run can be requested."""
    older = written(store, "run-9", "a")
    newer = written(store, "run-1", "a", "b")
    store.put(f"features/m/dt={DAY}/run=run-5/features.parquet", b"half")
    assert feature_set(store, "m", DAY) == newer
    assert feature_set(store, "m", DAY, older.prefix) == older


def test_missing_features_are_named(store: ObjectStore) -> None:
    """A partition without features, and a prefix of another partition, give a clear error."""
    with pytest.raises(FeaturesError, match=r"no features of 2013-01-04 .*Run the features job"):
        feature_set(store, "m", DAY)
    other = written(store, "run-1", "a")
    with pytest.raises(FeaturesError, match="holds features of m for 2013-01-04"):
        feature_set(store, "m", "2013-01-05", other.prefix)


def test_altered_features_are_refused(store: ObjectStore) -> None:
    """A features file must have the SHA-256 that its index states."""
    found = written(store, "run-1", "a")
    store.put(found.features[0].object.key, b"other bytes")
    with pytest.raises(ObjectAlteredError):
        found.read_features(store)


def test_index_naming_files_outside_its_folder_is_refused(store: ObjectStore) -> None:
    """An altered index could otherwise name any object in the bucket."""
    found = written(store, "run-1", "a")
    index = json.loads(store.get(f"{found.prefix}features.json"))
    index["features"][0]["key"] = "raw/secret"
    store.put(f"{found.prefix}features.json", json.dumps(index).encode())
    with pytest.raises(FeaturesError, match="another folder"):
        feature_set(store, "m", DAY)


def test_model_without_outcomes_has_only_features(store: ObjectStore) -> None:
    """Features may be written without outcomes, and only reading the outcomes fails."""
    found = write_feature_set(
        store,
        prepared_of(pd.DataFrame({"entity_id": ["a"]})),
        model="m",
        partition=DAY,
        run_id="r",
        code_version="v",
    )
    assert feature_set(store, "m", DAY) == found
    assert [each.key for each in found.inputs] == [
        f"{found.prefix}features.json",
        f"{found.prefix}features-00000.parquet",
    ]
    with pytest.raises(FeaturesError, match=f"The features of {DAY} were prepared without outcomes"):
        found.read_outcomes(store)


def test_day_without_raw_data_is_refused(store: ObjectStore) -> None:
    """The history of a day may be missing, but the day itself may not."""
    prepare(arguments(partition="2013-01-01"), store)
    with pytest.raises(SourceMissingError, match="dt=2013-01-09/flights"):
        prepare(arguments(partition="2013-01-09"), store)


def test_partitions_between_cross_months_and_days() -> None:
    """Ranges cross months and midnight, and must be ordered and of one kind."""
    assert partitions_between("2013-01-31", "2013-02-02") == ["2013-01-31", "2013-02-01", "2013-02-02"]
    assert partitions_between("2013-01-31T23", "2013-02-01T00") == ["2013-01-31T23", "2013-02-01T00"]
    for first, last in (("2013-02-02", "2013-02-01"), ("2013-02-01", "2013-02-01T05")):
        with pytest.raises(FeaturesError, match="no partitions from"):
            partitions_between(first, last)


def test_conditional_put_is_repeated_after_a_conflict() -> None:
    """A conditional put is repeated when S3 reports a conflict, and only the first content is kept."""
    s3 = MemoryS3(conflicts=2)
    store = ObjectStore(s3, "mlpipe-data")
    assert store.put_new("done/x", b"mine")
    assert not store.put_new("done/x", b"other")
    assert store.get("done/x") == b"mine"


def test_forbidden_object_is_not_taken_for_missing() -> None:
    """S3 may deny access to a missing object, and a listing tells missing from forbidden."""
    s3 = MemoryS3(denies_missing=True, denied={"done/secret"})
    store = ObjectStore(s3, "mlpipe-data")
    assert store.find("done/x") is None
    store.put("done/secret", b"there")
    with pytest.raises(ClientError, match="AccessDenied"):
        store.find("done/secret")
