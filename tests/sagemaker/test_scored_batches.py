"""Tests of features, training and scoring of both example models as real jobs on the local stack."""

from __future__ import annotations

import gzip
import hashlib
import json
import time
import uuid
from datetime import UTC, datetime
from typing import TYPE_CHECKING, Any

import pytest
from deltalake import DeltaTable

from infra.code_upload import upload_code, upload_documents
from infra.definitions.scoring_pipeline import (
    FEATURES_STEP,
    SCHEDULED_AT,
    SCORE_STEP,
    pipeline_definition,
)
from infra.packaging import build_sagemaker_code
from infra.provisioned_models import provisioned_models
from mlpipe_dagster.done_files.registration import manifest_facts
from prediction_batches.object_store import ObjectStore
from prediction_contract.jobs.job_arguments import AccuracyArguments
from prediction_contract.manifests.manifest import Manifest
from prediction_contract.manifests.measured_accuracy import MeasuredAccuracy
from prediction_contract.naming.batch import mint_batch_id
from prediction_contract.naming.resource_names import Deployment
from prediction_contract.naming.s3_layout import accuracy_key, challenger_comparison_key, done_key
from prediction_contract.registry.manifest_rules import register_batch
from prediction_contract.registry.table import RegistryTable
from prediction_contract.rows.checksums import batch_checksum
from prediction_contract.rows.row_contract import row_contract
from prediction_contract.stores.delta_table import check_delta_table
from sagemaker_scripts.features.feature_store import feature_set, partitions_between
from tests.infra.sagemaker_models import DAILY, write_models
from tests.sagemaker.declared_models import SCHEMAS, TRAINING
from tests.sagemaker.scoring_jobs import LAST_JUDGED, LAST_PREPARED, ScoringJobs, stack_options

if TYPE_CHECKING:
    from collections.abc import Mapping
    from pathlib import Path

    import pyarrow as pa

    from tests.sagemaker.retraining.retraining_jobs import Retrained

pytestmark = pytest.mark.stack

# A job that kills itself after the Delta commit, before it writes the manifest.
KILLED = """
import os, signal, sys
from sagemaker_scripts import score_batch
from sagemaker_scripts.container import run_script
from prediction_batches.object_store import ObjectStore

put_new = ObjectStore.put_new

def die(store, key, content):
    if key.startswith("done/"):
        os.kill(os.getpid(), signal.SIGKILL)
    return put_new(store, key, content)

ObjectStore.put_new = die
sys.exit(run_script(score_batch.main))
"""
# The same job without the kill.
REPEATED = """
import sys
from sagemaker_scripts import score_batch
from sagemaker_scripts.container import run_script

sys.exit(run_script(score_batch.main))
"""
EXECUTION_SECONDS = 240


def new_batch(model: str, partition: str) -> str:
    """Mint a batch id that no other test has."""
    return mint_batch_id(model, partition, uuid.uuid4().hex, datetime.now(UTC))


def json_rows(jobs: ScoringJobs, manifest: Manifest) -> dict[str, dict[str, Any]]:
    """Return the rows of a manifest's parts by entity, after checking each part."""
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
    """Require that JSON, Delta and manifest of a batch hold the same rows, and return the manifest."""
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


@pytest.fixture(scope="module")
def two_days(jobs: ScoringJobs, trained: dict[str, Retrained]) -> dict[str, list[dict[str, Any]]]:
    """Score two consecutive days of both models, and give the jobs' messages by model."""
    said: dict[str, list[dict[str, Any]]] = {model: [] for model in trained}
    for day in ("2013-02-13", "2013-02-14"):
        names = {
            model: jobs.start_processing(
                "sagemaker_scripts/score_batch.py",
                jobs.score_arguments(model, day, batch_id=new_batch(model, day)),
            )
            for model in said
        }
        for model, name in names.items():
            said[model].append(json.loads(jobs.completed(name)["ExitMessage"]))
    return said


def test_job_measures_accuracy_of_a_batch(
    jobs: ScoringJobs, two_days: dict[str, list[dict[str, Any]]]
) -> None:
    """The job measures a batch by outcomes of later days; cancelled flights have none."""
    said = two_days["flight_delay"][0]
    manifest = jobs.manifest(said["manifest_key"])
    table = jobs.environment["MLPIPE_REGISTRY_TABLE"]
    registry = RegistryTable(jobs.client("dynamodb"), table)
    registry.carry_out(lambda: register_batch(manifest_facts(manifest), None))
    arguments = AccuracyArguments(
        model=manifest.model,
        bucket=jobs.bucket,
        batch_id=manifest.batch_id,
        registry_table=table,
        inputs_key=jobs.inputs_key(manifest.model),
        code_version=manifest.code_version,
    )
    job = jobs.completed(jobs.start_processing("sagemaker_scripts/measure_accuracy.py", arguments))
    message = json.loads(job["ExitMessage"])
    key = accuracy_key(manifest.model, manifest.partition, manifest.batch_id)
    measured = MeasuredAccuracy.parse(jobs.content(key))
    assert (measured.rows, measured.known_rows) == (message["rows"], message["known_rows"])
    assert measured.rows == manifest.row_count
    assert 0.9 * measured.rows < measured.known_rows < measured.rows
    mae, auc = measured.metrics
    assert 5 < (mae.value or 0) < 60
    assert 0.5 < (auc.value or 0) < 1


