"""The processing job that measures a published batch's accuracy, from the actual outcomes."""

from __future__ import annotations

import logging
import sys
from collections.abc import Sequence
from pathlib import Path
from typing import Any

if __name__ == "__main__":
    # SageMaker starts this file by its path; the packages are in the parent of its folder.
    sys.path[0] = str(Path(__file__).resolve().parents[1])

import boto3

from prediction_batches.delivery.done_file import done_manifest
from prediction_batches.object_store import AWS_CONFIG, ObjectStore
from prediction_contract.cleaning.cleaning_rules import recorded_cleaning
from prediction_contract.jobs.job_arguments import AccuracyArguments
from prediction_contract.manifests.measured_accuracy import MeasuredAccuracy
from prediction_contract.naming.s3_layout import accuracy_key
from prediction_contract.registry.table import RegistryTable
from sagemaker_scripts.accuracy.measuring import MeasuringError, measured_accuracy
from sagemaker_scripts.batches.previous_batch import FindRecord, PreviousBatch
from sagemaker_scripts.container import Container, run_script
from sagemaker_scripts.dagster_report import report_to_dagster
from sagemaker_scripts.functions.inputs_reading import read_inputs

_LOG = logging.getLogger("measure_accuracy")


def measure(arguments: AccuracyArguments, store: ObjectStore, find_record: FindRecord) -> MeasuredAccuracy:
    """Measure a batch and write its document; the same outcomes give the same document.

    Raises:
        ContractError: The batch is not done or no longer kept, or its accuracy cannot be measured.
    """
    manifest = done_manifest(store, arguments.model, arguments.batch_id)
    record = find_record(arguments.model, arguments.batch_id)
    if manifest is None or record is None:
        raise MeasuringError(
            "The batch is not done, or the registry does not know it",
            remedy="Measure a batch that was published",
            model=arguments.model,
            batch_id=arguments.batch_id,
        )
    batch = PreviousBatch(manifest, recorded_cleaning(record.cleaning))
    measured = measured_accuracy(arguments, store, read_inputs(store, arguments), batch)
    store.put(accuracy_key(arguments.model, manifest.partition, arguments.batch_id), measured.to_bytes())
    return measured


def main(argv: Sequence[str], container: Container) -> dict[str, Any]:
    """Measure the batch named on the command line; return a summary of its figures."""
    arguments = AccuracyArguments.parse(argv)
    container.require_one_host()
    store = ObjectStore.of_job(arguments.bucket)
    registry = RegistryTable(boto3.client("dynamodb", config=AWS_CONFIG), arguments.registry_table)
    with report_to_dagster(store, _LOG):
        measured = measure(arguments, store, registry.batch)
    return {
        "model": measured.model,
        "batch_id": measured.batch_id,
        "rows": measured.rows,
        "known_rows": measured.known_rows,
        **{metric.name: metric.value for metric in measured.metrics[:10]},
    }


if __name__ == "__main__":
    sys.exit(run_script(main))
