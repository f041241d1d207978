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

from prediction_contract.jobs.job_arguments import FeatureArguments
from sagemaker_scripts.container import Container, run_script
from sagemaker_scripts.dagster_report import report_to_dagster
from sagemaker_scripts.features.feature_store import FeatureSet, partitions_between, write_feature_set
from sagemaker_scripts.features.raw_flights import RawFlights
from sagemaker_scripts.model_functions import model_functions
from sagemaker_scripts.object_store import ObjectStore

_LOG = logging.getLogger("prepare_features")


def prepare(arguments: FeatureArguments, store: ObjectStore) -> list[FeatureSet]:
    """Prepare and write the features of each partition, and return them in order.

    Raises:
        ContractError: Raw data is missing or wrong, or the model's function returned wrong rows.
    """
    functions = model_functions(arguments.functions)
    raw = RawFlights(store, arguments.raw_prefix)
    written = []
    first = arguments.due_partition()
    for partition in partitions_between(first, arguments.last_partition or first):
        schedule, history, sources = raw.of_partition(partition, arguments.history_days)
        written.append(
            write_feature_set(
                store,
                functions.features(schedule, history),
                model=arguments.model,
                partition=partition,
                run_id=arguments.run_id,
                code_version=arguments.code_version,
                raw=sources,
            )
        )
        _LOG.info("%s: %d rows from %d raw files", partition, written[-1].rows, len(sources))
    return written


def main(argv: Sequence[str], container: Container) -> dict[str, Any]:
    """Prepare the features that the command line asks for; return what was written."""
    arguments = FeatureArguments.parse(argv)
    container.processing_job()
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
        report(result)
    return result


if __name__ == "__main__":
    sys.exit(run_script(main))
