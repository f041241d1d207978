"""Features, training and scoring of both models as real jobs on the local stack."""

from __future__ import annotations

import gzip
import hashlib
import json
import uuid
from datetime import UTC, datetime
from typing import TYPE_CHECKING, Any

import pytest
from deltalake import DeltaTable

from prediction_contract.batch import mint_batch_id
from prediction_contract.canonical_json import batch_checksum
from prediction_contract.delta_table import check_delta_table
from prediction_contract.manifest import Manifest
from prediction_contract.row import row_contract
from prediction_contract.s3_layout import done_key
from tests.scoring.prediction_schemas import SCHEMAS
from tests.scoring.scoring_jobs import ScoringJobs, stack_options

if TYPE_CHECKING:
    from collections.abc import Mapping

    import pyarrow as pa

pytestmark = pytest.mark.stack

# A job that kills itself where the batch is in Delta and has no manifest yet.
KILLED = """
import os, signal, sys
from sagemaker_scripts import score_batch
from sagemaker_scripts.container import run_script
from sagemaker_scripts.object_store import ObjectStore

def die(store, key, content):
    assert key.startswith("done/")
    os.kill(os.getpid(), signal.SIGKILL)

ObjectStore.put_new = die
sys.exit(run_script(score_batch.main))
"""


def new_batch(model: str, partition: str) -> str:
    """Mint a batch id that no other test has."""
    return mint_batch_id(model, partition, uuid.uuid4().hex, datetime.now(UTC))


def json_rows(jobs: ScoringJobs, manifest: Manifest) -> dict[str, dict[str, Any]]:
    """Return the rows of a manifest's parts by entity, each part as the manifest says."""
    contract = row_contract(manifest.schema)
    rows = {}
    for part in manifest.json_parts:
        content = jobs.content(part.key)
        assert (len(content), hashlib.sha256(content).hexdigest()) == (part.bytes, part.sha256)
        accepted = [contract.accept(line) for line in gzip.decompress(content).splitlines()]
        assert len(accepted) == part.rows
        rows |= {row.key: {**row.values, "row_checksum": row.checksum} for row in accepted}
    return rows


def delta_at(jobs: ScoringJobs, model: str, version: int) -> DeltaTable:
    """Return a version of a model's Delta table."""
    uri = f"s3://{jobs.bucket}/predictions/{model}/delta/"
    return DeltaTable(uri, version=version, storage_options=stack_options(jobs.environment))


def delta_rows(table: pa.Table, batch_id: str) -> dict[str, dict[str, Any]]:
    """Return a batch's rows by entity."""
    rows = [row for row in table.to_pylist() if row.pop("batch_id") == batch_id]
    found = {row["entity_id"]: row for row in rows}
    assert len(found) == len(rows)
    return found


def check_batch(jobs: ScoringJobs, said: Mapping[str, Any]) -> Manifest:
    """Find JSON, Delta and manifest of a batch to hold the same rows, and return the manifest."""
    manifest = jobs.manifest(said["manifest_key"])
    assert said["manifest_digest"] == manifest.digest
    assert (said["rows"], said["checksum"]) == (manifest.row_count, manifest.checksum)
    rows = json_rows(jobs, manifest)
    assert len(rows) == manifest.row_count
    assert batch_checksum(row["row_checksum"] for row in rows.values()) == manifest.checksum
    table = delta_at(jobs, manifest.model, manifest.delta.version)
    assert delta_rows(table.to_pyarrow_table(), manifest.batch_id) == rows
    protocol = table.protocol()
    check_delta_table(
        manifest.schema,
        table_schema=table.schema().to_json(),
        reader_version=protocol.min_reader_version,
        writer_version=protocol.min_writer_version,
        partition_columns=table.metadata().partition_columns,
        settings=table.metadata().configuration,
    )
    in_files = table.to_pyarrow_dataset().files
    assert set(manifest.delta.files) <= {file.removeprefix("/") for file in in_files}
    return manifest


@pytest.mark.parametrize("model", sorted(SCHEMAS))
def test_every_model_beats_its_baseline_on_days_it_has_not_seen(
    jobs: ScoringJobs, trained: dict[str, dict[str, Any]], model: str
) -> None:
    """The training job's own evaluation on February says so, metric by metric, with its baselines."""
    prefix = f"models/{model}/{trained[model]['TrainingJobName']}/"
    evaluation = json.loads(jobs.content(f"{prefix}evaluation.json"))
    assert evaluation["trained_on"][1] < evaluation["evaluated_on"][0]
    for metric in evaluation["metrics"]:
        assert metric["beats_baselines"], metric
        baseline = metric["baselines"]["train_mean"]
        assert metric["value"] < baseline if metric["kind"] == "mae" else metric["value"] > baseline
    kinds = [metric["kind"] for metric in evaluation["metrics"]]
    assert kinds == (["mae", "roc_auc"] if model == "flight_delay" else ["mae"])
    metrics = json.loads(jobs.content(f"{prefix}metrics.json"))
    assert trained[model]["FinalMetricDataList"][0]["Value"] == pytest.approx(
        evaluation["metrics"][0]["value"]
    )
    assert metrics["rows"] > 1000


