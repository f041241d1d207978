"""The predictions asset: a SageMaker job writes a partition's batch, and its manifest last."""

# No postponed annotations: Dagster compares the context's annotation itself.
from typing import Any

import dagster as dg

from mlpipe_dagster.done_files.registration import DoneFile, register_done_file
from mlpipe_dagster.job_clients.sagemaker_requests import processing_request
from mlpipe_dagster.pipeline.asset_metadata import (
    COLUMN_LINEAGE,
    asset_attributes,
    code_links,
    column_lineage,
    column_schema,
)
from mlpipe_dagster.pipeline.asset_names import (
    FEATURES,
    PREDICTIONS,
    SAGEMAKER_POOL,
    TRAINED_MODEL,
    asset_key,
)
from mlpipe_dagster.pipeline.batch_selection import keep_selection
from mlpipe_dagster.pipeline.code_comparison import warn_of_outdated_upload
from mlpipe_dagster.pipeline.model_ops import model_asset
from mlpipe_dagster.pipeline.retries import batch_id_of, final_failure
from mlpipe_dagster.resources.job_resources import SageMakerJobs
from mlpipe_dagster.resources.platform import Platform
from mlpipe_dagster.scoring.published_documents import published_inputs, published_schema
from mlpipe_dagster.scoring.trained_elsewhere import record_model_file
from mlpipe_dagster.settings import Settings
from model_declaration.declaration import ModelDeclaration
from prediction_contract.jobs.job_arguments import ScoreArguments
from prediction_contract.manifests.manifest import Manifest
from prediction_contract.naming.batch import Partition, job_name
from prediction_contract.naming.s3_layout import delta_table_prefix, done_key

PREDICTIONS_KINDS = {"sagemaker", "deltalake", "json"}


class ScoringConfig(dg.Config):
    """Chooses the model version that scores.

    Attributes:
        version: An approved model version; 0 for the champion or the model file that the declaration names.
    """

    version: int = 0


def predictions_asset(
    declaration: ModelDeclaration, partitions: dg.PartitionsDefinition[str]
) -> dg.AssetsDefinition:
    """Return the predictions of a model; a partition may read those of the partition before."""
    model = declaration.name

    @model_asset(
        key=asset_key(model, PREDICTIONS),
        deps=predictions_deps(declaration),
        partitions_def=partitions,
        backfill_policy=dg.BackfillPolicy.multi_run(max_partitions_per_run=1),
        kinds=PREDICTIONS_KINDS,
        description=declaration.description,
        metadata=predictions_facts(declaration),
        **asset_attributes(declaration),
        pool=SAGEMAKER_POOL,
    )
    def predictions(
        context: dg.AssetExecutionContext,
        config: ScoringConfig,
        platform: Platform,
        sagemaker_jobs: SageMakerJobs,
    ) -> dg.MaterializeResult[Any]:
        settings = platform.settings
        partition = Partition.from_dagster_key(context.partition_key)
        batch_id = batch_id_of(context.instance, context.run, model, partition)
        schema_key = published_schema(platform, declaration)
        inputs_key = published_inputs(platform, declaration)
        record_model_file(context, declaration)
        code_warning = warn_of_outdated_upload(
            "sagemaker_scripts", settings.code_prefix, context.log.warning, declaration.package_folder
        )
        done = sagemaker_jobs.client().run(
            context=context,
            job_name=lambda attempt: job_name("score", model, batch_id, attempt),
            request=lambda _name, attempt: processing_request(
                settings,
                declaration,
                "score_batch.py",
                score_arguments(
                    declaration,
                    settings,
                    partition=partition,
                    batch_id=batch_id,
                    attempt=attempt,
                    schema_key=schema_key,
                    inputs_key=inputs_key,
                    version=config.version or None,
                ),
                instances=declaration.processing.instances,
            ),
        )
        done_file = register_done_file(platform.bucket, platform.registry, done_key(model, batch_id))
        manifest = accepted_manifest(context, done_file)
        # A load in the same run must use this batch.
        keep_selection(context.instance, context.run, model, batch_id)
        return dg.MaterializeResult(
            metadata={
                **done.metadata,
                **manifest_metadata(manifest),
                **code_warning,
                COLUMN_LINEAGE: column_lineage(declaration, PREDICTIONS),
            }
        )

    return predictions


def predictions_deps(declaration: ModelDeclaration) -> list[dg.AssetDep]:
    """Return the dependencies of a partition's predictions, including those of the partition before."""
    model = declaration.name
    deps = [dg.AssetDep(asset_key(model, asset)) for asset in (FEATURES, TRAINED_MODEL)]
    if declaration.lookback:
        before = dg.TimeWindowPartitionMapping(start_offset=-1, end_offset=-1)
        deps.append(dg.AssetDep(asset_key(model, PREDICTIONS), partition_mapping=before))
    return deps


def predictions_facts(declaration: ModelDeclaration) -> dict[str, Any]:
    """Return metadata of a model's predictions that does not depend on a batch."""
    return {
        "dagster/column_schema": column_schema(declaration),
        COLUMN_LINEAGE: column_lineage(declaration, PREDICTIONS),
        **code_links(declaration, "predict"),
    }


def score_arguments(
    declaration: ModelDeclaration,
    settings: Settings,
    *,
    partition: str,
    batch_id: str,
    attempt: int,
    schema_key: str,
    inputs_key: str,
    version: int | None = None,
) -> ScoreArguments:
    """Return the score job's arguments for one attempt; with `version`, only that version may score."""
    tolerance = declaration.quality.tolerance
    return ScoreArguments(
        model=declaration.name,
        partition=partition,
        bucket=settings.data_bucket,
        lookback=declaration.lookback,
        schema_key=schema_key,
        inputs_key=inputs_key,
        registry_table=settings.deployment.registry_table,
        code_version=settings.code_version,
        batch_id=batch_id,
        attempt=attempt,
        chunk_rows=declaration.scoring.chunk_rows,
        quarantine_rows=tolerance.rows,
        quarantine_rate=tolerance.rate,
        version=version,
    )


def accepted_manifest(context: dg.AssetExecutionContext, done_file: DoneFile) -> Manifest:
    """Return the manifest of a done file.

    Raises:
        dagster.Failure: The platform refuses the done file; a retry would not help.
    """
    if done_file.manifest is None or done_file.refusal is not None:
        raise final_failure(context, f"The done file {done_file.key} is refused: {done_file.refusal}")
    return done_file.manifest


def manifest_metadata(manifest: Manifest) -> dict[str, Any]:
    """Return Dagster metadata of a batch."""
    metadata = {
        "batch_id": str(manifest.batch_id),
        "dagster/row_count": manifest.row_count,
        "json_parts": len(manifest.json_parts),
        "bytes": sum(part.bytes for part in manifest.json_parts),
        "checksum": manifest.checksum,
        "delta_version": manifest.delta.version,
        "model_version": manifest.model_version,
        "code_version": manifest.code_version,
        "manifest_key": manifest.key,
        "dagster/uri": f"s3://{manifest.bucket}/{delta_table_prefix(manifest.model)}",
    }
    if manifest.model_package is not None:
        metadata["model_package_version"] = manifest.model_package.version
    if manifest.previous_batch_id is not None:
        metadata["previous_batch_id"] = str(manifest.previous_batch_id)
    return metadata
