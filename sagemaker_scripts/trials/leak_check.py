"""Whether features of a partition change when all later data is taken away: if so, they saw the future."""

from __future__ import annotations

import tempfile
from pathlib import Path
from typing import Any

import pyarrow as pa

from sagemaker_scripts.object_store import ObjectStore
from sagemaker_scripts.trials.feature_comparison import differences
from sagemaker_scripts.trials.later_data import without_later_data
from sagemaker_scripts.trials.model_trial import ModelTrial
from sagemaker_scripts.trials.prepared_trial import TrialError, prepare
from sagemaker_scripts.trials.secrets_at_hand import secret_text
from sagemaker_scripts.trials.trial_request import TrialRequest


def leaks(request: TrialRequest) -> dict[str, Any]:
    """Return what later data changes in the features of a partition.

    Raises:
        ContractError: Data is missing or wrong, or a function failed.
    """
    if request.folder is None:
        raise TrialError(
            "Later data of a bucket cannot be taken away", remedy="Check for leaks on sample data"
        )
    trial = ModelTrial(request)
    partition = trial.partition()
    with tempfile.TemporaryDirectory() as scratch:
        then = Path(scratch) / "then"
        earlier = request.earlier_folder or request.folder
        taken = without_later_data(earlier, then, trial.inputs.sources, partition)
        with_later = _features(trial, request.store(), partition)
        without = _features(trial, request.store_at(then), partition)
    found = differences(with_later, without)
    return {
        "model": trial.inputs.model,
        "partition": partition,
        "rows": with_later.num_rows,
        "taken_away": taken._asdict(),
        "leaks": found,
    }


def _features(trial: ModelTrial, store: ObjectStore, partition: str) -> pa.Table:
    no_secret = secret_text(is_sample=True)
    prepared = prepare(trial.inputs, store, [partition], needed=partition, secret_text=no_secret)
    return prepared.features(partition)
