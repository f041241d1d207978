"""The processing job that plans a retraining and prepares missing features."""

from __future__ import annotations

import logging
import sys
from collections.abc import Sequence
from datetime import UTC, datetime
from pathlib import Path
from typing import Any

if __name__ == "__main__":
    # SageMaker starts this file by its path; the packages are in the parent of its folder.
    sys.path[0] = str(Path(__file__).resolve().parents[1])

import boto3

from prediction_batches.object_store import AWS_CONFIG, ObjectStore
from prediction_contract.jobs.retraining_arguments import PlanRetrainingArguments
from prediction_contract.naming.s3_layout import PLAN_NAME
from prediction_contract.registry.table import RegistryTable
from sagemaker_scripts.container import Container, run_script
from sagemaker_scripts.functions.inputs_reading import read_inputs
from sagemaker_scripts.retraining.retraining_planning import find_or_make_plan

_LOG = logging.getLogger("plan_retraining")
PLAN_OUTPUT = "plan"


def main(argv: Sequence[str], container: Container) -> dict[str, Any]:
    """Plan the retraining requested on the command line; return a summary of the plan."""
    arguments = PlanRetrainingArguments.parse(argv)
    container.require_one_host()
    store = ObjectStore.of_job(arguments.bucket)
    registry = RegistryTable(boto3.client("dynamodb", config=AWS_CONFIG), arguments.registry_table)
    plan = find_or_make_plan(
        arguments, store, registry, read_inputs(store, arguments), now=datetime.now(tz=UTC)
    )
    _LOG.info("learns from %s to %s", plan.first_partition, plan.last_partition)
    # SageMaker uploads the output to the plan's own key. All runs upload the same bytes, so their order does
    # not matter.
    container.write_output(PLAN_OUTPUT, PLAN_NAME, plan.to_bytes())
    return {
        "model": plan.model,
        "execution_id": plan.execution_id,
        "claimed_by": plan.claimed_by,
        "first_partition": plan.first_partition,
        "last_partition": plan.last_partition,
        "first_held_out": plan.first_held_out,
        "last_held_out": plan.last_held_out,
        "champion": None if plan.champion is None else plan.champion.version,
    }


if __name__ == "__main__":
    sys.exit(run_script(main))
