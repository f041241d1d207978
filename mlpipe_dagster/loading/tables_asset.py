"""The assets of both tables. One Glue job loads a batch into both, where readers do not see it yet."""

# No postponed annotations: Dagster compares the context's annotation itself.
from collections.abc import Iterator
from typing import Any

import dagster as dg

from mlpipe_dagster.done_files.registration import register_done_file, registered_batch, registered_manifest
from mlpipe_dagster.loading.load_coordinator import (
    BatchNotLoadableError,
    LoadCoordinator,
    complete_attempt,
    load_report,
)
from mlpipe_dagster.pipeline.asset_metadata import (
    COLUMN_LINEAGE,
    asset_attributes,
    batch_lineage,
    code_links,
    column_lineage,
    column_schema,
)
from mlpipe_dagster.pipeline.asset_names import (
    DYNAMODB,
    GLUE_POOL,
    PREDICTIONS,
    SNOWFLAKE,
    asset_key,
    load_op_name,
)
from mlpipe_dagster.pipeline.batch_selection import BatchConfig, select_batch
from mlpipe_dagster.pipeline.code_comparison import warn_of_outdated_load
from mlpipe_dagster.pipeline.retries import final_failure
from mlpipe_dagster.resources.job_resources import GlueJobs
from mlpipe_dagster.resources.platform import Platform
from mlpipe_dagster.resources.warehouse import Warehouse
from mlpipe_dagster.scoring.external_model import record_external_predictions
from mlpipe_dagster.scoring.predictions_asset import accepted_manifest
from model_declaration.declaration import ModelDeclaration
from prediction_contract.cleaning.cleaning_rules import Cleaning, recorded_cleaning
from prediction_contract.manifests.load_report import LoadReport, StoreReport
from prediction_contract.naming.s3_layout import done_key

_RETRIES = dg.RetryPolicy(max_retries=2, delay=5, backoff=dg.Backoff.EXPONENTIAL, jitter=dg.Jitter.FULL)


class LoadConfig(BatchConfig):
    """Names the batch to load.

    Attributes:
        above_attempt: Load again unless a later attempt than this is complete, for example to extend the life
            of the batch's items; 0 accepts any. A retry of the run passes the same number, so it accepts the
            load of its predecessor.
    """

    above_attempt: int = 0


def tables_asset(
    declaration: ModelDeclaration, partitions: dg.PartitionsDefinition[str]
) -> dg.AssetsDefinition:
    """Return both tables. Either may be selected alone, but the job always loads both."""
    model = declaration.name

    @dg.multi_asset(
        name=load_op_name(model),
        specs=table_specs(declaration, partitions),
        can_subset=True,
        backfill_policy=dg.BackfillPolicy.multi_run(max_partitions_per_run=1),
        retry_policy=_RETRIES,
        pool=GLUE_POOL,
    )
    def load(
        context: dg.AssetExecutionContext,
        config: LoadConfig,
        platform: Platform,
        glue_jobs: GlueJobs,
        warehouse: Warehouse,
    ) -> Iterator[dg.MaterializeResult[Any]]:
        # The check that follows needs the warehouse, and this step mostly waits.
        warehouse.warm_up()
        registry, bucket = platform.registry, platform.bucket
        batch_id = select_batch(context.instance, context.run, registry, model, config.batch_id)
        record = registry.batch(model, batch_id)
        if record is None:
            accepted_manifest(context, register_done_file(bucket, registry, done_key(model, batch_id)))
            record = registered_batch(registry, model, batch_id)
        if declaration.produced_by == "sagemaker":
            record_external_predictions(context, declaration, registered_manifest(bucket, record))
        coordinator = LoadCoordinator(
            declaration=declaration,
            settings=platform.settings,
            registry=registry,
            glue=glue_jobs.client(),
        )
        load_job = platform.settings.deployment.load_job
        code_warning = warn_of_outdated_load(platform.client("glue"), load_job, context.log.warning)
        try:
            loaded = coordinator.run(context, record, above_attempt=config.above_attempt)
        except BatchNotLoadableError as error:
            raise final_failure(context, str(error)) from error
        report = load_report(bucket, model, batch_id, complete_attempt(loaded.record))
        job_metadata = loaded.job_metadata or coordinator.job_metadata(report.job_run_id)
        cleaning = recorded_cleaning(loaded.record.cleaning)
        for asset, store in ((DYNAMODB, report.dynamodb), (SNOWFLAKE, report.snowflake)):
            key = asset_key(model, asset)
            if key in context.selected_asset_keys and store is not None:
                yield dg.MaterializeResult(
                    asset_key=key,
                    metadata={
                        **job_metadata,
                        **code_warning,
                        **table_metadata(report, store),
                        **cleaning_metadata(cleaning),
                        COLUMN_LINEAGE: batch_lineage(declaration, asset, cleaning),
                    },
                )

    return load


def table_specs(
    declaration: ModelDeclaration, partitions: dg.PartitionsDefinition[str]
) -> list[dg.AssetSpec]:
    """Return the asset specifications of both tables."""
    described = (
        (DYNAMODB, "The batch's items, which the API serves once the batch is live."),
        (SNOWFLAKE, "The batch's rows, which the live view shows once the batch is live."),
    )
    return [
        dg.AssetSpec(
            asset_key(declaration.name, store),
            deps=[asset_key(declaration.name, PREDICTIONS)],
            kinds={store, "glue"},
            description=description,
            skippable=True,
            partitions_def=partitions,
            metadata={
                "dagster/column_schema": column_schema(declaration, store),
                COLUMN_LINEAGE: column_lineage(declaration, store),
                **cleaning_metadata(declaration.cleaning_rules),
                **code_links(declaration),
            },
            **asset_attributes(declaration),
        )
        for store, description in described
    ]


def cleaning_metadata(cleaning: Cleaning) -> dict[str, Any]:
    """Return metadata with a batch's cleaning rules; empty if there are none."""
    rules = {rule.column: rule.in_words for rule in cleaning.rules}
    return {"cleaning": dg.MetadataValue.json(rules)} if rules else {}


def table_metadata(report: LoadReport, store: StoreReport) -> dict[str, Any]:
    """Return Dagster metadata of a load into one store."""
    return {
        "batch_id": report.batch_id,
        "load_attempt": report.attempt,
        "dagster/table_name": store.table,
        "dagster/row_count": store.rows.rows,
        "rows_read_back": store.verified_rows,
        "rows_quarantined": report.quarantine.rows.rows,
        "quarantine_reasons": dg.MetadataValue.json(dict(report.quarantine.reasons)),
        "job_run_id": report.job_run_id,
        "loaded_at": report.ended_at,
        "durations_ms": dg.MetadataValue.json(dict(report.durations)),
        **{name: value for name, value in store.details.items() if isinstance(value, int | str)},
    }
