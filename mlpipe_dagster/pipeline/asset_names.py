"""The names of a model's assets, jobs, run tags and pools."""

from __future__ import annotations

import dagster as dg

from prediction_contract.naming.resource_names import model_name_stem

FEATURES = "features"
MODEL_VERSIONS = "model_versions"
TRAINED_MODEL = "trained_model"
PREDICTIONS = "predictions"
CHALLENGER_PREDICTIONS = "challenger_predictions"
DYNAMODB = "dynamodb"
SNOWFLAKE = "snowflake"
PUBLICATION = "publication"
ACCURACY = "accuracy"
ADDS_UP = "adds_up"
QUALITY = "quality"
AGAINST_LIVE = "against_live"
DRIFT = "drift"
VERSION_ACCURACY = "version_accuracy"
API_CANARY = "api_canary"
LIVE_BATCH_LASTS = "live_batch_lasts"
PARTITION_IS_FRESH = "partition_is_fresh"
BETTER_THAN_CHAMPION = "better_than_champion"
NO_SLICE_WORSE = "no_slice_worse"
ARTIFACT_LOADS = "artifact_loads"
CHALLENGER_COMPARES = "challenger_compares"
ACCURACY_HOLDS = "accuracy_holds"

MODEL_TAG = "mlpipe/model"
BATCH_TAG = "mlpipe/batch_id"
MEASURED_BATCH_TAG = "mlpipe/measured_batch"
PARTITION_TAG = "mlpipe/partition"
DAGSTER_PARTITION_TAG = "dagster/partition"

# Concurrency pools for external services, so that a backfill does not overload them. `dagster instance
# concurrency set <pool> <limit>` limits one pool; the instance's file limits the others.
GLUE_POOL = "glue"
SNOWFLAKE_POOL = "snowflake"
SAGEMAKER_POOL = "sagemaker"


def asset_key(model: str, asset: str) -> dg.AssetKey:
    """Return the key of one of a model's assets."""
    return dg.AssetKey([model, asset])


def op_name(model: str, asset: str) -> str:
    """Return the name of the op that materializes or checks an asset; it is also its key in run config."""
    return f"{model_name_stem(model)}__{asset}"


def load_op_name(model: str) -> str:
    """Return the name of the op that loads both tables."""
    return op_name(model, "load")


def train_job_name(model: str) -> str:
    """Return the name of the job that trains the model."""
    return f"{model_name_stem(model)}_train"


def score_job_name(model: str) -> str:
    """Return the name of the job that scores a partition."""
    return f"{model_name_stem(model)}_score"


def accuracy_job_name(model: str) -> str:
    """Return the name of the job that measures a published batch."""
    return f"{model_name_stem(model)}_accuracy"


def load_job_name(model: str) -> str:
    """Return the name of the job that loads, checks and publishes a batch."""
    return f"{model_name_stem(model)}_load"


def challenger_job_name(model: str) -> str:
    """Return the name of the job that scores a partition with the challenger."""
    return f"{model_name_stem(model)}_challenge"


def selected_batch_tag(model: str) -> str:
    """Return the name of the run tag that holds the run's batch, so that all its steps use the same one."""
    return f"mlpipe.batch/{model}"


def selecting_intent_tag(model: str) -> str:
    """Return the name of the run tag that holds the intent that selected the run's batch.

    A re-execution of the whole run inherits both tags, but selects anew because its intent differs.
    """
    return f"mlpipe.chosen_by/{model}"