@pytest.mark.parametrize("model", sorted(SCHEMAS))
def test_models_beat_baselines_on_held_out_days(
    jobs: ScoringJobs, trained: dict[str, Retrained], model: str
) -> None:
    """Each metric of the verdict beats its baselines on days after the training window."""
    plan, verdict = trained[model]
    learned, held_out = (
        partitions_between(str(first), str(last))
        for first, last in (
            (plan.first_partition, plan.last_partition),
            (plan.first_held_out, plan.last_held_out),
        )
    )
    declared = TRAINING[model]
    assert (len(learned), len(held_out)) == (declared.window, declared.held_out)
    assert learned[-1].later(declared.gap + 1) == held_out[0]
    assert (held_out[-1], plan.features[-1].partition) == (LAST_JUDGED, LAST_PREPARED)
    assert (verdict.better, verdict.champion_version) == (1, 0)
    store = ObjectStore(jobs.client("s3"), jobs.bucket)
    predicted = sum(
        feature_set(store, model, each.partition, each.prefix).rows
        for each in plan.features
        if each.partition in held_out
    )
    for metric in verdict.metrics:
        assert metric.beats_baselines, metric
        assert metric.baselines
        for baseline in metric.baselines.values():
            is_better = (
                metric.candidate < baseline if metric.better == "lower" else metric.candidate > baseline
            )
            assert is_better, metric
        # Only cancelled flights have no outcome.
        assert 0.9 * predicted < metric.rows <= predicted
    assert [metric.name for metric in verdict.metrics] == (
        ["mae:expected_delay_minutes", "roc_auc:delay_probability"]
        if model == "flight_delay"
        else ["mae:expected_departure_delay_minutes"]
    )


@pytest.mark.parametrize("model", sorted(SCHEMAS))
def test_second_day_is_corrected_by_the_first(
    jobs: ScoringJobs, two_days: dict[str, list[dict[str, Any]]], model: str
) -> None:
    """Both batches hold the same rows in JSON and Delta, and the second is corrected by the first."""
    first, second = (check_batch(jobs, said) for said in two_days[model])
    assert first.row_count > 40
    assert first.previous_batch_id is None
    assert second.previous_batch_id == first.batch_id
    assert {row["correction_minutes"] for row in json_rows(jobs, first).values()} == {None}
    corrections = {row["correction_minutes"] for row in json_rows(jobs, second).values()}
    assert len(corrections) > 1
    assert None not in corrections
    assert first.model_version == second.model_version
    assert first.model_package == second.model_package is not None
    assert first.inputs.model_artifact is not None
    for source in (*first.inputs.features, first.inputs.model_artifact):
        assert hashlib.sha256(jobs.content(source.key)).hexdigest() == source.sha256


def test_later_attempt_adopts_a_done_batch(
    jobs: ScoringJobs, two_days: dict[str, list[dict[str, Any]]]
) -> None:
    """The attempt succeeds, reports that it adopted the batch, and writes nothing."""
    first = two_days["airport_congestion"][1]
    folder = {
        "Bucket": jobs.bucket,
        "Prefix": f"predictions/airport_congestion/json/dt={first['partition']}/",
    }
    before = jobs.client("s3").list_objects_v2(**folder)["Contents"]
    again = jobs.scored(
        jobs.score_arguments("airport_congestion", first["partition"], batch_id=first["batch_id"], attempt=2)
    )
    assert again == first | {"adopted": True}
    after = jobs.client("s3").list_objects_v2(**folder)["Contents"]
    assert [(item["Key"], item["LastModified"]) for item in after] == [
        (item["Key"], item["LastModified"]) for item in before
    ]


