"""The trained model: a SageMaker job that learns from the features of a range of partitions."""

# No postponed annotations: Dagster compares the context's annotation itself.
from collections import Counter
from collections.abc import Mapping
from typing import Any

import dagster as dg

from mlpipe_dagster.job_clients.sagemaker_requests import training_request
from mlpipe_dagster.pipeline.asset_metadata import asset_tags, code_links
from mlpipe_dagster.pipeline.asset_names import FEATURES, SAGEMAKER_POOL, TRAINED_MODEL, asset_key
from mlpipe_dagster.pipeline.code_comparison import warn_of_outdated_upload
from mlpipe_dagster.pipeline.library_kinds import library_kind
from mlpipe_dagster.pipeline.model_ops import model_asset
from mlpipe_dagster.pipeline.retries import batch_id_of
from mlpipe_dagster.resources.job_resources import SageMakerJobs
from mlpipe_dagster.resources.platform import Platform
from mlpipe_dagster.scoring.published_documents import published_inputs, published_schema
from model_declaration.declaration import ModelDeclaration
from model_declaration.partitions import TrainingRange
from prediction_contract.jobs.job_arguments import TrainArguments
from prediction_contract.naming.batch import job_name

_METRICS = "metrics.json"
_EVALUATION = "evaluation.json"


def trained_model_asset(declaration: ModelDeclaration, training: TrainingRange) -> dg.AssetsDefinition:
    """Return the trained model, which has no partitions: the newest serves all of them."""
    model = declaration.name

    @model_asset(
        key=asset_key(model, TRAINED_MODEL),
        deps=[asset_key(model, FEATURES)],
        kinds={"sagemaker", library_kind(declaration)},
        description="The model as trained on the declared range of partitions.",
        metadata=code_links(declaration, "train"),
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
            schema_key=published_schema(platform, declaration),
            inputs_key=published_inputs(platform, declaration),
            code_version=settings.code_version,
        )
        request = training_request(settings, declaration, arguments)
        code_warning = warn_of_outdated_upload(
            "sagemaker_scripts", settings.code_prefix, context.log.warning, declaration.package_folder
        )
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


def training_metadata(metrics: Mapping[str, Any], evaluation: Mapping[str, Any] | None) -> dict[str, Any]:
    """Return what a person wants to know of a trained model."""
    metadata = {
        name: metrics[name]
        for name in ("model_version", "first_partition", "last_partition", "rows", "code_version")
        if name in metrics
    }
    if metrics.get("libraries"):
        metadata["libraries"] = ", ".join(
            f"{name} {version}" for name, version in metrics["libraries"].items()
        )
    if evaluation is None:
        return metadata
    figures = {}
    names = Counter(_metric_name(metric) for metric in evaluation["metrics"])
    for metric in evaluation["metrics"]:
        name, baselines = _metric_name(metric), metric["baselines"]
        if names[name] > 1:
            name = f"{name}_{metric['predicted']}"
        figures |= {name: metric["value"], **{f"{name}_{each}": value for each, value in baselines.items()}}
    return {
        **metadata,
        **figures,
        "held_out_report": held_out_report(evaluation),
        "evaluation": dg.MetadataValue.json(evaluation),
    }


def _metric_name(metric: Mapping[str, Any]) -> str:
    # An evaluation of an earlier version of the platform has kinds alone.
    return metric.get("name", metric["kind"])


def held_out_report(evaluation: Mapping[str, Any]) -> str:
    """Return an evaluation in one line for people: each metric beside its naive baselines."""
    first, last = evaluation["evaluated_on"]
    sentences = []
    for metric in evaluation["metrics"]:
        baselines = ", ".join(
            f"{name.replace('_', ' ')} {value}" for name, value in metric["baselines"].items()
        )
        verdict = "better than" if metric["beats_baselines"] else "NOT better than"
        without = metric.get("rows_left_out")
        rows = f"{metric['rows']} rows"
        if without:
            rows += f" and not on {without} whose {metric['actual']} is 0"
        sentences.append(f"{_metric_name(metric)} {metric['value']} on {rows}, {verdict} {baselines}")
    left_out = evaluation.get("rows_left_out")
    if left_out:
        reasons = ", ".join(f"{count} {reason}" for reason, count in left_out.items())
        sentences.append(f"rows that a load would refuse and that were not evaluated: {reasons}")
    return f"{first} to {last}: {'; '.join(sentences)}"
