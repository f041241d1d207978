"""The processing job that scores a batch: JSON parts, one Delta commit, and last of all the manifest.

The output is the same whoever starts it. It may be killed at any point: the next attempt comes to the same
end, and one that finds the batch done stops and adopts it.
"""

from __future__ import annotations

import logging
import sys
from collections.abc import Iterator, Sequence
from contextlib import contextmanager
from datetime import UTC, datetime
from pathlib import Path
from typing import Any

if __name__ == "__main__":
    # SageMaker starts this file by its path; the packages lie beside its folder.
    sys.path[0] = str(Path(__file__).resolve().parents[1])

import boto3

from prediction_batches.delivery.done_file import ManifestConflictError, done_manifest
from prediction_batches.delta_commit import AttemptSupersededError, ModelTable
from prediction_batches.object_store import AWS_CONFIG, ObjectStore, storage_options
from prediction_contract.cleaning.row_cleaning import row_parser
from prediction_contract.jobs.job_arguments import ScoreArguments
from prediction_contract.jobs.model_inputs import ModelInputs
from prediction_contract.manifests.manifest import Inputs, Manifest, Producer, build_manifest
from prediction_contract.naming.s3_layout import done_key
from prediction_contract.registry.table import RegistryTable
from prediction_contract.rows.checksums import batch_checksum
from sagemaker_scripts.batches.batch_attempt import BatchAttempt, attempt_of
from sagemaker_scripts.batches.batch_rows import check_refused_rows, delta_rows, prediction_lines, write_parts
from sagemaker_scripts.batches.previous_batch import FindRecord, find_previous
from sagemaker_scripts.batches.previous_rows import previous_frame
from sagemaker_scripts.batches.schema_frame import read_columns
from sagemaker_scripts.codecs.known_codecs import Codecs
from sagemaker_scripts.container import Container, run_script
from sagemaker_scripts.dagster_report import report_to_dagster
from sagemaker_scripts.features.feature_store import feature_set
from sagemaker_scripts.functions.function_calls import ModelFunctions
from sagemaker_scripts.functions.inputs_reading import read_inputs
from sagemaker_scripts.learning.model_artifact import (
    TrainedModel,
    load_model,
    load_trained_elsewhere,
)
from sagemaker_scripts.learning.outcomes import PreparedTables, ScoredPartition, predictions_of

_LOG = logging.getLogger("score_batch")


def score(
    arguments: ScoreArguments,
    batch: BatchAttempt,
    store: ObjectStore,
    find_record: FindRecord,
    producer: Producer,
) -> tuple[Manifest, bool]:
    """Score a batch; return its manifest, and whether it was there before and is adopted.

    Args:
        arguments: The job's.
        batch: The batch, and which attempt at it this is.
        store: The bucket.
        find_record: Looks a batch up in the registry by model and batch id.
        producer: Whom the manifest names as the batch's producer.

    Raises:
        ContractError: An input is missing or wrong, too many rows do not fit the schema, another attempt has
            overtaken this one, or a done file that is not this batch's lies in its place.
    """
    model, partition, batch_id = arguments.model, batch.partition, batch.batch_id
    done = _own_manifest(model, batch, store)
    if done is not None:
        return done, True
    schema, cleaning = read_columns(store, arguments.schema_key)
    inputs = read_inputs(store, arguments)
    features = feature_set(store, model, partition, batch.features_prefix)
    trained = _trained_model(arguments, inputs, store)
    previous = find_previous(
        store,
        find_record,
        model=model,
        partition=partition,
        lookback=arguments.lookback,
        batch_id=batch_id,
    )
    predictions = predictions_of(
        ModelFunctions(inputs),
        partition,
        PreparedTables(
            features.read_features(store), features.read_outcomes(store) if inputs.outcomes else None
        ),
        trained.artifact,
        None
        if previous is None
        else ScoredPartition(previous.manifest.partition, previous_frame(store, previous)),
    )
    lines = prediction_lines(schema, predictions)
    parse_row = row_parser(schema, cleaning) if cleaning else None
    check_refused_rows(lines, arguments.tolerance, model=model, batch_id=batch_id, parse_row=parse_row)
    parts = write_parts(
        store, lines, model=model, partition=partition, batch_id=batch_id, attempt=batch.attempt
    )
    _LOG.info("%d rows in %d JSON parts", len(lines), len(parts))
    try:
        commit = ModelTable(store, model, schema, storage_options()).commit(
            delta_rows(schema, lines, batch_id),
            batch_id=batch_id,
            attempt=batch.attempt,
            still_wanted=lambda: store.find(done_key(model, batch_id)) is None,
        )
    except AttemptSupersededError:
        done = _own_manifest(model, batch, store)
        if done is None:
            raise
        return done, True
    _LOG.info("Delta version %d adds %d files", commit.version, len(commit.files))
    manifest = build_manifest(
        model=model,
        batch_id=batch_id,
        attempt=batch.attempt,
        partition=partition,
        bucket=store.bucket,
        created_at=datetime.now(UTC),
        model_version=trained.version,
        code_version=arguments.code_version,
        schema=schema,
        json_parts=parts,
        delta_version=commit.version,
        delta_files=commit.files,
        checksum=batch_checksum(line.checksum for line in lines),
        inputs=Inputs(features=features.inputs, model_artifact=trained.source),
        previous_batch_id=None if previous is None else previous.manifest.batch_id,
        producer=producer,
    )
    if store.put_new(manifest.key, manifest.to_bytes()):
        return manifest, False
    found = _own_manifest(model, batch, store)
    if found is None:
        raise ManifestConflictError(
            "The manifest was refused as existing, and then was gone",
            remedy="Start the next attempt, and find out who deletes manifests",
            model=model,
            batch_id=batch_id,
        )
    # The same one if the answer to our own put was lost.
    return found, found.digest != manifest.digest