def test_champion_as_challenger_predicts_the_same(
    jobs: ScoringJobs, two_days: dict[str, list[dict[str, Any]]]
) -> None:
    """A challenger equal to the champion has the same predictions and metrics, and leaves no batch."""
    model, bucket = "airport_congestion", ObjectStore(jobs.client("s3"), jobs.bucket)
    batches = {prefix: bucket.listing(prefix) for prefix in ("done/", f"predictions/{model}/")}
    compared = []
    for said in two_days[model]:
        day, batch_id = said["partition"], said["batch_id"]
        arguments = jobs.score_arguments(model, day, batch_id=batch_id, version=1)
        job = jobs.completed(jobs.start_processing("sagemaker_scripts/score_challenger.py", arguments))
        assert json.loads(job["ExitMessage"])["rows_challenger"] == said["rows"]
        key = challenger_comparison_key(model, 1, day, batch_id)
        compared.append(json.loads(jobs.content(key)))
    for each in compared:
        assert each["columns"]
        assert {column["stability_index"] for column in each["columns"]} == {0.0}
    earlier = compared[1]["earlier"]
    assert earlier["batch_id"] == two_days[model][0]["batch_id"]
    for metric in earlier["metrics"]:
        assert metric["rows"] > 40
        assert metric["champion"] == metric["challenger"] != 0
    assert {prefix: bucket.listing(prefix) for prefix in batches} == batches


@pytest.mark.usefixtures("trained")
def test_job_killed_before_manifest_repeats_without_duplicates(jobs: ScoringJobs) -> None:
    """The next attempt replaces the killed one's rows in Delta."""
    model, day = "airport_congestion", "2013-02-06"
    batch_id = new_batch(model, day)
    jobs.upload_script("killed.py", KILLED)
    arguments = jobs.score_arguments(model, day, batch_id=batch_id)
    killed = jobs.end(jobs.start_processing("killed.py", arguments))
    assert killed["ProcessingJobStatus"] == "Failed"
    assert "exit code: 137" in killed["FailureReason"]
    with pytest.raises(jobs.client("s3").exceptions.NoSuchKey):
        jobs.content(done_key(model, batch_id))
    uri = f"s3://{jobs.bucket}/predictions/{model}/delta/"
    killed_rows = DeltaTable(uri, storage_options=stack_options(jobs.environment)).to_pyarrow_table()
    assert len(delta_rows(killed_rows, batch_id)) > 40

    manifest = check_batch(jobs, jobs.scored(jobs.score_arguments(model, day, batch_id=batch_id, attempt=2)))
    assert manifest.attempt == 2
    head = DeltaTable(uri, storage_options=stack_options(jobs.environment))
    assert len(delta_rows(head.to_pyarrow_table(), batch_id)) == manifest.row_count


@pytest.mark.usefixtures("trained")
def test_job_without_batch_id_mints_one(jobs: ScoringJobs) -> None:
    """Outside Dagster a job mints its own batch id, and the manifest names the job."""
    arguments = jobs.score_arguments("airport_congestion", "2013-02-07", lookback=0)
    before = datetime.now(UTC).replace(microsecond=0)
    manifest = check_batch(jobs, jobs.scored(arguments))
    assert before <= manifest.batch_id.minted_at <= datetime.now(UTC)
    assert manifest.previous_batch_id is None
    assert manifest.producer.job_arn is not None
    assert manifest.producer.job_arn.endswith(f"/{manifest.producer.job_name}")


class ScoringPipeline:
    """The scoring pipeline of a model as a deployment creates it.

    Args:
        jobs: The jobs of the stack that it runs on.
        definition: The definition of the pipeline.
    """

    def __init__(self, jobs: ScoringJobs, definition: dict[str, Any]) -> None:
        self._client = jobs.client("sagemaker")
        self._name = f"scoring-{uuid.uuid4().hex}"
        self._client.create_pipeline(
            PipelineName=self._name,
            RoleArn=jobs.environment["MLPIPE_SAGEMAKER_ROLE_ARN"],
            PipelineDefinition=json.dumps(definition),
        )

    def start(self, tick: str) -> str:
        """Start an execution for a tick as the schedule does, and return its ARN."""
        parameters = [{"Name": SCHEDULED_AT, "Value": tick}]
        answer = self._client.start_pipeline_execution(PipelineName=self._name, PipelineParameters=parameters)
        return answer["PipelineExecutionArn"]

    def retry(self, arn: str) -> None:
        """Retry a failed execution at the step that failed."""
        self._client.retry_pipeline_execution(PipelineExecutionArn=arn)

    def end(self, arn: str) -> tuple[str, dict[str, dict[str, Any]]]:
        """Wait until an execution ends; return its status and the last job of each step."""
        deadline = time.monotonic() + EXECUTION_SECONDS
        while (status := self._status(arn)) == "Executing":
            assert time.monotonic() < deadline, f"{arn} did not end within {EXECUTION_SECONDS} s"
            time.sleep(0.25)
        steps = self._client.list_pipeline_execution_steps(PipelineExecutionArn=arn)["PipelineExecutionSteps"]
        arns = {step["StepName"]: step["Metadata"]["ProcessingJob"]["Arn"] for step in steps}
        return status, {
            step: self._client.describe_processing_job(ProcessingJobName=job.rsplit("/", 1)[-1])
            for step, job in arns.items()
        }

    def _status(self, arn: str) -> str:
        return self._client.describe_pipeline_execution(PipelineExecutionArn=arn)["PipelineExecutionStatus"]


