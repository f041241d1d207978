"""The training step of a retraining: trains the candidate on the planned features.

SageMaker packs its files in `/opt/ml/model` into `model.tar.gz`.
"""

from __future__ import annotations

import sys
from collections.abc import Sequence
from pathlib import Path
from typing import Any

if __name__ == "__main__":
    # SageMaker starts this file by its path; the packages are in the parent of its folder.
    sys.path[0] = str(Path(__file__).resolve().parents[1])

from prediction_batches.object_store import ObjectStore
from prediction_contract.jobs.retraining_arguments import RetrainingStepArguments
from sagemaker_scripts.container import Container, run_script
from sagemaker_scripts.retraining.candidate_training import train_candidate


def main(argv: Sequence[str], container: Container) -> dict[str, Any]:
    """Train the candidate requested on the command line; return a summary of it."""
    arguments = RetrainingStepArguments.parse(argv)
    folder = container.root / "model"
    folder.mkdir(parents=True, exist_ok=True)
    return train_candidate(arguments, ObjectStore.of_job(arguments.bucket), folder)


if __name__ == "__main__":
    sys.exit(run_script(main, failure_file="failure"))
