"""Tests of challengers: scored on a batch's inputs, compared with it, and never a batch themselves."""

from __future__ import annotations

import io
import json
from typing import TYPE_CHECKING, Any

import pandas as pd
import pyarrow.parquet as pq
import pytest

from prediction_batches.delivery.delta_commit import CommittedVersion, TableCommit
from prediction_batches.object_store import ObjectStore
from prediction_contract.jobs.job_arguments import ScoreArguments
from prediction_contract.jobs.metrics import Metric
from prediction_contract.jobs.model_inputs import ModelInputs
from prediction_contract.naming.batch import Partition
from prediction_contract.naming.s3_layout import challenger_comparison_key, shadow_prefix
from sagemaker_scripts.batches.batch_attempt import BatchAttempt
from sagemaker_scripts.functions.function_calls import ModelFunctions
from sagemaker_scripts.learning.registered_models import ModelVersionError
from sagemaker_scripts.scoring.challenger_scoring import ChallengerError, score_challenger
from tests.fakes.memory_s3 import MemoryS3
from tests.fakes.registry_table import FakeRegistryTable
from tests.sagemaker.registered_versions import register
from tests.sagemaker.test_score_batch import (
    BATCH,
    DAY,
    MODEL,
    NEXT_BATCH,
    NEXT_DAY,
    SCHEMA,
    predict,
    put_archive,
    put_features,
    scored,
)

if TYPE_CHECKING:
    from pathlib import Path

CHALLENGER = 2
ENTITIES = [f"e{number:02}" for number in range(60)]
INPUTS_KEY, INPUTS = ModelInputs(
    model=MODEL,
    functions="acme.defs.m",
    outcomes=True,
    metrics=(Metric("mae", "minutes", "late_minutes"), Metric("r2", "minutes", "late_minutes")),
).to_document()


@pytest.fixture
def store(monkeypatch: pytest.MonkeyPatch) -> ObjectStore:
    """Give a bucket with features of two days. The second day has the outcome of one entity."""
    monkeypatch.setattr(ModelFunctions, "_function", lambda _functions, _name: predict)
    monkeypatch.setattr(
        TableCommit,
        "make",
        lambda commit, _: CommittedVersion(3, tuple(file.path for file in commit.files)),
    )
    store = ObjectStore(MemoryS3(), "mlpipe-data")
    monkeypatch.setattr(ObjectStore, "of_job", lambda _bucket: store)
    store.put("code/m.json", json.dumps(SCHEMA).encode())
    store.put(INPUTS_KEY, INPUTS)
    put_features(store, DAY, {"partition": [], "entity_id": [], "late_minutes": []}, ENTITIES)
    known = {"partition": [DAY], "entity_id": ["e01"], "late_minutes": [15]}
    put_features(store, NEXT_DAY, known, ENTITIES)
    return store


@pytest.fixture
def registry(store: ObjectStore, tmp_path: Path) -> FakeRegistryTable:
    """Give a champion that predicts 10 minutes, and a challenger that predicts 14."""
    registry = FakeRegistryTable()
    for version, minutes in ((1, 10), (CHALLENGER, 14)):
        key = f"models/{MODEL}/candidates/{version}/output/model.tar.gz"
        found = put_archive(store, tmp_path, key, minutes=minutes)
        register(registry, MODEL, found, version=version, state="candidate", champion=version == 1)
    return registry


def challenged(
    store: ObjectStore,
    registry: FakeRegistryTable,
    batch_id: str = BATCH,
    partition: str = DAY,
    *,
    attempt: int = 1,
    version: int = CHALLENGER,
) -> dict[str, Any]:
    """Score a batch's features by the challenger, and return the comparison."""
    arguments = ScoreArguments(
        model=MODEL,
        partition=partition,
        bucket=store.bucket,
        lookback=3,
        schema_key="code/m.json",
        registry_table="registry",
        code_version="v",
        inputs_key=INPUTS_KEY,
        version=version,
    )
    batch = BatchAttempt(Partition(partition), batch_id, attempt, None)
    return score_challenger(arguments, batch, store, registry, None)


def predicted(store: ObjectStore, partition: str) -> pd.DataFrame:
    """Return what the challenger predicted for a partition."""
    prefix = shadow_prefix(MODEL, CHALLENGER, partition)
    keys = [entry.key for entry in store.listing(prefix) if entry.key.endswith(".parquet")]
    return pd.concat([pq.read_table(io.BytesIO(store.get(key))).to_pandas() for key in keys])


