"""Features and the trained model: SageMaker jobs that read raw data and features."""

# No postponed annotations: Dagster compares the context's annotation itself.
import json
from collections.abc import Mapping
from typing import Any

import dagster as dg

from mlpipe_dagster.job_clients.sagemaker_requests import processing_request, training_request
from mlpipe_dagster.pipeline.asset_metadata import asset_tags, code_links
from mlpipe_dagster.pipeline.asset_names import FEATURES, SAGEMAKER_POOL, TRAINED_MODEL, asset_key
from mlpipe_dagster.pipeline.code_comparison import warn_of_outdated_upload
from mlpipe_dagster.pipeline.model_ops import model_asset
from mlpipe_dagster.pipeline.retries import batch_id_of
from mlpipe_dagster.resources.job_resources import SageMakerJobs
from mlpipe_dagster.resources.platform import Platform
from mlpipe_dagster.scoring.predictions_asset import published_schema
from model_declaration.declaration import ModelDeclaration
from model_declaration.partitions import TrainingRange
from prediction_contract.jobs.job_arguments import FeatureArguments, TrainArguments
from prediction_contract.naming.batch import Partition, job_name

_METRICS = "metrics.json"
_EVALUATION = "evaluation.json"

FEATURES_KINDS = {"sagemaker", "parquet", "s3"}
FEATURES_DESCRIPTION = "What is known of a partition's entities before it begins."
TRAINED_MODEL_KINDS = {"sagemaker", "scikitlearn"}


def features_asset(
    declaration: ModelDeclaration, partitions: dg.PartitionsDefinition[str]
) -> dg.AssetsDefinition:
    """Return the features of a model; one run prepares any range of partitions in one job."""
    model = declaration.name

    @model_asset(
        key=asset_key(model, FEATURES),
        deps=raw_inputs(declaration),
        partitions_def=partitions,
        backfill_policy=dg.BackfillPolicy.single_run(),
        kinds=FEATURES_KINDS,
        description=FEATURES_DESCRIPTION,
        metadata=code_links(model, "features"),
        group_name=declaration.asset_group,
        owners=declaration.owners,
        tags=asset_tags(declaration),
        pool=SAGEMAKER_POOL,
    )
    def features(
        context: dg.AssetExecutionContext, platform: Platform, sagemaker_jobs: SageMakerJobs
    ) -> dg.MaterializeResult[Any]:
        keys = context.partition_keys
        first, last = (Partition.from_dagster_key(key) for key in (keys[0], keys[-1]))
        settings = platform.settings
        batch_id = batch_id_of(context.instance, context.run, model, first)
        arguments = FeatureArguments(
            model=model,
            partition=first,
            last_partition=None if last == first else last,
            bucket=settings.data_bucket,
            history_days=declaration.history_days,
            run_id=batch_id,
            code_version=settings.code_version,
        )
        request = processing_request(settings, declaration.processing, "prepare_features.py", arguments)
        code_warning = warn_of_outdated_upload("sagemaker_scripts", settings.code_prefix, context.log.warning)
        done = sagemaker_jobs.client().run(
            context=context,
            job_type="Processing",
            job_name=lambda attempt: job_name(FEATURES, model, batch_id, attempt),
            request=lambda _name, _attempt: request,
        )
        return dg.MaterializeResult(
            metadata={**done.metadata, **exit_message(done.description), **code_warning}
        )

    return features


def raw_inputs(declaration: ModelDeclaration) -> list[dg.AssetKey]:
    """Return the raw data that the features are made of."""
    return [dg.AssetKey(key.split("/")) for key in declaration.raw_inputs]


def trained_model_asset(declaration: ModelDeclaration, training: TrainingRange) -> dg.AssetsDefinition:
    """Return the trained model, which has no partitions: the newest serves all of them."""
    model = declaration.name

    @model_asset(
        key=asset_key(model, TRAINED_MODEL),
        deps=[asset_key(model, FEATURES)],
        kinds=TRAINED_MODEL_KINDS,
        description="The model as trained on the declared range of partitions.",
        metadata=code_links(model, "train"),
        group_name=declaration.asset_group,
        owners=declaration.owners,
        tags=asset_tags(declaration),
        pool=SAGEMAKER_POOL,
    )
    def trained_model(
        context: dg.AssetExecutionContext, platform: Platform, sagemaker_jobs: SageMakerJobs
    ) -> dg.MaterializeResult[Any]:
        settings = platform.settings
        batch_id = batch_id_of(context.instance, context.run, model, training.last_partition)
        arguments = TrainArguments(
            model=model,
            bucket=settings.data_bucket,
            first_partition=training.first_partition,
            last_partition=training.last_partition,
            first_evaluated=training.first_evaluated,
            last_evaluated=training.last_evaluated,
            metrics=training.metrics_text,
            schema_key=published_schema(platform, declaration),
            code_version=settings.code_version,
        )
        request = training_request(settings, declaration.training_compute, arguments)
        code_warning = warn_of_outdated_upload("sagemaker_scripts", settings.code_prefix, context.log.warning)
        done = sagemaker_jobs.client().run(
            context=context,
            job_type="Training",
            job_name=lambda attempt: job_name("train", model, batch_id, attempt),
            request=lambda _name, _attempt: request,
        )
        prefix = f"{settings.deployment.model_prefix(model)}{done.job.name}/"
        return dg.MaterializeResult(
            metadata={
                **done.metadata,
                **code_warning,
                "artifact_key": f"{prefix}output/model.tar.gz",
                **training_metadata(
                    platform.bucket.read_json(f"{prefix}{_METRICS}"),
                    platform.bucket.find_json(f"{prefix}{_EVALUATION}"),
                ),
            }
        )

    return trained_model


def exit_message(description: Mapping[str, Any]) -> dict[str, Any]:
    """Return what a processing job's script left as its result, or nothing if it is no JSON object."""
    try:
        result = json.loads(description.get("ExitMessage", ""))
    except ValueError:
        return {}
    return (
        {name: value for name, value in result.items() if value is not None}
        if isinstance(result, dict)
        else {}
    )


def training_metadata(metrics: Mapping[str, Any], evaluation: Mapping[str, Any] | None) -> dict[str, Any]:
    """Return what a person wants to know of a trained model."""
    shown = {
        name: metrics[name]
        for name in ("model_version", "first_partition", "last_partition", "rows", "code_version")
        if name in metrics
    }
    if evaluation is None:
        return shown
    figures = {}
    for metric in evaluation["metrics"]:
        kind, baselines = metric["kind"], metric["baselines"]
        figures |= {kind: metric["value"], **{f"{kind}_{name}": value for name, value in baselines.items()}}
    return {
        **shown,
        **figures,
        "held_out_report": held_out_report(evaluation),
        "evaluation": dg.MetadataValue.json(evaluation),
    }


def held_out_report(evaluation: Mapping[str, Any]) -> str:
    """Return an evaluation in one line for people: each metric beside its naive baselines."""
    first, last = evaluation["evaluated_on"]
    told = []
    for metric in evaluation["metrics"]:
        baselines = ", ".join(
            f"{name.replace('_', ' ')} {value}" for name, value in metric["baselines"].items()
        )
        verdict = "better than" if metric["beats_baselines"] else "NOT better than"
        told.append(f"{metric['kind']} {metric['value']} on {metric['rows']} rows, {verdict} {baselines}")
    left_out = evaluation.get("rows_left_out")
    if left_out:
        reasons = ", ".join(f"{count} {reason}" for reason, count in left_out.items())
        told.append(f"rows that a load would refuse and that were not evaluated: {reasons}")
    return f"{first} to {last}: {'; '.join(told)}"