@pytest.mark.usefixtures("trained")
@pytest.mark.parametrize("model", sorted(SCHEMAS))
def test_two_days_are_scored_and_the_second_reads_the_first(jobs: ScoringJobs, model: str) -> None:
    """Both batches hold the same rows everywhere; the second names the first and is corrected by it."""
    batches = {day: new_batch(model, day) for day in ("2013-02-10", "2013-02-11")}
    said = {
        day: jobs.scored(jobs.score_arguments(model, day, batch_id=batch_id))
        for day, batch_id in batches.items()
    }
    manifests = [check_batch(jobs, answer) for answer in said.values()]
    first, second = manifests
    assert first.row_count > 40
    assert second.previous_batch_id == first.batch_id
    corrections = {row["correction_minutes"] for row in json_rows(jobs, second).values()}
    assert len(corrections) > 1
    assert None not in corrections
    assert {manifest.model_version for manifest in manifests} == {said["2013-02-10"]["model_version"]}
    assert first.inputs.model_artifact is not None
    for source in (*first.inputs.features, first.inputs.model_artifact):
        assert hashlib.sha256(jobs.content(source.key)).hexdigest() == source.sha256


@pytest.mark.usefixtures("trained")
def test_a_later_attempt_adopts_a_batch_that_is_done(jobs: ScoringJobs) -> None:
    """It ends well, says that it adopted, and writes nothing."""
    arguments = jobs.score_arguments(
        "airport_congestion", "2013-02-05", batch_id=new_batch("airport_congestion", "2013-02-05")
    )
    first = jobs.scored(arguments)
    again = jobs.scored(
        jobs.score_arguments("airport_congestion", "2013-02-05", batch_id=arguments.batch_id, attempt=2)
    )
    assert again == first | {"adopted": True}
    check_batch(jobs, again)


@pytest.mark.usefixtures("trained")
def test_a_job_killed_before_the_manifest_is_repeated_without_doubled_rows(jobs: ScoringJobs) -> None:
    """The next attempt replaces the batch's rows in Delta, and the killed attempt's number is used up."""
    model, day = "airport_congestion", "2013-02-06"
    batch_id = new_batch(model, day)
    jobs.upload_script("killed.py", KILLED)
    arguments = jobs.score_arguments(model, day, batch_id=batch_id)
    killed = jobs.end(jobs.start_processing("killed.py", arguments))
    assert killed["ProcessingJobStatus"] == "Failed"
    assert "exit code: 137" in killed["FailureReason"]
    with pytest.raises(jobs.client("s3").exceptions.NoSuchKey):
        jobs.content(done_key(model, batch_id))

    same = jobs.end(jobs.start_processing("sagemaker_scripts/score_batch.py", arguments))
    assert same["ProcessingJobStatus"] == "Failed"
    assert "Start the next attempt" in same["ExitMessage"]

    manifest = check_batch(jobs, jobs.scored(jobs.score_arguments(model, day, batch_id=batch_id, attempt=2)))
    assert manifest.attempt == 2
    head = DeltaTable(
        f"s3://{jobs.bucket}/predictions/{model}/delta/", storage_options=stack_options(jobs.environment)
    )
    assert len(delta_rows(head.to_pyarrow_table(), batch_id)) == manifest.row_count


@pytest.mark.usefixtures("trained")
def test_a_job_that_nobody_gave_a_batch_mints_its_own(jobs: ScoringJobs) -> None:
    """Outside Dagster the job's own creation is the intent, and two jobs are two batches."""
    arguments = jobs.score_arguments("airport_congestion", "2013-02-07", lookback=0)
    before = datetime.now(UTC).replace(microsecond=0)
    manifests = [check_batch(jobs, jobs.scored(arguments)) for _ in range(2)]
    assert len({manifest.batch_id for manifest in manifests}) == 2
    for manifest in manifests:
        assert manifest.batch_id.minted_at >= before
        assert manifest.producer.job_arn is not None
        assert manifest.producer.job_arn.endswith(f"/{manifest.producer.job_name}")


@pytest.mark.usefixtures("trained")
def test_a_job_without_its_features_fails_and_says_what_to_do(jobs: ScoringJobs) -> None:
    """A day that nobody prepared is named in the job's failure."""
    arguments = jobs.score_arguments("flight_delay", "2013-02-25")
    job = jobs.end(jobs.start_processing("sagemaker_scripts/score_batch.py", arguments))
    assert job["ProcessingJobStatus"] == "Failed"
    assert "no features of 2013-02-25" in job["FailureReason"]
    assert "Run the features job" in job["FailureReason"]
