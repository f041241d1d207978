"""The processing job that scores a batch's features with a challenger, and compares the predictions.

It writes below `shadow/` and makes no batch, so nothing is loaded or published. The job may be killed at any
point and run again.
"""

from __future__ import annotations

import logging
import os
import sys
from collections.abc import Sequence
from pathlib import Path
from typing import Any

if __name__ == "__main__":
    # SageMaker starts this file by its path; the packages are in the parent of its folder.
    sys.path[0] = str(Path(__file__).resolve().parents[1])
    # As in score_batch.py.
    os.environ.setdefault("ARROW_DEFAULT_MEMORY_POOL", "jemalloc")

import boto3

from prediction_batches.object_store import AWS_CONFIG, ObjectStore
from prediction_contract.jobs.job_arguments import ScoreArguments
from prediction_contract.registry.table import RegistryTable
from sagemaker_scripts.batches.batch_attempt import attempt_of
from sagemaker_scripts.container import Container, run_script
from sagemaker_scripts.dagster_report import report_to_dagster
from sagemaker_scripts.scoring.challenger_scoring import score_challenger
from sagemaker_scripts.scoring.scoring_processes import ended_by_sigterm

_LOG = logging.getLogger("score_challenger")


def main(argv: Sequence[str], container: Container) -> dict[str, Any]:
    """Score the features of the batch named on the command line; return a summary of the comparison."""
    arguments = ScoreArguments.parse(argv)
    container.require_one_host()
    store = ObjectStore.of_job(arguments.bucket)
    attempt = attempt_of(arguments, container.processing_job(), store)
    _LOG.info("batch %s of %s, version %s", attempt.batch_id, attempt.partition, arguments.version)
    registry = RegistryTable(boto3.client("dynamodb", config=AWS_CONFIG), arguments.registry_table)
    with ended_by_sigterm(), report_to_dagster(store, _LOG) as report:
        compared = score_challenger(arguments, attempt, store, registry, report.message)
    return {
        name: compared[name]
        for name in ("model", "batch_id", "partition", "challenger", "rows_champion", "rows_challenger")
    }


if __name__ == "__main__":
    sys.exit(run_script(main))