@pytest.fixture
def definition(jobs: ScoringJobs, trained: dict[str, Retrained], tmp_path: Path) -> dict[str, Any]:
    """Give a model's pipeline definition, with code and documents uploaded as by a deployment."""
    assert trained
    environment = jobs.environment
    deployment = Deployment("local", environment["MLPIPE_ACCOUNT_ID"], environment["AWS_REGION"])
    project = write_models(tmp_path / "project")
    declared = provisioned_models(project)
    (scoring,) = [each.scheduled for each in declared if each.name == DAILY]
    assert scoring is not None
    upload_code(jobs.client("s3"), deployment, project, tmp_path)
    upload_documents(jobs.client("s3"), deployment, declared)
    digest = build_sagemaker_code(project, tmp_path).digest
    return pipeline_definition(deployment, scoring, code_digest=digest)


def test_scheduled_execution_scores_the_due_partition(jobs: ScoringJobs, definition: dict[str, Any]) -> None:
    """The batch uses the features that the execution prepared, and repeating the score job adopts it."""
    pipeline = ScoringPipeline(jobs, definition)
    arn = pipeline.start("2013-02-20T05:30:00Z")
    status, ended = pipeline.end(arn)
    assert status == "Succeeded", ended
    assert ended.keys() == {FEATURES_STEP, SCORE_STEP}
    execution_id, scored = arn.rsplit("/", 1)[-1], ended[SCORE_STEP]
    said = json.loads(scored["ExitMessage"])
    manifest = check_batch(jobs, said)
    assert (manifest.model, manifest.partition, manifest.attempt) == (DAILY, "2013-02-19", 1)
    assert manifest.row_count > 500
    prefix = f"features/{DAILY}/dt=2013-02-19/run={execution_id}/"
    assert {source.key.rpartition("/")[0] for source in manifest.inputs.features} == {prefix[:-1]}
    assert manifest.producer.job_name == scored["ProcessingJobName"]
    (step,) = [step for step in definition["Steps"] if step["Name"] == SCORE_STEP]
    again = {member: scored[member] for member in step["Arguments"] if member != "Tags"}
    name = f"again-{uuid.uuid4().hex}"
    jobs.client("sagemaker").create_processing_job(ProcessingJobName=name, **again)
    assert json.loads(jobs.completed(name)["ExitMessage"]) == said | {"adopted": True}


def test_retried_step_makes_no_second_batch(jobs: ScoringJobs, definition: dict[str, Any]) -> None:
    """SageMaker retries a step as a job with another name, which continues the killed job's batch."""
    (step,) = [step for step in definition["Steps"] if step["Name"] == SCORE_STEP]
    code = step["Arguments"]["ProcessingInputs"][0]["S3Input"]
    code["S3Uri"] = f"s3://{jobs.bucket}/{jobs.prefix}/files/"
    step["Arguments"]["AppSpecification"]["ContainerEntrypoint"][1] = f"{code['LocalPath']}/repeated.py"
    jobs.upload_script("repeated.py", KILLED)
    pipeline = ScoringPipeline(jobs, definition)
    arn = pipeline.start("2013-02-22T05:30:00Z")
    status, ended = pipeline.end(arn)
    assert status == "Failed"
    killed = ended[SCORE_STEP]
    assert "exit code: 137" in killed["FailureReason"]
    folder = f"features/{DAILY}/dt=2013-02-21/run={arn.rsplit('/', 1)[-1]}"
    first = json.loads(jobs.content(f"{folder}/score-1.json"))
    jobs.upload_script("repeated.py", REPEATED)
    pipeline.retry(arn)
    status, ended = pipeline.end(arn)
    assert status == "Succeeded", ended
    manifest = check_batch(jobs, json.loads(ended[SCORE_STEP]["ExitMessage"]))
    assert (manifest.batch_id, manifest.attempt) == (first["batch_id"], 2)
    assert first["job"] == killed["ProcessingJobArn"]


def test_tick_after_the_last_partition_fails(jobs: ScoringJobs, definition: dict[str, Any]) -> None:
    """The features job fails and names the partition, instead of scoring one that Dagster does not know."""
    pipeline = ScoringPipeline(jobs, definition)
    status, ended = pipeline.end(pipeline.start("2014-01-02T05:30:00Z"))
    assert status == "Failed"
    assert ended.keys() == {FEATURES_STEP}
    assert (
        "2014-01-01 is due then, but is not a partition of flight_delay"
        in ended[FEATURES_STEP]["FailureReason"]
    )
