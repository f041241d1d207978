"""The processing job that prepares the features of one partition, or of several one after another."""

from __future__ import annotations

import logging
import sys
from collections.abc import Sequence
from pathlib import Path
from typing import Any

if __name__ == "__main__":
    # SageMaker starts this file by its path; the packages lie beside its folder.
    sys.path[0] = str(Path(__file__).resolve().parents[1])

import boto3

from prediction_batches.object_store import AWS_CONFIG, ObjectStore, storage_options
from prediction_contract.jobs.job_arguments import FeatureArguments
from sagemaker_scripts.container import Container, run_script
from sagemaker_scripts.dagster_report import report_to_dagster
from sagemaker_scripts.features.feature_store import FeatureFolder, FeatureSet, partitions_between
from sagemaker_scripts.features.preparation import write_partition
from sagemaker_scripts.functions.inputs_reading import read_inputs
from sagemaker_scripts.sources.source_tables import SourceTables

_LOG = logging.getLogger("prepare_features")


def prepare(arguments: FeatureArguments, store: ObjectStore) -> list[FeatureSet]:
    """Prepare and write the features of each partition, and return them in order.

    Raises:
        ContractError: A source is missing or wrong, or a function of the model failed or returned wrong rows.
    """
    inputs = read_inputs(store, arguments)
    first = arguments.due_partition()
    last = arguments.last_partition or first
    written = []
    with SourceTables(
        inputs, store, last=last, secret_text=_secret_text, storage_options=storage_options()
    ) as sources:
        for partition in partitions_between(first, last):
            folder = FeatureFolder(
                store, arguments.model, partition, arguments.run_id, arguments.code_version
            )
            written.append(write_partition(folder, inputs, sources))
            _LOG.info("%s: %d rows", partition, written[-1].rows)
    return written


def _secret_text(name: str) -> str:
    secrets = boto3.client("secretsmanager", config=AWS_CONFIG)
    return str(secrets.get_secret_value(SecretId=name)["SecretString"])


def main(argv: Sequence[str], container: Container) -> dict[str, Any]:
    """Prepare the features that the command line asks for; return what was written."""
    arguments = FeatureArguments.parse(argv)
    container.require_one_host()
    store = ObjectStore.of_job(arguments.bucket)
    with report_to_dagster(store, _LOG) as report:
        written = prepare(arguments, store)
        result = {
            "model": str(arguments.model),
            "first_partition": written[0].partition,
            "last_partition": written[-1].partition,
            "rows": sum(each.rows for each in written),
            "features_prefix": written[-1].prefix,
        }
        report.result(result)
    return result


if __name__ == "__main__":
    sys.exit(run_script(main))
