"""Tests of the order of the score job's steps, and of concurrent jobs that score the same batch."""

from __future__ import annotations

import gzip
import hashlib
import io
import json
import tarfile
from decimal import Decimal
from typing import TYPE_CHECKING, Any

import pandas as pd
import pytest

from prediction_batches.delivery.delta_commit import AttemptSupersededError, CommittedVersion, TableCommit
from prediction_batches.delivery.done_file import ManifestConflictError
from prediction_batches.errors import PredictionsError
from prediction_batches.object_store import InputMissingError, ObjectStore
from prediction_contract.jobs.job_arguments import ScoreArguments
from prediction_contract.jobs.model_inputs import ModelInputs, TrainedElsewhere
from prediction_contract.jobs.pinned_model import PinnedModel
from prediction_contract.manifests.manifest import InputObject, Manifest, Producer, parse_manifest
from prediction_contract.naming.batch import Partition
from prediction_contract.naming.s3_layout import candidates_prefix, done_key
from sagemaker_scripts import score_batch
from sagemaker_scripts.batches.batch_attempt import BatchAttempt
from sagemaker_scripts.codecs.known_codecs import Codecs
from sagemaker_scripts.container import run_script
from sagemaker_scripts.dagster_report import DagsterReport
from sagemaker_scripts.functions.function_calls import FunctionError, ModelFunctions
from sagemaker_scripts.learning.model_artifact import found_model, save_model
from sagemaker_scripts.score_batch import score
from sagemaker_scripts.scoring.hosts import Hosts
from sagemaker_scripts.scoring.pinning import PinnedModelError
from sagemaker_scripts.scoring.planning import ScoringRegistry
from tests.fakes.memory_s3 import MemoryS3
from tests.fakes.registry_table import FakeRegistryTable
from tests.sagemaker.prepared_tables import prepared_of, write_feature_set
from tests.sagemaker.registered_versions import register

if TYPE_CHECKING:
    from collections.abc import Callable, Sequence
    from pathlib import Path

MODEL, DAY, NEXT_DAY = "m", "2013-02-01", "2013-02-02"
BATCH, NEXT_BATCH = "20130201T060000Z-00000001", "20130202T060000Z-00000002"
ATTEMPT = f"predictions/{MODEL}/json/dt={DAY}/batch={BATCH}/attempt=1/"
SCHEMA = {
    "key": "entity_id",
    "columns": [
        {"name": "entity_id", "type": "string", "nullable": False},
        {"name": "minutes", "type": "long", "nullable": False},
    ],
}

ARCHIVE = f"{candidates_prefix(MODEL)}train-1/output/model.tar.gz"
INPUTS_KEY, INPUTS = ModelInputs(model=MODEL, functions="acme.defs.m", outcomes=True).to_document()


def predict(features: pd.DataFrame, artifact: dict[str, Any], previous: pd.DataFrame | None) -> pd.DataFrame:
    """Predict the artifact's minutes plus the known error of the previous batch."""
    late = 0 if previous is None else sum(previous["late_minutes"]) - sum(previous["minutes"])
    return pd.DataFrame({"entity_id": features["entity_id"], "minutes": artifact["minutes"] + late})


def predicted_elsewhere(features: pd.DataFrame, model: dict[str, int], _previous: None) -> pd.DataFrame:
    """Predict the minutes of a model that was trained elsewhere."""
    return pd.DataFrame({"entity_id": features["entity_id"], "minutes": model["minutes"]})


def put_features(
    store: ObjectStore, day: str, outcomes: dict[str, list[Any]], entities: Sequence[str] = ("a", "b")
) -> None:
    """Write features of two entities, or of the given ones."""
    known = pd.DataFrame(outcomes).astype({"partition": "str", "entity_id": "str"})
    write_feature_set(
        store,
        prepared_of(pd.DataFrame({"entity_id": pd.Series(entities, dtype="str")}), known),
        model=MODEL,
        partition=day,
        run_id="run-1",
        code_version="v",
    )


