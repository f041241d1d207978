"""The training step of a retraining: the candidate learns from the planned features.

What it leaves in `/opt/ml/model` becomes `model.tar.gz`.
"""

from __future__ import annotations

import sys
from collections.abc import Sequence
from pathlib import Path
from typing import Any

if __name__ == "__main__":
    # SageMaker starts this file by its path; the packages lie beside its folder.
    sys.path[0] = str(Path(__file__).resolve().parents[1])

from prediction_batches.object_store import ObjectStore
from prediction_contract.jobs.retraining_arguments import RetrainingStepArguments
from sagemaker_scripts.container import Container, run_script
from sagemaker_scripts.retraining.candidate_training import train_candidate


def main(argv: Sequence[str], container: Container) -> dict[str, Any]:
    """Train the candidate that the command line asks for; return what is known of it."""
    arguments = RetrainingStepArguments.parse(argv)
    folder = container.root / "model"
    folder.mkdir(parents=True, exist_ok=True)
    return train_candidate(arguments, ObjectStore.of_job(arguments.bucket), folder)


if __name__ == "__main__":
    sys.exit(run_script(main, failure_file="failure"))