def test_challenger_uses_the_batchs_inputs_and_makes_no_batch(
    store: ObjectStore, registry: FakeRegistryTable
) -> None:
    """A challenger uses the same features and previous batch, and writes only below `shadow/`."""
    scored(store, inputs_key=INPUTS_KEY, registry=registry)
    scored(store, NEXT_BATCH, NEXT_DAY, inputs_key=INPUTS_KEY, registry=registry)
    before = set(store.client.objects)
    found = challenged(store, registry)
    assert {key.partition("/")[0] for key in set(store.client.objects) - before} == {"shadow"}
    assert (found["champion"], found["challenger"]) == (1, CHALLENGER)
    assert (found["rows_champion"], found["rows_challenger"]) == (60, 60)
    assert sorted(predicted(store, DAY)["entity_id"]) == ENTITIES
    assert set(predicted(store, DAY)["minutes"]) == {14}
    (moved,) = found["columns"]
    assert moved["column"] == "minutes"
    assert moved["stability_index"] > 1
    challenged(store, registry, NEXT_BATCH, NEXT_DAY)
    # The champion's previous batch was known to be five minutes too early.
    assert set(predicted(store, NEXT_DAY)["minutes"]) == {19}


def test_equal_predictions_have_stability_index_zero(
    store: ObjectStore, registry: FakeRegistryTable, tmp_path: Path
) -> None:
    """A challenger that predicts the same as the champion has a stability index of 0."""
    found = put_archive(store, tmp_path, f"models/{MODEL}/candidates/3/output/model.tar.gz", minutes=10)
    register(registry, MODEL, found, version=3)
    scored(store, inputs_key=INPUTS_KEY, registry=registry)
    (moved,) = challenged(store, registry, version=3)["columns"]
    assert (moved["stability_index"], moved["nulls_challenger"]) == (0, 0)


def test_previous_partition_is_judged_by_known_outcomes(
    store: ObjectStore, registry: FakeRegistryTable
) -> None:
    """Both models are judged on the same entities, and an undefined metric says why."""
    scored(store, inputs_key=INPUTS_KEY, registry=registry)
    scored(store, NEXT_BATCH, NEXT_DAY, inputs_key=INPUTS_KEY, registry=registry)
    assert challenged(store, registry)["earlier"] is None
    earlier = challenged(store, registry, NEXT_BATCH, NEXT_DAY)["earlier"]
    assert (earlier["partition"], earlier["batch_id"]) == (DAY, BATCH)
    error, explained = earlier["metrics"]
    assert (error["rows"], error["champion"], error["challenger"], error["better"]) == (1, 5.0, 1.0, "lower")
    assert (explained["champion"], explained["challenger"]) == (None, None)
    assert "compares different ones" in explained["why"]


def test_killed_job_repeats_with_same_result(
    store: ObjectStore, registry: FakeRegistryTable, monkeypatch: pytest.MonkeyPatch
) -> None:
    """Killed at any write, a repeated job gives the same comparison, and a finished one scores nothing."""
    scored(store, inputs_key=INPUTS_KEY, registry=registry)
    undisturbed = challenged(store, registry)
    written = {key: content for key, content in store.client.objects.items() if key.startswith("shadow/")}
    put_new = ObjectStore.put_new
    for death in range(len(written)):
        for key in written:
            store.client.objects.pop(key, None)
        left = [death]

        def die(bucket: ObjectStore, key: str, content: Any, left: list[int] = left) -> bool:
            if not left[0]:
                raise KeyboardInterrupt
            left[0] -= 1
            return put_new(bucket, key, content)

        with monkeypatch.context() as dying:
            dying.setattr(ObjectStore, "put_new", die)
            with pytest.raises(KeyboardInterrupt):
                challenged(store, registry)
        assert challenged(store, registry) == undisturbed
        assert {key for key in store.client.objects if key.startswith("shadow/")} == set(written)
    monkeypatch.setattr(ModelFunctions, "_function", lambda *_: None)
    assert challenged(store, registry, attempt=2) == undisturbed


def test_incomparable_challenger_is_refused(store: ObjectStore, registry: FakeRegistryTable) -> None:
    """A missing batch, a refused version and features prepared again each give a clear error."""
    with pytest.raises(ChallengerError, match=rf"m/{BATCH}: The batch is not done"):
        challenged(store, registry)
    scored(store, inputs_key=INPUTS_KEY, registry=registry)
    refused = registry.model_version(MODEL, CHALLENGER)
    assert refused is not None
    registry.records[refused.key]["state"] = "refused"
    with pytest.raises(ModelVersionError, match="Version 2 was refused"):
        challenged(store, registry)
    registry.records[refused.key]["state"] = "approved"
    put_features(store, DAY, {"partition": [], "entity_id": [], "late_minutes": []}, ENTITIES[:50])
    with pytest.raises(ChallengerError, match="were prepared again after the batch was scored"):
        challenged(store, registry)
    assert challenger_comparison_key(MODEL, CHALLENGER, DAY, BATCH) not in store.client.objects