def put_archive(store: ObjectStore, folder: Path, key: str, *, minutes: int) -> PinnedModel:
    """Upload the archive of a model that predicts the given minutes, and return its pin."""
    save_model(folder, MODEL, {"minutes": minutes}, {}, Codecs())
    packed = io.BytesIO()
    with tarfile.open(fileobj=packed, mode="w:gz") as archive:
        for name in ("objects", "model.json"):
            archive.add(folder / name, arcname=name)
    store.put(key, packed.getvalue())
    return found_model(store, MODEL, key)


@pytest.fixture
def store(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> ObjectStore:
    """Give a bucket with schema, model and features of two days, the second with one known outcome."""
    monkeypatch.setattr(ModelFunctions, "_function", lambda _functions, _name: predict)
    store = ObjectStore(MemoryS3(), "mlpipe-data")
    monkeypatch.setattr(ObjectStore, "of_job", lambda _bucket: store)
    store.put("code/m.json", json.dumps(SCHEMA).encode())
    store.put(INPUTS_KEY, INPUTS)
    put_archive(store, tmp_path, ARCHIVE, minutes=10)
    put_features(store, DAY, {"partition": [], "entity_id": [], "late_minutes": []})
    put_features(store, NEXT_DAY, {"partition": [DAY], "entity_id": ["b"], "late_minutes": [15]})
    return store


@pytest.fixture
def commits_as(monkeypatch: pytest.MonkeyPatch) -> Callable[[Callable[[], Any]], None]:
    """Return a function that replaces the commit to Delta by the given one."""

    def set_commit(happens: Callable[[], Any]) -> None:
        def make(commit: TableCommit, still_wanted: Callable[[], bool]) -> CommittedVersion:
            assert still_wanted()
            happens()
            return CommittedVersion(3, tuple(file.path for file in commit.files))

        monkeypatch.setattr(TableCommit, "make", make)

    set_commit(lambda: None)
    return set_commit


def with_champion(store: ObjectStore) -> FakeRegistryTable:
    """Return a registry whose champion is the model on the bucket."""
    registry = FakeRegistryTable()
    register(registry, MODEL, found_model(store, MODEL, ARCHIVE), version=1, champion=True)
    return registry


def scored(
    store: ObjectStore,
    batch_id: str = BATCH,
    partition: str = DAY,
    attempt: int = 1,
    *,
    inputs_key: str = INPUTS_KEY,
    registry: ScoringRegistry | None = None,
    **given: Any,
) -> tuple[Manifest, bool]:
    """Score a batch, by the champion on the bucket unless another registry is given.

    Return its manifest and whether it was adopted.
    """
    arguments = ScoreArguments(
        model=MODEL,
        partition=partition,
        bucket=store.bucket,
        lookback=3,
        schema_key="code/m.json",
        registry_table="registry",
        code_version="v",
        inputs_key=inputs_key,
        **given,
    )
    scored = score(
        arguments,
        BatchAttempt(Partition(partition), batch_id, attempt, None),
        store,
        registry or with_champion(store),
        Producer(),
        hosts=Hosts.of_job(None),
        report=DagsterReport(),
    )
    assert scored is not None
    return scored


def manifest_of_second_attempt(store: ObjectStore) -> Manifest:
    """Return the manifest that a second attempt writes, after deleting it from the bucket."""
    manifest, _ = scored(store, attempt=2)
    del store.client.objects[manifest.key]
    return manifest


@pytest.mark.usefixtures("commits_as")
def test_second_day_is_corrected_by_outcomes_of_the_first(store: ObjectStore) -> None:
    """The second batch names the first one and adds its known error of five minutes."""
    first, _ = scored(store)
    second, _ = scored(store, NEXT_BATCH, NEXT_DAY)
    assert (first.previous_batch_id, second.previous_batch_id) == (None, BATCH)
    lines = gzip.decompress(store.get(second.json_parts[0].key)).splitlines()
    assert [json.loads(line)["minutes"] for line in lines] == [15, 15]


@pytest.mark.usefixtures("commits_as")
@pytest.mark.parametrize(
    ("minutes", "declared", "fault"),
    [
        ([10.5, 11.5], {}, r"minutes has a fraction"),
        ([10.5, 11], {}, r"1 of 2 rows .*1 wrong_type; row 1: minutes has a fraction, not an integer"),
        ([10.5, 11.5], {"quarantine_rows": 10}, r"2 wrong_type; row 1: .*; row 2: minutes has a fraction"),
    ],
)
def test_batch_that_a_load_would_refuse_is_not_delivered(
    store: ObjectStore, monkeypatch: pytest.MonkeyPatch, minutes: list[float], declared: Any, fault: str
) -> None:
    """Scoring fails before it writes any row, and names the first invalid rows and their reasons."""
    before = set(store.client.objects)
    returned = pd.DataFrame({"entity_id": ["a", "b"], "minutes": minutes}, dtype=object)
    monkeypatch.setattr(ModelFunctions, "_function", lambda *_: lambda *_: returned)
    with pytest.raises(PredictionsError, match=f"^m/{BATCH}: .*{fault}"):
        scored(store, **declared)
    batch = ATTEMPT.removesuffix("attempt=1/")
    assert set(store.client.objects) - before == {f"{ATTEMPT}plan.json", f"{batch}model.json"}


@pytest.mark.parametrize(
    ("entities", "fault"),
    [
        ([], r"no prediction for rows 1, 2 of the features"),
        (["b"], r"no prediction for row 1 of the features"),
        (["a", "b", "c"], r"row 3 of the predictions belongs to no entity of the features"),
    ],
)
def test_predictions_match_the_feature_rows(
    store: ObjectStore, monkeypatch: pytest.MonkeyPatch, entities: list[str], fault: str
) -> None:
    """Missing and surplus predictions fail scoring, however many rows may be quarantined."""
    returned = pd.DataFrame({"entity_id": pd.Series(entities, dtype="str"), "minutes": len(entities)})
    monkeypatch.setattr(ModelFunctions, "_function", lambda *_: lambda *_: returned)
    with pytest.raises(PredictionsError, match=fault):
        scored(store, quarantine_rows=10)
    assert not [key for key in store.client.objects if key.startswith("done/")]


@pytest.mark.usefixtures("commits_as")
def test_duplicate_predictions_count_as_two_refused_rows(
    store: ObjectStore, monkeypatch: pytest.MonkeyPatch
) -> None:
    """Both rows of a duplicate key are refused, so the batch needs room for two rows in quarantine."""
    returned = pd.DataFrame({"entity_id": ["a", "b", "a"], "minutes": [1, 2, 3]})
    monkeypatch.setattr(ModelFunctions, "_function", lambda *_: lambda *_: returned)
    fault = r"2 of 3 rows .* 1 may be: 2 duplicate_key; row 1: another row has the same key; row 3: another"
    with pytest.raises(PredictionsError, match=fault):
        scored(store, quarantine_rows=1)
    manifest, _ = scored(store, attempt=2, quarantine_rows=2)
    assert manifest.row_count == 3


@pytest.mark.usefixtures("commits_as")
def test_empty_features_make_no_batch(store: ObjectStore) -> None:
    """A partition with no entity fails, because an empty batch would look like lost data."""
    put_features(store, DAY, {"partition": [], "entity_id": [], "late_minutes": []}, entities=[])
    with pytest.raises(PredictionsError, match=r"The batch has no rows"):
        scored(store, quarantine_rows=10)


@pytest.mark.usefixtures("commits_as")
def test_tolerated_invalid_rows_are_delivered(
    store: ObjectStore, monkeypatch: pytest.MonkeyPatch, caplog: pytest.LogCaptureFixture
) -> None:
    """Invalid rows within the quarantine rate are delivered, and the job's log already names them."""
    returned = pd.DataFrame({"entity_id": ["a", "b"], "minutes": [10.5, 11]}, dtype=object)
    monkeypatch.setattr(ModelFunctions, "_function", lambda *_: lambda *_: returned)
    manifest, _ = scored(store, quarantine_rate=Decimal("0.5"))
    assert manifest.row_count == 2
    assert "1 wrong_type; row 1: minutes has a fraction" in caplog.text


def minutes_of(store: ObjectStore, manifest: Manifest) -> set[int]:
    """Return the minutes that a batch predicts."""
    lines = gzip.decompress(store.get(manifest.json_parts[0].key)).splitlines()
    return {json.loads(line)["minutes"] for line in lines}


@pytest.mark.usefixtures("commits_as")
def test_attempts_use_the_version_of_the_first(
    store: ObjectStore, tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    """A promotion between attempts affects the next batch; the manifest names package and approver."""
    registry = FakeRegistryTable()
    archives = [
        put_archive(
            store, tmp_path, f"models/{MODEL}/candidates/{minutes}/output/model.tar.gz", minutes=minutes
        )
        for minutes in (20, 30)
    ]
    register(registry, MODEL, archives[0], version=1, champion=True)

    def fail(*_: Any) -> None:
        raise RuntimeError("the job dies")

    with monkeypatch.context() as dying:
        dying.setattr(ModelFunctions, "_function", lambda *_: fail)
        with pytest.raises(FunctionError, match="the job dies"):
            scored(store, registry=registry)
    promoted = register(registry, MODEL, archives[1], version=2, champion=True)
    manifest, _ = scored(store, attempt=2, registry=registry)
    assert minutes_of(store, manifest) == {20}
    assert manifest.model_version == archives[0].digest
    package = manifest.model_package
    assert package is not None
    assert (package.version, package.digest, package.approved_by) == (1, archives[0].digest, "anna")
    assert manifest.inputs.model_artifact == InputObject(archives[0].key, archives[0].sha256)
    later, _ = scored(store, "20130201T070000Z-00000002", registry=registry)
    assert minutes_of(store, later) == {30}
    assert later.model_package is not None
    assert later.model_package.arn == promoted.package_arn


@pytest.mark.usefixtures("commits_as")
def test_earlier_version_can_score_a_batch(store: ObjectStore, tmp_path: Path) -> None:
    """A superseded version can be requested, and another attempt cannot request a different one."""
    registry = FakeRegistryTable()
    earlier = put_archive(store, tmp_path, f"models/{MODEL}/candidates/1/output/model.tar.gz", minutes=20)
    register(registry, MODEL, earlier, version=1, state="superseded")
    register(registry, MODEL, earlier, version=2, champion=True)
    manifest, _ = scored(store, registry=registry, version=1)
    assert manifest.model_package is not None
    assert manifest.model_package.version == 1
    del store.client.objects[manifest.key]
    with pytest.raises(
        PinnedModelError, match=rf"m/{BATCH}: .* pinned to version 1, but version 2 was requested"
    ):
        scored(store, attempt=2, registry=registry, version=2)


def test_parts_are_written_before_delta_and_manifest_last(
    store: ObjectStore, commits_as: Callable[[Callable[[], Any]], None]
) -> None:
    """All parts exist when Delta is committed, and the done file is written after it."""
    seen: list[set[str]] = []
    commits_as(lambda: seen.append(set(store.client.objects)))
    manifest, adopted = scored(store)
    assert not adopted
    assert {part.key for part in manifest.json_parts} <= seen[0]
    assert set(store.client.objects) - seen[0] == {done_key(MODEL, BATCH)}
    assert manifest.delta.version == 3


def test_manifest_of_concurrent_attempt_is_adopted(
    store: ObjectStore, commits_as: Callable[[Callable[[], Any]], None]
) -> None:
    """If another attempt writes its manifest first, it is adopted and not replaced."""
    other = manifest_of_second_attempt(store)
    commits_as(lambda: store.put(other.key, other.to_bytes()))
    assert scored(store) == (other, True)
    assert store.get(other.key) == other.to_bytes()


def test_overtaken_attempt_adopts_manifest_or_fails(
    store: ObjectStore, commits_as: Callable[[Callable[[], Any]], None]
) -> None:
    """An attempt that lost the Delta commit adopts the other's manifest, or fails if there is none."""
    other = manifest_of_second_attempt(store)

    def overtaken() -> None:
        raise AttemptSupersededError("Attempt 2 has committed", remedy="Start the next", batch_id=BATCH)

    commits_as(overtaken)
    with pytest.raises(AttemptSupersededError):
        scored(store)

    def overtaken_and_done() -> None:
        store.put(other.key, other.to_bytes())
        overtaken()

    commits_as(overtaken_and_done)
    assert scored(store) == (other, True)


@pytest.mark.usefixtures("commits_as")
def test_own_manifest_is_recognized_after_lost_response(
    store: ObjectStore, monkeypatch: pytest.MonkeyPatch
) -> None:
    """If the response to the manifest's put is lost, the job recognizes its own manifest."""
    put_new = ObjectStore.put_new

    def lose_answer(store: ObjectStore, key: str, content: bytes) -> bool:
        return put_new(store, key, content) and not key.startswith("done/")

    monkeypatch.setattr(ObjectStore, "put_new", lose_answer)
    manifest, adopted = scored(store)
    assert not adopted
    assert store.get(manifest.key) == manifest.to_bytes()


@pytest.mark.usefixtures("commits_as")
def test_batch_of_another_partition_is_not_adopted(store: ObjectStore) -> None:
    """A batch id that belongs to another partition is refused."""
    scored(store)
    with pytest.raises(ManifestConflictError, match=rf"m/{BATCH}: .* {DAY}, .* {NEXT_DAY}\. Pass another"):
        scored(store, partition=NEXT_DAY)


def test_error_message_names_the_batch(
    store: ObjectStore, tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    """The message of a missing input also names attempt, batch, model and partition."""
    monkeypatch.setattr(score_batch.boto3, "client", lambda *_, **__: None)
    monkeypatch.setenv("MLPIPE_ML_ROOT", str(tmp_path))
    given = ScoreArguments(
        model=MODEL,
        partition=DAY,
        bucket=store.bucket,
        lookback=3,
        schema_key="code/missing.json",
        registry_table="registry",
        code_version="v",
        inputs_key=INPUTS_KEY,
        batch_id=BATCH,
    )
    monkeypatch.setattr("sys.argv", ["score_batch.py", *given.container_arguments()])
    with pytest.raises(InputMissingError):
        run_script(score_batch.main)
    message = (tmp_path / "output" / "message").read_text()
    assert "code/missing.json does not exist" in message
    assert f"This error ended attempt 1 at batch {BATCH} of m for {DAY}." in message


@pytest.mark.usefixtures("commits_as")
def test_model_trained_elsewhere_scores(store: ObjectStore, monkeypatch: pytest.MonkeyPatch) -> None:
    """The digest of a declared file is the version, and the manifest names the file and its bucket."""
    monkeypatch.setattr(ModelFunctions, "_function", lambda *_: predicted_elsewhere)
    content = b'{"minutes":30}'
    digest = hashlib.sha256(content).hexdigest()
    # The bucket in memory ignores bucket names.
    store.put("churn/model.json", content)
    elsewhere = TrainedElsewhere(key="churn/model.json", sha256=digest, codec="json", bucket="acme-models")
    inputs = ModelInputs(model=MODEL, functions="acme.defs.m", trained_elsewhere=elsewhere)
    key, document = inputs.to_document()
    store.put(key, document)
    manifest, _ = scored(store, inputs_key=key)
    assert manifest.model_version == digest[:16]
    artifact = parse_manifest(manifest.to_bytes()).inputs.model_artifact
    assert artifact is not None
    assert artifact == InputObject("churn/model.json", digest, "acme-models")
    line = gzip.decompress(store.get(manifest.json_parts[0].key)).splitlines()[0]
    assert json.loads(line)["minutes"] == 30
