"""The processing job that prepares the features of one or several partitions, one after another."""

from __future__ import annotations

import logging
import sys
from collections.abc import Sequence
from pathlib import Path
from typing import Any

if __name__ == "__main__":
    # SageMaker starts this file by its path; the packages are in the parent of its folder.
    sys.path[0] = str(Path(__file__).resolve().parents[1])

from prediction_batches.object_store import ObjectStore
from prediction_contract.jobs.job_arguments import FeatureArguments
from sagemaker_scripts.container import Container, run_script
from sagemaker_scripts.dagster_report import report_to_dagster
from sagemaker_scripts.features.feature_store import FeatureSet, partitions_between
from sagemaker_scripts.features.preparation import write_partitions
from sagemaker_scripts.functions.inputs_reading import read_inputs

_LOG = logging.getLogger("prepare_features")


def prepare(arguments: FeatureArguments, store: ObjectStore) -> list[FeatureSet]:
    """Prepare and write the features of each partition, and return them in order.

    Raises:
        ContractError: A source is missing or invalid, or a function of the model failed or returned invalid
            rows.
    """
    first = arguments.due_partition()
    return write_partitions(
        read_inputs(store, arguments),
        store,
        partitions_between(first, arguments.last_partition or first),
        run_id=arguments.run_id,
        code_version=arguments.code_version,
    )


def main(argv: Sequence[str], container: Container) -> dict[str, Any]:
    """Prepare the features requested on the command line; return a summary of what was written."""
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
