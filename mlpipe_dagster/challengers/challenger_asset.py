"""The asset of a challenger's predictions for a partition, compared with the champion's batch."""

# No postponed annotations: Dagster compares the context's annotation itself.
from collections.abc import Iterator
from typing import Any

import dagster as dg

from mlpipe_dagster.challengers.challenger_comparison import comparison_metadata, comparison_result
from mlpipe_dagster.job_clients.sagemaker_requests import processing_request
from mlpipe_dagster.pipeline.asset_metadata import asset_attributes, code_links
from mlpipe_dagster.pipeline.asset_names import (
    CHALLENGER_COMPARES,
    CHALLENGER_PREDICTIONS,
    FEATURES,
    MODEL_TAG,
    PREDICTIONS,
    SAGEMAKER_POOL,
    asset_key,
    challenger_job_name,
)
from mlpipe_dagster.pipeline.batch_selection import BatchConfig, select_batch
from mlpipe_dagster.pipeline.model_ops import model_asset
from mlpipe_dagster.pipeline.retries import final_failure
from mlpipe_dagster.resources.job_resources import SageMakerJobs
from mlpipe_dagster.resources.platform import Platform
from mlpipe_dagster.scoring.predictions_asset import score_arguments
from mlpipe_dagster.scoring.published_documents import published_inputs, published_schema
from model_declaration.declaration import ModelDeclaration
from prediction_contract.naming.batch import Partition, job_name
from prediction_contract.naming.s3_layout import challenger_comparison_key


class ChallengerConfig(BatchConfig):
    """Names a batch, and the version that scores its features as a challenger.

    Attributes:
        version: The version; 0 for the model's challenger.
    """

    version: int = 0


def challenger_asset(
    declaration: ModelDeclaration, partitions: dg.PartitionsDefinition[str]
) -> dg.AssetsDefinition:
    """Return the challenger's predictions; they are stored below `shadow/` and never loaded or served."""
    model = declaration.name
    key = asset_key(model, CHALLENGER_PREDICTIONS)

    @model_asset(
        key=key,
        deps=[asset_key(model, FEATURES), asset_key(model, PREDICTIONS)],
        partitions_def=partitions,
        backfill_policy=dg.BackfillPolicy.multi_run(max_partitions_per_run=1),
        kinds={"sagemaker", "parquet"},
        description="The challenger's predictions for the batch's features. They are never served.",
        metadata=code_links(declaration, "predict"),
        **asset_attributes(declaration),
        pool=SAGEMAKER_POOL,
        check_specs=[
            dg.AssetCheckSpec(
                CHALLENGER_COMPARES,
                asset=key,
                description="The challenger's predictions differ from the champion's by no more than "
                "`quality.drift` allows, and its metrics are not worse.",
            )
        ],
    )
    def challenger_predictions(
        context: dg.AssetExecutionContext,
        config: ChallengerConfig,
        platform: Platform,
        sagemaker_jobs: SageMakerJobs,
    ) -> Iterator[dg.MaterializeResult[Any]]:
        settings, registry = platform.settings, platform.registry
        partition = Partition.from_dagster_key(context.partition_key)
        batch_id = select_batch(context.instance, context.run, registry, model, config.batch_id)
        pointer = registry.champion(model)
        version = config.version or (pointer.challenger if pointer else None)
        if not version:
            raise final_failure(
                context,
                f"{model} has no challenger. Name one with `mlpipe challenge {model} <version>`",
            )
        schema_key, inputs_key = (
            published_schema(platform, declaration),
            published_inputs(platform, declaration),
        )
        done = sagemaker_jobs.client().run(
            context=context,
            job_name=lambda attempt: job_name(f"shadow-{version}", model, batch_id, attempt),
            request=lambda _name, attempt: processing_request(
                settings,
                declaration,
                "score_challenger.py",
                score_arguments(
                    declaration,
                    settings,
                    partition=partition,
                    batch_id=batch_id,
                    attempt=attempt,
                    schema_key=schema_key,
                    inputs_key=inputs_key,
                    version=version,
                ),
            ),
        )
        found = platform.bucket.read_json(challenger_comparison_key(model, version, partition, batch_id))
        yield dg.MaterializeResult(
            metadata={**done.metadata, **comparison_metadata(found)},
            check_results=[comparison_result(key, declaration.quality, found)],
        )

    return challenger_predictions


# Dagster has no public name for the type that `define_asset_job` returns.
def challenger_job(declaration: ModelDeclaration) -> Any:
    """Return the job that scores a batch's features with the challenger."""
    model = declaration.name
    return dg.define_asset_job(
        challenger_job_name(model),
        selection=dg.AssetSelection.assets(asset_key(model, CHALLENGER_PREDICTIONS)),
        tags={MODEL_TAG: model},
        description=f"Scores a batch's features with the challenger of {model}, to compare it with the "
        "champion.",
    )
