"""The accuracy asset: a job measures a partition's published batch, and a check compares the result."""

# No postponed annotations: Dagster compares the context's annotation itself.
from collections.abc import Iterator, Sequence
from typing import Any

import dagster as dg

from mlpipe_dagster.accuracy.accuracy_documents import AccuracyDocuments
from mlpipe_dagster.accuracy.accuracy_picture import Bar, accuracy_svg
from mlpipe_dagster.accuracy.accuracy_rules import AccuracyFinding, accuracy_finding, promise_of
from mlpipe_dagster.job_clients.sagemaker_requests import processing_request
from mlpipe_dagster.markdown import markdown_image, markdown_table
from mlpipe_dagster.pipeline.asset_metadata import asset_attributes, code_links
from mlpipe_dagster.pipeline.asset_names import (
    ACCURACY,
    ACCURACY_HOLDS,
    FEATURES,
    MEASURED_BATCH_TAG,
    PUBLICATION,
    SAGEMAKER_POOL,
    asset_key,
)
from mlpipe_dagster.pipeline.code_comparison import warn_of_outdated_upload
from mlpipe_dagster.pipeline.finding_level import Level
from mlpipe_dagster.pipeline.model_ops import model_asset
from mlpipe_dagster.pipeline.retries import batch_id_of, final_failure
from mlpipe_dagster.resources.job_resources import SageMakerJobs
from mlpipe_dagster.resources.platform import Platform
from mlpipe_dagster.scoring.published_documents import published_inputs
from model_declaration.declaration import ModelDeclaration
from prediction_contract.jobs.job_arguments import AccuracyArguments
from prediction_contract.manifests.measured_accuracy import MeasuredAccuracy
from prediction_contract.naming.batch import Partition, job_name
from prediction_contract.registry.records import BatchRecord
from prediction_contract.registry.table import RegistryTable

# The model chooses its slices, and there may be very many.
_MAX_SLICES = 50


def has_accuracy(declaration: ModelDeclaration) -> bool:
    """Return whether a model declares outcomes and metrics, so that its accuracy can be measured."""
    return declaration.has_outcomes and bool(declaration.metrics)


def accuracy_asset(
    declaration: ModelDeclaration, partitions: dg.PartitionsDefinition[str]
) -> dg.AssetsDefinition:
    """Return the accuracy asset of a model's published batches, with the check `accuracy_holds`."""
    model = declaration.name
    key = asset_key(model, ACCURACY)
    next_partition = dg.TimeWindowPartitionMapping(
        start_offset=1, end_offset=1, allow_nonexistent_upstream_partitions=True
    )
    check = dg.AssetCheckSpec(
        ACCURACY_HOLDS,
        asset=key,
        description="The batch's accuracy is not worse than promised by what `quality.accuracy` declares.",
    )

    @model_asset(
        key=key,
        deps=[
            dg.AssetDep(asset_key(model, PUBLICATION)),
            dg.AssetDep(asset_key(model, FEATURES), partition_mapping=next_partition),
        ],
        partitions_def=partitions,
        backfill_policy=dg.BackfillPolicy.multi_run(max_partitions_per_run=1),
        kinds={"sagemaker", "json"},
        description="The model's metrics for a partition's published batch, once outcomes are known.",
        metadata=code_links(declaration, "outcomes"),
        **asset_attributes(declaration),
        pool=SAGEMAKER_POOL,
        check_specs=[check],
    )
    def accuracy(
        context: dg.AssetExecutionContext, platform: Platform, sagemaker_jobs: SageMakerJobs
    ) -> Iterator[dg.MaterializeResult[Any]]:
        settings = platform.settings
        partition = Partition.from_dagster_key(context.partition_key)
        batch = published_batch(
            platform.registry, model, partition, named=context.run.tags.get(MEASURED_BATCH_TAG)
        )
        if batch is None:
            raise final_failure(
                context, f"No batch of {partition} was published, so there is nothing to measure"
            )
        code_warning = warn_of_outdated_upload(
            "sagemaker_scripts", settings.code_prefix, context.log.warning, declaration.package_folder
        )
        arguments = AccuracyArguments(
            model=model,
            bucket=settings.data_bucket,
            batch_id=batch.batch_id,
            registry_table=settings.deployment.registry_table,
            inputs_key=published_inputs(platform, declaration),
            code_version=settings.code_version,
        )
        # The batch's own id would give the job the name of an earlier measurement.
        intent = batch_id_of(context.instance, context.run, model, partition)
        request = processing_request(settings, declaration, "measure_accuracy.py", arguments)
        done = sagemaker_jobs.client().run(
            context=context,
            job_name=lambda attempt: job_name(ACCURACY, model, intent, attempt),
            request=lambda _name, _attempt: request,
        )
        documents = AccuracyDocuments(platform.bucket, model)
        measured = documents.find(partition, batch.batch_id)
        if measured is None:
            raise final_failure(context, "The job left no accuracy document that this release can read")
        earlier = list(documents.up_to(partition))
        promise = promise_of(measured, platform.registry, platform.bucket, earlier)
        finding = accuracy_finding(measured, promise, declaration.quality.accuracy)
        yield dg.MaterializeResult(
            metadata={**done.metadata, **accuracy_metadata(measured, finding, earlier), **code_warning},
            check_results=[
                dg.AssetCheckResult(
                    check_name=ACCURACY_HOLDS,
                    asset_key=key,
                    passed=finding.level is Level.PASS,
                    severity=dg.AssetCheckSeverity.ERROR
                    if finding.level is Level.BLOCK
                    else dg.AssetCheckSeverity.WARN,
                    description=finding.text,
                    metadata={"batch_id": batch.batch_id, "model_version": measured.model_version},
                )
            ],
        )

    return accuracy


