"""The processing job that compares the candidate of a retraining with the champion."""

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
from prediction_contract.jobs.retraining_arguments import JudgeArguments
from prediction_contract.naming.s3_layout import VERDICT_NAME
from sagemaker_scripts.container import Container, run_script
from sagemaker_scripts.functions.inputs_reading import read_inputs
from sagemaker_scripts.retraining.judging import find_or_make_verdict

_LOG = logging.getLogger("judge_models")
VERDICT_OUTPUT = "verdict"
_LONGEST_REASON = 500


def main(argv: Sequence[str], container: Container) -> dict[str, Any]:
    """Judge the candidate named on the command line; return a summary of the verdict."""
    arguments = JudgeArguments.parse(argv)
    container.require_one_host()
    store = ObjectStore.of_job(arguments.bucket)
    verdict = find_or_make_verdict(arguments, store, read_inputs(store, arguments))
    _LOG.info("%s", verdict.reason)
    # SageMaker uploads the output to the verdict's own key. All runs upload the same bytes, so their order
    # does not matter.
    container.write_output(VERDICT_OUTPUT, VERDICT_NAME, verdict.to_bytes())
    return {
        "model": verdict.model,
        "execution_id": verdict.execution_id,
        "candidate": verdict.candidate_digest,
        "champion_version": verdict.champion_version,
        "better": verdict.better,
        "worse_slices": verdict.worse_slices,
        "approval": verdict.approval,
        "reason": verdict.reason[:_LONGEST_REASON],
    }


if __name__ == "__main__":
    sys.exit(run_script(main))