def _trained_model(arguments: ScoreArguments, inputs: ModelInputs, store: ObjectStore) -> TrainedModel:
    codecs, elsewhere = Codecs(inputs.codecs), inputs.trained_elsewhere
    if elsewhere is None:
        return load_model(store, arguments.model, arguments.model_artifact_key, codecs)
    bucket = store if elsewhere.bucket is None else store.beside(elsewhere.bucket)
    return load_trained_elsewhere(bucket, arguments.model, elsewhere, codecs)


def _own_manifest(model: str, batch: BatchAttempt, store: ObjectStore) -> Manifest | None:
    return done_manifest(store, model, batch.batch_id, partition=batch.partition)


@contextmanager
def _named_in_errors(model: str, batch: BatchAttempt) -> Iterator[None]:
    """Tell of any error which batch it kept from being scored."""
    try:
        yield
    except Exception as error:
        error.add_note(
            f"Attempt {batch.attempt} at batch {batch.batch_id} of {model} for {batch.partition} ended so."
        )
        raise


def main(argv: Sequence[str], container: Container) -> dict[str, Any]:
    """Score the batch that the command line asks for; return what the done file says."""
    arguments = ScoreArguments.parse(argv)
    job = container.processing_job()
    store = ObjectStore.of_job(arguments.bucket)
    batch = attempt_of(arguments, job, store)
    _LOG.info("batch %s of %s, attempt %d", batch.batch_id, batch.partition, batch.attempt)
    registry = RegistryTable(boto3.client("dynamodb", config=AWS_CONFIG), arguments.registry_table)
    producer = Producer(job.name, job.arn) if job else Producer()
    with _named_in_errors(arguments.model, batch), report_to_dagster(store, _LOG) as report:
        manifest, adopted = score(arguments, batch, store, registry.batch, producer)
        result = {
            "model": str(manifest.model),
            "batch_id": str(manifest.batch_id),
            "partition": str(manifest.partition),
            "attempt": manifest.attempt,
            "adopted": adopted,
            "manifest_key": manifest.key,
            "manifest_digest": manifest.digest,
            "rows": manifest.row_count,
            "bytes": sum(part.bytes for part in manifest.json_parts),
            "checksum": manifest.checksum,
            "delta_version": manifest.delta.version,
            "model_version": manifest.model_version,
            "previous_batch_id": manifest.previous_batch_id,
        }
        report.result(result)
    return result


if __name__ == "__main__":
    sys.exit(run_script(main))