def published_batch(
    registry: RegistryTable, model: str, partition: Partition, *, named: str | None
) -> BatchRecord | None:
    """Return the named published batch of a partition, or the one published last; None if there is none."""
    published = [
        record
        for record in registry.batches_of(model, partition)
        if record.published_sequence is not None and named in {None, record.batch_id}
    ]
    return max(published, key=lambda record: record.published_sequence or 0, default=None)


def accuracy_metadata(
    measured: MeasuredAccuracy, finding: AccuracyFinding, earlier: Sequence[MeasuredAccuracy]
) -> dict[str, Any]:
    """Return Dagster metadata of a batch: metrics as numbers to plot, slices as a table, and a chart.

    Args:
        measured: The batch's accuracy.
        finding: How the batch compares with its promise.
        earlier: The accuracy of the batches up to and including this one, in order of their partitions.
    """
    shown: dict[str, Any] = {
        "batch_id": measured.batch_id,
        "model_version": measured.model_version,
        "rows": measured.rows,
        "rows_with_outcome": measured.known_rows,
        "outcomes_known_at": measured.known_at,
        **{metric.name: float(metric.value) for metric in measured.metrics if metric.value is not None},
    }
    if measured.version_number is not None:
        shown["model_package_version"] = measured.version_number
    if finding.promise is not None:
        shown |= {"promised": float(finding.promise.value), "promised_by": finding.promise.source}
    if finding.worse_by is not None:
        shown["worse_by"] = float(finding.worse_by)
    label = measured.metrics[0].name
    bars = [
        Bar(each.partition, metric.value, each.model_version == measured.model_version)
        for each in earlier
        for metric in each.metrics
        if metric.name == label and metric.value is not None
    ]
    if bars:
        promised = finding.promise and finding.promise.value
        shown["picture"] = markdown_image(f"{label} of the last batches", accuracy_svg(label, bars, promised))
    if measured.slices:
        shown["slices"] = markdown_table(
            ("column", "value", "rows", label),
            [(each.column, each.value, each.rows, each.metric) for each in measured.slices[:_MAX_SLICES]],
        )
    if measured.slices_left_out:
        shown["slices_left_out"] = ", ".join(measured.slices_left_out)
    return shown
