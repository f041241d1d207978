"""Checks for leaks: features and outcomes of a partition must not change when later data is removed."""

from __future__ import annotations

import tempfile
from pathlib import Path
from typing import Any

import pyarrow as pa

from prediction_batches.object_store import ObjectStore, storage_options
from sagemaker_scripts.functions.entity_rows import ENTITY, PARTITION
from sagemaker_scripts.sources.source_tables import SourceTables
from sagemaker_scripts.trials.feature_comparison import differences
from sagemaker_scripts.trials.later_data import count_files_not_delivered, without_later_data
from sagemaker_scripts.trials.later_times import LaterTimes, later_times
from sagemaker_scripts.trials.model_trial import ModelTrial
from sagemaker_scripts.trials.prepared_trial import TrialError, no_secret, prepare
from sagemaker_scripts.trials.trial_request import TrialRequest


def leaks(request: TrialRequest) -> dict[str, Any]:
    """Return the differences that later data makes in the features and outcomes of a partition.

    Raises:
        ContractError: Data is missing or invalid, or a function failed.
    """
    if request.folder is None:
        raise TrialError(
            "The check for leaks needs sample data, because it removes later data",
            remedy="Leave out --bucket",
        )
    trial = ModelTrial(request)
    partition = trial.partition()
    with tempfile.TemporaryDirectory() as scratch:
        then = Path(scratch) / "then"
        earlier = request.earlier_folder or request.folder
        sources = trial.inputs.sources
        taken = without_later_data(earlier, then, sources, partition)
        if request.earlier_folder is not None:
            held_back = count_files_not_delivered(request.folder, earlier, sources, partition)
            taken = taken._replace(files=taken.files + held_back)
        with_later = _prepared(trial, request.store(), partition)
        without = _prepared(trial, request.store_at(then), partition)
    found = [
        {"function": name, **each}
        for name in with_later
        for each in differences(with_later[name], without[name])
    ]
    return {
        "model": trial.inputs.model,
        "partition": partition,
        "rows": with_later["features"].num_rows,
        "taken_away": taken._asdict(),
        "later_times": [each._asdict() for each in _later_times(trial, request.store(), partition)],
        "leaks": found,
    }


def _later_times(trial: ModelTrial, store: ObjectStore, partition: str) -> list[LaterTimes]:
    with SourceTables(
        trial.inputs, store, last=partition, secret_text=no_secret, storage_options=storage_options()
    ) as sources:
        return later_times(trial.inputs.sources, sources.read(partition).tables, partition)


def _prepared(trial: ModelTrial, store: ObjectStore, partition: str) -> dict[str, pa.Table]:
    """Return the table of each function by its name; outcomes have the partition in their entity's key."""
    prepared = prepare(trial.inputs, store, [partition], needed=partition, secret_text=no_secret)
    found = {"features": prepared.features(partition)}
    outcomes = prepared.known_outcomes()
    if outcomes is not None:
        pairs = zip(outcomes[ENTITY].to_pylist(), outcomes[PARTITION].to_pylist(), strict=True)
        entities = pa.array([f"{entity} of {partition}" for entity, partition in pairs], pa.large_string())
        place = outcomes.column_names.index(ENTITY)
        found["outcomes"] = outcomes.set_column(place, ENTITY, entities).drop_columns(PARTITION)
    return found
