"""Tests of the score job's order and of who wins where two job runs score the same batch."""

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
    """Predict the artifact's minutes, and what is known of the previous batch on top."""
    late = 0 if previous is None else sum(previous["late_minutes"]) - sum(previous["minutes"])
    return pd.DataFrame({"entity_id": features["entity_id"], "minutes": artifact["minutes"] + late})


def predicted_elsewhere(features: pd.DataFrame, model: dict[str, int], _previous: None) -> pd.DataFrame:
    """Predict the model's minutes."""
    return pd.DataFrame({"entity_id": features["entity_id"], "minutes": model["minutes"]})


def put_features(
    store: ObjectStore, day: str, outcomes: dict[str, list[Any]], entities: Sequence[str] = ("a", "b")
) -> None:
    """Write features of two entities, or others."""
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
    """Put the archive of a model that predicts so many minutes, and return what names it."""
    save_model(folder, MODEL, {"minutes": minutes}, {}, Codecs())
    packed = io.BytesIO()
    with tarfile.open(fileobj=packed, mode="w:gz") as archive:
        for name in ("objects", "model.json"):
            archive.add(folder / name, arcname=name)
    store.put(key, packed.getvalue())
    return found_model(store, MODEL, key)


@pytest.fixture
def store(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> ObjectStore:
    """Give a bucket with schema, model and features of two days, of which the second knows one outcome."""
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
    """Return a function that says what happens while the batch is committed to Delta, instead of it."""

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


def of_another_attempt(store: ObjectStore) -> Manifest:
    """Return the manifest of the batch as its second attempt writes it."""
    manifest, _ = scored(store, attempt=2)
    del store.client.objects[manifest.key]
    return manifest


@pytest.mark.usefixtures("commits_as")
def test_the_second_day_is_corrected_by_what_became_of_the_first(store: ObjectStore) -> None:
    """The manifest names the previous batch, whose known outcome was five minutes later."""
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
def test_a_batch_that_the_load_would_refuse_is_not_delivered(
    store: ObjectStore, monkeypatch: pytest.MonkeyPatch, minutes: list[float], declared: Any, fault: str
) -> None:
    """Scoring fails before it writes any row, and tells the first rows and what is wrong with them."""
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
def test_each_row_of_features_has_a_prediction_and_no_other_has(
    store: ObjectStore, monkeypatch: pytest.MonkeyPatch, entities: list[str], fault: str
) -> None:
    """However many rows may be refused: these are not refused, but missing or of nobody."""
    returned = pd.DataFrame({"entity_id": pd.Series(entities, dtype="str"), "minutes": len(entities)})
    monkeypatch.setattr(ModelFunctions, "_function", lambda *_: lambda *_: returned)
    with pytest.raises(PredictionsError, match=fault):
        scored(store, quarantine_rows=10)
    assert not [key for key in store.client.objects if key.startswith("done/")]


@pytest.mark.usefixtures("commits_as")
def test_an_entity_that_is_scored_twice_is_refused_with_both_rows(
    store: ObjectStore, monkeypatch: pytest.MonkeyPatch
) -> None:
    """Nobody can tell which of them is right."""
    returned = pd.DataFrame({"entity_id": ["a", "b", "a"], "minutes": [1, 2, 3]})
    monkeypatch.setattr(ModelFunctions, "_function", lambda *_: lambda *_: returned)
    fault = r"2 of 3 rows .* 1 may be: 2 duplicate_key; row 1: another row has the same key; row 3: another"
    with pytest.raises(PredictionsError, match=fault):
        scored(store, quarantine_rows=1)
    manifest, _ = scored(store, attempt=2, quarantine_rows=2)
    assert manifest.row_count == 3


@pytest.mark.usefixtures("commits_as")
def test_a_partition_without_features_makes_no_batch(store: ObjectStore) -> None:
    """Nothing could be told from a batch that was lost."""
    put_features(store, DAY, {"partition": [], "entity_id": [], "late_minutes": []}, entities=[])
    with pytest.raises(PredictionsError, match=r"The batch has no rows"):
        scored(store, quarantine_rows=10)


@pytest.mark.usefixtures("commits_as")
def test_rows_that_the_model_tolerates_are_delivered(
    store: ObjectStore, monkeypatch: pytest.MonkeyPatch, caplog: pytest.LogCaptureFixture
) -> None:
    """The load quarantines them; the log of the job tells them already."""
    returned = pd.DataFrame({"entity_id": ["a", "b"], "minutes": [10.5, 11]}, dtype=object)
    monkeypatch.setattr(ModelFunctions, "_function", lambda *_: lambda *_: returned)
    manifest, _ = scored(store, quarantine_rate=Decimal("0.5"))
    assert manifest.row_count == 2
    assert "1 wrong_type; row 1: minutes has a fraction" in caplog.text


def minutes_of(store: ObjectStore, manifest: Manifest) -> set[int]:
    """Return what the rows of a batch predict."""
    lines = gzip.decompress(store.get(manifest.json_parts[0].key)).splitlines()
    return {json.loads(line)["minutes"] for line in lines}


@pytest.mark.usefixtures("commits_as")
def test_all_attempts_use_the_version_that_the_first_one_chose(
    store: ObjectStore, tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    """A promotion between them is for the next batch; the manifest names version, package and approver."""
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
def test_a_batch_may_be_scored_by_an_earlier_version(store: ObjectStore, tmp_path: Path) -> None:
    """It is named, and it was approved once; another attempt cannot name another one."""
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


def test_parts_come_before_the_delta_commit_and_the_manifest_last(
    store: ObjectStore, commits_as: Callable[[Callable[[], Any]], None]
) -> None:
    """While Delta is written all parts are there, and no done file is."""
    seen: list[set[str]] = []
    commits_as(lambda: seen.append(set(store.client.objects)))
    manifest, adopted = scored(store)
    assert not adopted
    assert {part.key for part in manifest.json_parts} <= seen[0]
    assert set(store.client.objects) - seen[0] == {done_key(MODEL, BATCH)}
    assert manifest.delta.version == 3


def test_a_manifest_that_appears_meanwhile_is_adopted_and_not_replaced(
    store: ObjectStore, commits_as: Callable[[Callable[[], Any]], None]
) -> None:
    """Of two attempts that come to the end at once, the first to put its manifest wins."""
    other = of_another_attempt(store)
    commits_as(lambda: store.put(other.key, other.to_bytes()))
    assert scored(store) == (other, True)
    assert store.get(other.key) == other.to_bytes()


def test_an_overtaken_attempt_adopts_the_manifest_or_fails(
    store: ObjectStore, commits_as: Callable[[Callable[[], Any]], None]
) -> None:
    """Without a manifest nobody knows whether the other attempt will come to its end."""
    other = of_another_attempt(store)

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
def test_a_manifest_whose_answer_was_lost_is_the_jobs_own(
    store: ObjectStore, monkeypatch: pytest.MonkeyPatch
) -> None:
    """S3 refuses the repeated put, and the job finds what it has written itself."""
    put_new = ObjectStore.put_new

    def lose_answer(store: ObjectStore, key: str, content: bytes) -> bool:
        return put_new(store, key, content) and not key.startswith("done/")

    monkeypatch.setattr(ObjectStore, "put_new", lose_answer)
    manifest, adopted = scored(store)
    assert not adopted
    assert store.get(manifest.key) == manifest.to_bytes()


@pytest.mark.usefixtures("commits_as")
def test_a_batch_of_another_partition_is_not_adopted(store: ObjectStore) -> None:
    """Its batch id was passed by mistake."""
    scored(store)
    with pytest.raises(ManifestConflictError, match=rf"m/{BATCH}: .* {DAY}, .* {NEXT_DAY}\. Pass another"):
        scored(store, partition=NEXT_DAY)


def test_an_error_names_the_batch_that_was_not_scored(
    store: ObjectStore, tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    """An input that is missing does not know which batch it is missed by."""
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
def test_a_model_that_was_trained_elsewhere_scores_without_training(
    store: ObjectStore, monkeypatch: pytest.MonkeyPatch
) -> None:
    """Its file's digest is the version, and the manifest names the file and its bucket."""
    monkeypatch.setattr(ModelFunctions, "_function", lambda *_: predicted_elsewhere)
    content = b'{"minutes":30}'
    digest = hashlib.sha256(content).hexdigest()
    # The stand-in knows one bucket.
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
