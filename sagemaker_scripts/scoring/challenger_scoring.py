"""Scores a batch's features and previous batch with a challenger, without making another batch."""

from __future__ import annotations

import json
from pathlib import Path
from tempfile import TemporaryDirectory
from typing import Any

from prediction_batches.delivery.done_file import done_manifest
from prediction_batches.object_store import ObjectStore
from prediction_contract.errors import ContractError
from prediction_contract.jobs.job_arguments import ScoreArguments
from prediction_contract.jobs.model_inputs import ModelInputs
from prediction_contract.manifests.manifest import Manifest
from prediction_contract.naming.batch import Partition
from prediction_contract.naming.s3_layout import (
    challenger_comparison_key,
    data_file_prefix,
    delta_table_prefix,
    shadow_prefix,
)
from sagemaker_scripts.batches.batch_attempt import BatchAttempt
from sagemaker_scripts.batches.previous_batch import PreviousBatch, usable_batch
from sagemaker_scripts.batches.schema_frame import read_columns
from sagemaker_scripts.features.feature_store import FeatureSet, feature_set
from sagemaker_scripts.functions.inputs_reading import read_inputs
from sagemaker_scripts.learning.registered_models import as_pinned_model, challenging_version
from sagemaker_scripts.scoring.challenger_comparison import (
    PredictedRows,
    column_distances,
    compared_metrics,
    outcomes_of,
    shared_numeric_columns,
)
from sagemaker_scripts.scoring.challenger_output import ChallengerOutput, data_keys
from sagemaker_scripts.scoring.host_shares import HostShares
from sagemaker_scripts.scoring.hosts import Hosts
from sagemaker_scripts.scoring.planning import ScoringRegistry, plan_of
from sagemaker_scripts.scoring.score_progress import ScoreProgress, SendMessage
from sagemaker_scripts.scoring.scoring_plan import ScoringPlan, find_or_make_plan
from sagemaker_scripts.scoring.share_scoring import ShareWork

_LARGEST_COMPARISON = 4 * 1024 * 1024


class ChallengerError(ContractError):
    """The batch's features cannot be scored with a challenger."""


def score_challenger(
    arguments: ScoreArguments,
    attempt: BatchAttempt,
    store: ObjectStore,
    registry: ScoringRegistry,
    send: SendMessage | None,
) -> dict[str, Any]:
    """Score a batch's features with the version in the arguments, and return the comparison.

    The process may be killed at any point and run again. An existing comparison is returned unchanged.

    Args:
        arguments: The arguments of a score job for the done batch; `version` is the challenger's version.
        attempt: The attempt to score the batch's features with the challenger.
        store: The data bucket.
        registry: The registry, read for the challenger and the previous batch.
        send: Sends progress to Dagster.

    Raises:
        ContractError: The batch is not done, one of its inputs is missing or altered, or the challenger
            fails.
    """
    model, version = arguments.model, arguments.version or 0
    key = challenger_comparison_key(model, version, attempt.partition, attempt.batch_id)
    content = store.find(key, largest=_LARGEST_COMPARISON)
    if content is not None:
        return json.loads(content)
    manifest = done_manifest(store, model, attempt.batch_id, partition=attempt.partition)
    if manifest is None:
        raise ChallengerError(
            "The batch is not done, so there is nothing to compare a challenger with",
            remedy="Name a batch that is done",
            model=model,
            batch_id=attempt.batch_id,
        )
    schema, cleaning = read_columns(store, arguments.schema_key)
    inputs = read_inputs(store, arguments)
    output = ChallengerOutput(
        bucket=store.bucket,
        model=manifest.model,
        partition=manifest.partition,
        batch_id=manifest.batch_id,
        attempt=attempt.attempt,
        schema=schema,
        has_unique_keys=True,
        version=version,
    )
    hosts, progress = Hosts.of_job(None), ScoreProgress("here", None, send)
    with TemporaryDirectory(prefix="challenger-") as name:
        folder = Path(name)

        def plan() -> ScoringPlan:
            return plan_of(
                arguments,
                store,
                inputs,
                features=_features(store, manifest),
                model=as_pinned_model(challenging_version(registry, model, version)),
                previous=_previous(store, registry, manifest),
                schema=schema,
                cleaning=cleaning,
                folder=folder,
            )

        with progress.step("plan", 0):
            settled = find_or_make_plan(store, output.prefix, plan)
        settled.require_for(arguments)
        work = ShareWork(arguments, attempt, output, schema, cleaning, settled, frozenset(), folder)
        HostShares(work, store, hosts, None, progress, is_done=lambda: False).write()
        with progress.step("compare", settled.rows):
            champion = PredictedRows(store, _data_files(manifest), folder)
            challenger = PredictedRows(store, data_keys(store, output.prefix), folder)
            document = {
                "model": str(model),
                "batch_id": str(manifest.batch_id),
                "partition": str(manifest.partition),
                "champion": manifest.model_package and manifest.model_package.version,
                "champion_digest": manifest.model_version,
                "challenger": version,
                "challenger_digest": settled.model.digest,
                "attempt": attempt.attempt,
                "rows_champion": manifest.row_count,
                "rows_challenger": output.rows([share.name for share in settled.shares], store),
                "columns": column_distances(
                    shared_numeric_columns(schema, manifest.schema), champion, challenger, manifest.row_count
                ),
                "earlier": _earlier(store, inputs, manifest, version, folder),
            }
    content = json.dumps(document, indent=1).encode()
    if not store.put_new(key, content):
        content = store.get(key, largest=_LARGEST_COMPARISON)
    return json.loads(content)


