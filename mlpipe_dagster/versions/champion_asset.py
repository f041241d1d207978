"""The asset of the champion, which scores new batches; materializing it retrains, and promotes by rule."""

# No postponed annotations: Dagster compares the context's annotation itself.
from collections.abc import Iterator
from datetime import UTC, datetime
from typing import Any

import dagster as dg

from mlpipe_dagster.pipeline.asset_metadata import asset_attributes, code_links
from mlpipe_dagster.pipeline.asset_names import MODEL_VERSIONS, SAGEMAKER_POOL, TRAINED_MODEL, asset_key
from mlpipe_dagster.pipeline.code_comparison import warn_of_outdated_upload
from mlpipe_dagster.pipeline.library_kinds import library_kind
from mlpipe_dagster.pipeline.model_ops import model_asset
from mlpipe_dagster.pipeline.retries import intent_of
from mlpipe_dagster.publication.publisher import RUN_ACTOR
from mlpipe_dagster.resources.job_resources import RetrainingPipelines
from mlpipe_dagster.resources.platform import Platform
from mlpipe_dagster.scoring.published_documents import published_inputs, published_schema
from mlpipe_dagster.versions.version_events import champion_metadata, newest_champion_change
from model_declaration.declaration import ModelDeclaration
from prediction_contract.jobs.retraining_arguments import NEWEST


class RetrainConfig(dg.Config):
    """The options of a retraining.

    Attributes:
        last_partition: The last partition to judge on, as in file names; `newest` for the newest partition
            whose outcomes are known.
    """

    last_partition: str = NEWEST


def champion_spec(declaration: ModelDeclaration) -> dg.AssetSpec:
    """Return the champion's asset if its versions were trained elsewhere; a sensor reports its events."""
    model = declaration.name
    return dg.AssetSpec(
        asset_key(model, TRAINED_MODEL),
        deps=[asset_key(model, MODEL_VERSIONS)],
        kinds={"sagemaker", library_kind(declaration)},
        description="The version that scores new batches, trained elsewhere and registered here.",
        metadata=code_links(declaration),
        **asset_attributes(declaration),
    )


def champion_asset(declaration: ModelDeclaration) -> dg.AssetsDefinition:
    """Return the asset of the trained model. It has no partitions: the champion serves all of them."""
    model = declaration.name

    @model_asset(
        key=asset_key(model, TRAINED_MODEL),
        deps=[asset_key(model, MODEL_VERSIONS)],
        kinds={"sagemaker", library_kind(declaration)},
        description="The version that scores new batches. Materializing it retrains the model.",
        metadata=code_links(declaration, "train"),
        **asset_attributes(declaration),
        pool=SAGEMAKER_POOL,
        skippable=True,
    )
    def trained_model(
        context: dg.AssetExecutionContext,
        config: RetrainConfig,
        platform: Platform,
        retraining_pipelines: RetrainingPipelines,
    ) -> Iterator[dg.MaterializeResult[Any]]:
        # Imported here, because the clients import boto3, which must not happen while definitions load.
        from mlpipe_dagster.versions import retraining_runs  # noqa: PLC0415

        settings = platform.settings
        published_schema(platform, declaration)
        published_inputs(platform, declaration)
        code_warning = warn_of_outdated_upload(
            "sagemaker_scripts", settings.code_prefix, context.log.warning, declaration.package_folder
        )
        intent, _ = intent_of(context.instance, context.run)
        retraining = retraining_runs.platform_retraining(platform, retraining_pipelines.client())
        wanted = retraining_runs.RetrainingRequest(
            model=model,
            cause="request",
            requested_by=f"dagster:{intent}",
            code_version=settings.code_version,
            last_partition=config.last_partition,
            intent=intent,
        )
        arn = retraining.run(context, wanted)
        done = retraining.result(model, arn, actor=f"{RUN_ACTOR}{context.run.run_id}", now=datetime.now(UTC))
        context.log.info("%s: %s", done.outcome, done.reason)
        shared_metadata = {
            "outcome": str(done.outcome),
            "outcome_reason": done.reason,
            **retraining.executions.metadata(arn),
            **code_warning,
        }
        registry = platform.registry
        champion = registry.champion(model)
        version = registry.model_version(model, champion.version) if champion and champion.version else None
        if version is None:
            context.log_event(
                dg.AssetObservation(
                    asset_key(model, TRAINED_MODEL),
                    description="No version is the champion",
                    metadata=shared_metadata,
                )
            )
            return
        verdict = retraining.packages.verdict(version.verdict_key) if version.verdict_key else None
        entry = newest_champion_change(registry, model)
        yield dg.MaterializeResult(
            metadata={**champion_metadata(platform, entry, version, verdict), **shared_metadata},
            data_version=dg.DataVersion(version.digest),
        )

    return trained_model
