"""The features asset: a SageMaker job collects the data known about entities before a partition begins."""

# No postponed annotations: Dagster compares the context's annotation itself.
import json
from collections.abc import Mapping
from typing import Any

import dagster as dg

from mlpipe_dagster.job_clients.sagemaker_requests import processing_request
from mlpipe_dagster.pipeline.asset_metadata import asset_attributes, code_links
from mlpipe_dagster.pipeline.asset_names import FEATURES, SAGEMAKER_POOL, asset_key
from mlpipe_dagster.pipeline.code_comparison import warn_of_outdated_upload
from mlpipe_dagster.pipeline.model_ops import model_asset
from mlpipe_dagster.pipeline.retries import batch_id_of
from mlpipe_dagster.resources.job_resources import SageMakerJobs
from mlpipe_dagster.resources.platform import Platform
from mlpipe_dagster.scoring.published_documents import published_inputs
from mlpipe_dagster.scoring.source_assets import source_deps
from mlpipe_dagster.scoring.trained_elsewhere import record_model_file
from model_declaration.declaration import ModelDeclaration
from prediction_contract.jobs.job_arguments import FeatureArguments
from prediction_contract.naming.batch import Partition, job_name


def features_asset(
    declaration: ModelDeclaration, partitions: dg.PartitionsDefinition[str]
) -> dg.AssetsDefinition:
    """Return the features of a model; one run prepares any range of partitions in one job."""
    model = declaration.name

    @model_asset(
        key=asset_key(model, FEATURES),
        deps=source_deps(declaration),
        partitions_def=partitions,
        backfill_policy=dg.BackfillPolicy.single_run(),
        kinds=features_kinds(declaration),
        description=features_description(declaration),
        metadata=features_links(declaration),
        **asset_attributes(declaration),
        pool=SAGEMAKER_POOL,
    )
    def features(
        context: dg.AssetExecutionContext, platform: Platform, sagemaker_jobs: SageMakerJobs
    ) -> dg.MaterializeResult[Any]:
        keys = context.partition_keys
        first, last = (Partition.from_dagster_key(key) for key in (keys[0], keys[-1]))
        # Recorded before the predictions, because Dagster reads the versions of their inputs before that
        # step.
        record_model_file(context, declaration)
        settings = platform.settings
        batch_id = batch_id_of(context.instance, context.run, model, first)
        arguments = FeatureArguments(
            model=model,
            partition=first,
            last_partition=None if last == first else last,
            bucket=settings.data_bucket,
            inputs_key=published_inputs(platform, declaration),
            run_id=batch_id,
            code_version=settings.code_version,
        )
        request = processing_request(settings, declaration, "prepare_features.py", arguments)
        code_warning = warn_of_outdated_upload(
            "sagemaker_scripts", settings.code_prefix, context.log.warning, declaration.package_folder
        )
        done = sagemaker_jobs.client().run(
            context=context,
            job_name=lambda attempt: job_name(FEATURES, model, batch_id, attempt),
            request=lambda _name, _attempt: request,
        )
        return dg.MaterializeResult(
            metadata={**done.metadata, **exit_message(done.description), **code_warning}
        )

    return features


def features_kinds(declaration: ModelDeclaration) -> set[str]:
    """Return the Dagster kinds of the features, including the library of the functions' tables."""
    return {"sagemaker", "parquet", "s3" if declaration.features else declaration.tables}


def features_description(declaration: ModelDeclaration) -> str:
    """Return a description of the features for people."""
    prepared = declaration.features
    if prepared:
        return f"The unchanged rows of the source {prepared.source}, with the entity id in {prepared.key}."
    return "The data known about a partition's entities before the partition begins."


def features_links(declaration: ModelDeclaration) -> dict[str, Any]:
    """Return the links to the code that makes the features."""
    return code_links(declaration, *([] if declaration.features else ["features"]), "outcomes")


def exit_message(description: Mapping[str, Any]) -> dict[str, Any]:
    """Return the result in a processing job's exit message; empty if it is not a JSON object."""
    try:
        result = json.loads(description.get("ExitMessage", ""))
    except ValueError:
        return {}
    return (
        {name: value for name, value in result.items() if value is not None}
        if isinstance(result, dict)
        else {}
    )
