"""Makes an attempt's plan from the data that exists when its first host begins."""

from __future__ import annotations

from pathlib import Path
from typing import Protocol

from prediction_batches.delivery.done_file import done_manifest
from prediction_batches.object_store import ObjectStore
from prediction_contract.cleaning.cleaning_rules import Cleaning
from prediction_contract.jobs.job_arguments import ScoreArguments
from prediction_contract.jobs.model_inputs import ModelInputs
from prediction_contract.jobs.pinned_model import PinnedModel
from prediction_contract.registry.records import BatchRecord
from prediction_contract.rows.schema import PredictionSchema
from sagemaker_scripts.batches.batch_attempt import BatchAttempt
from sagemaker_scripts.batches.key_buckets import bucket_count
from sagemaker_scripts.batches.previous_batch import PreviousBatch, find_previous
from sagemaker_scripts.features.feature_store import FeatureSet, feature_set
from sagemaker_scripts.learning.registered_models import VersionRegistry
from sagemaker_scripts.scoring.pinning import pinned_model
from sagemaker_scripts.scoring.scoring_plan import (
    PlannedPrevious,
    ScoringPlan,
    ScoringPlanError,
)
from sagemaker_scripts.scoring.shares import Share, shares_of_buckets, shares_of_groups

_CHUNK_ROWS = 100_000
# The maximum bytes of a chunk's features and predictions in Arrow. pandas and JSON take several times as
# much.
_CHUNK_BYTES = 32 * 1024 * 1024
_PREDICTED_VALUE_BYTES = 24
_ROWS_LOOKED_AT = 1000


class ScoringRegistry(VersionRegistry, Protocol):
    """The part of the registry that a plan reads."""

    def batch(self, model: str, batch_id: str) -> BatchRecord | None:
        """Return a batch's record, or None."""
        ...


def make_plan(
    arguments: ScoreArguments,
    batch: BatchAttempt,
    store: ObjectStore,
    inputs: ModelInputs,
    *,
    schema: PredictionSchema,
    cleaning: Cleaning,
    registry: ScoringRegistry,
    folder: Path,
) -> ScoringPlan:
    """Return a plan for the existing features, model and previous batch.

    Args:
        arguments: The job's arguments.
        batch: The attempt.
        store: The bucket.
        inputs: The model's inputs.
        schema: The predictions' schema.
        cleaning: The load's cleaning rules.
        registry: The registry, read for earlier batches and the model.
        folder: The folder for local copies of features.

    Raises:
        ContractError: Features or model are missing or invalid.
    """
    features = feature_set(store, arguments.model, batch.partition, batch.features_prefix)
    model = pinned_model(arguments, batch, store, inputs, registry)
    previous = find_previous(
        store,
        registry.batch,
        model=arguments.model,
        partition=batch.partition,
        lookback=arguments.lookback,
        batch_id=batch.batch_id,
    )
    return plan_of(
        arguments,
        store,
        inputs,
        features=features,
        model=model,
        previous=previous,
        schema=schema,
        cleaning=cleaning,
        folder=folder,
    )


def plan_of(
    arguments: ScoreArguments,
    store: ObjectStore,
    inputs: ModelInputs,
    *,
    features: FeatureSet,
    model: PinnedModel,
    previous: PreviousBatch | None,
    schema: PredictionSchema,
    cleaning: Cleaning,
    folder: Path,
) -> ScoringPlan:
    """Return the plan for scoring features with a model.

    Args:
        arguments: The job's arguments.
        store: The bucket.
        inputs: The model's inputs.
        features: The features to score.
        model: The model that scores.
        previous: The previous batch; None if there is none.
        schema: The predictions' schema.
        cleaning: The load's cleaning rules.
        folder: The folder for local copies of features.
    """
    chunk_rows = arguments.chunk_rows or _chunk_rows(features, schema, store, folder)
    buckets = 0
    if inputs.whole:
        shares: tuple[Share, ...] = (Share("00000", features.rows),)
    elif features.rows and (previous is not None or _trims_key(schema, cleaning)):
        buckets = bucket_count(features.rows, chunk_rows)
        shares = shares_of_buckets(buckets)
    else:
        shares = shares_of_groups([file.row_groups for file in features.features], chunk_rows)
    return ScoringPlan(
        schema_key=arguments.schema_key,
        inputs_key=arguments.inputs_key,
        code_version=arguments.code_version,
        features_prefix=features.prefix,
        features_digest=features.digest,
        model=model,
        previous=None
        if previous is None
        else PlannedPrevious(
            batch_id=previous.manifest.batch_id,
            manifest_digest=previous.manifest.digest,
            cleaning=previous.cleaning.to_argument(),
        ),
        rows=features.rows,
        chunk_rows=chunk_rows,
        buckets=buckets,
        shares=shares,
    )


def _chunk_rows(features: FeatureSet, schema: PredictionSchema, store: ObjectStore, folder: Path) -> int:
    """Return the number of rows in a chunk of bounded size, estimated from the first rows of features."""
    first = next((file for file in features.features if file.rows), None)
    if first is None:
        return _CHUNK_ROWS
    rows = next(first.fetched(store, folder).batches(rows_per_batch=_ROWS_LOOKED_AT))
    return chunk_rows_of(rows.nbytes // rows.num_rows, len(schema.columns))


def chunk_rows_of(feature_bytes: int, columns: int) -> int:
    """Return the number of rows of a chunk, so that its memory is bounded.

    Args:
        feature_bytes: The bytes of one row of features.
        columns: The number of predicted columns.
    """
    return max(1, min(_CHUNK_ROWS, _CHUNK_BYTES // (feature_bytes + _PREDICTED_VALUE_BYTES * columns)))


def _trims_key(schema: PredictionSchema, cleaning: Cleaning) -> bool:
    """Return whether cleaning can make two keys equal; then such rows must be in the same chunk."""
    return any(rule.column == schema.key and rule.trim for rule in cleaning.rules)


def planned_features(
    plan: ScoringPlan, arguments: ScoreArguments, batch: BatchAttempt, store: ObjectStore
) -> FeatureSet:
    """Return the features of a plan.

    Raises:
        ScoringPlanError: The features were prepared again since.
    """
    features = feature_set(store, arguments.model, batch.partition, plan.features_prefix)
    if features.digest != plan.features_digest:
        raise ScoringPlanError(
            f"The features below {plan.features_prefix} were prepared again after the attempt was planned",
            remedy="Start the next attempt",
        )
    return features


def planned_previous(
    plan: ScoringPlan, arguments: ScoreArguments, store: ObjectStore
) -> PreviousBatch | None:
    """Return the previous batch of a plan; None if there is none.

    Raises:
        ScoringPlanError: The batch is gone, or its manifest has changed.
    """
    planned = plan.previous
    if planned is None:
        return None
    manifest = done_manifest(store, arguments.model, planned.batch_id)
    if manifest is None or manifest.digest != planned.manifest_digest:
        raise ScoringPlanError(
            f"The manifest of the previous batch {planned.batch_id} changed after this attempt was planned",
            remedy="Start the next attempt",
        )
    return PreviousBatch(manifest, Cleaning.from_argument(planned.cleaning))