def _features(store: ObjectStore, manifest: Manifest) -> FeatureSet:
    """Return the features from which the batch was scored."""
    index = manifest.inputs.features[0].key if manifest.inputs.features else ""
    features = feature_set(store, manifest.model, manifest.partition, f"{index.rpartition('/')[0]}/")
    if [(each.key, each.sha256) for each in features.inputs] != [
        (each.key, each.sha256) for each in manifest.inputs.features
    ]:
        raise ChallengerError(
            f"The features below {features.prefix} were prepared again after the batch was scored",
            remedy="Score the partition as a new batch; the challenger is then scored beside it",
            model=manifest.model,
            batch_id=manifest.batch_id,
        )
    return features


def _previous(store: ObjectStore, registry: ScoringRegistry, manifest: Manifest) -> PreviousBatch | None:
    """Return the previous batch that was used when the batch was scored."""
    if manifest.previous_batch_id is None:
        return None
    found = usable_batch(store, registry.batch, manifest.model, manifest.previous_batch_id)
    if found is None:
        raise ChallengerError(
            f"Its previous batch {manifest.previous_batch_id} has been refused, retired or withdrawn since",
            remedy="Wait for the next batch; the challenger is then scored beside it",
            model=manifest.model,
            batch_id=manifest.batch_id,
        )
    return found


def _data_files(manifest: Manifest) -> list[str]:
    table = delta_table_prefix(manifest.model)
    return [f"{table}{path}" for path in manifest.delta.files]


def _earlier(
    store: ObjectStore, inputs: ModelInputs, manifest: Manifest, version: int, folder: Path
) -> dict[str, Any] | None:
    """Return both models' metrics on the partition before, whose outcomes are in this partition's features.

    Return None for a model without metrics, or if the challenger has not scored that partition.
    """
    if not inputs.metrics or not inputs.outcomes:
        return None
    before = Partition(manifest.partition).earlier(1)
    compared = _newest_comparison(store, manifest.model, version, before)
    scored = None if compared is None else done_manifest(store, manifest.model, compared["batch_id"])
    if compared is None or scored is None:
        return None
    files = _features(store, manifest).outcome_files
    batches = (batch for file in files for batch in file.fetched(store, folder).batches())
    outcomes = outcomes_of(batches, before)
    if outcomes is None:
        return None
    root = shadow_prefix(manifest.model, version, before)
    written = data_keys(store, f"{root}{data_file_prefix(scored.batch_id, compared['attempt'])}")
    sides = (_data_files(scored), written)
    champion, challenger = (PredictedRows(store, keys, folder) for keys in sides)
    metrics = compared_metrics(inputs.metrics, scored.schema, champion, challenger, outcomes)
    return {"partition": str(before), "batch_id": str(scored.batch_id), "metrics": metrics}


def _newest_comparison(
    store: ObjectStore, model: str, version: int, partition: Partition
) -> dict[str, Any] | None:
    """Return the challenger's newest comparison for a partition."""
    for name in sorted(store.folders(shadow_prefix(model, version, partition)), reverse=True):
        key = challenger_comparison_key(model, version, partition, name)
        content = store.find(key, largest=_LARGEST_COMPARISON)
        if content is not None:
            return json.loads(content)
    return None
