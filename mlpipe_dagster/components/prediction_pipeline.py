"""One model's assets, checks and jobs, from the `defs.yaml` in its folder."""

from __future__ import annotations

import dagster as dg

from mlpipe_dagster.asset_names import (
    DYNAMODB,
    FEATURES,
    MODEL_TAG,
    PREDICTIONS,
    PUBLICATION,
    SNOWFLAKE,
    TRAINED_MODEL,
    asset_key,
    load_job_name,
    score_job_name,
    train_job_name,
)
from mlpipe_dagster.assets.predictions import predictions_asset
from mlpipe_dagster.assets.publication import publication_asset
from mlpipe_dagster.assets.tables import tables_asset
from mlpipe_dagster.assets.training_data import features_asset, trained_model_asset
from mlpipe_dagster.checks.adds_up import adds_up_check
from mlpipe_dagster.declaration import ModelDeclaration
from prediction_contract.batch import Partition
from prediction_contract.resource_names import require_model_name


class PredictionPipeline(dg.Component, ModelDeclaration):
    """A model's way from raw data to a live prediction."""

    def build_defs(self, context: dg.ComponentLoadContext) -> dg.Definitions:
        """Return the model's definitions; its name is that of the folder unless the file gives one.

        Raises:
            InvalidNameError: The folder's name is no model name.
        """
        model = require_model_name(self.name or context.path.name)
        return pipeline_definitions(self.model_copy(update={"name": model}))


def pipeline_definitions(declaration: ModelDeclaration) -> dg.Definitions:
    """Return the definitions of a model whose name is set."""
    model = declaration.name
    partitions = partitions_of(declaration)
    keys = {
        asset: asset_key(model, asset)
        for asset in (FEATURES, TRAINED_MODEL, PREDICTIONS, DYNAMODB, SNOWFLAKE, PUBLICATION)
    }
    tables = (keys[DYNAMODB], keys[SNOWFLAKE])
    tags = {MODEL_TAG: model}
    jobs = (
        dg.define_asset_job(
            train_job_name(model),
            selection=dg.AssetSelection.assets(keys[TRAINED_MODEL]),
            tags=tags,
            description=f"Trains {model} on the features of its training range.",
        ),
        dg.define_asset_job(
            score_job_name(model),
            selection=dg.AssetSelection.assets(keys[FEATURES], keys[PREDICTIONS]),
            partitions_def=partitions,
            tags=tags,
            description=f"Scores one partition of {model}; its done file starts the load.",
        ),
        dg.define_asset_job(
            load_job_name(model),
            selection=dg.AssetSelection.assets(*tables, keys[PUBLICATION])
            | dg.AssetSelection.checks_for_assets(*tables),
            partitions_def=partitions,
            tags=tags,
            description=f"Loads, checks and publishes one batch of {model}.",
        ),
    )
    return dg.Definitions(
        assets=[
            features_asset(declaration, partitions),
            trained_model_asset(declaration),
            predictions_asset(declaration, partitions),
            tables_asset(declaration, partitions),
            publication_asset(declaration, partitions),
        ],
        asset_checks=[adds_up_check(declaration)],
        jobs=jobs,
    )


def partitions_of(declaration: ModelDeclaration) -> dg.PartitionsDefinition[str]:
    """Return the declared partitions: days in UTC."""
    declared = declaration.partitions
    return dg.DailyPartitionsDefinition(
        start_date=Partition(declared.start).start,
        end_date=Partition(declared.end).start if declared.end else None,
        timezone="UTC",
    )
