"""The publication asset: one transaction makes a verified batch live, or the batch stays as history."""

# No postponed annotations: Dagster compares the context's annotation itself.
import logging
from datetime import UTC, datetime
from typing import Any
from urllib.parse import quote

import dagster as dg

from mlpipe_dagster.costs import Consumption, estimated_costs
from mlpipe_dagster.done_files.registration import (
    ManifestReplacedError,
    UnknownBatchError,
    registered_batch,
    registered_manifest,
)
from mlpipe_dagster.job_clients.job_metadata import (
    console_host,
    glue_job_run_page,
    glue_job_run_use,
    sagemaker_job_page,
    sagemaker_job_use,
)
from mlpipe_dagster.loading.load_coordinator import load_report
from mlpipe_dagster.pipeline.asset_metadata import asset_attributes, code_links
from mlpipe_dagster.pipeline.asset_names import DYNAMODB, PUBLICATION, SNOWFLAKE, SNOWFLAKE_POOL, asset_key
from mlpipe_dagster.pipeline.batch_selection import BatchConfig, select_batch
from mlpipe_dagster.pipeline.model_ops import model_asset
from mlpipe_dagster.pipeline.model_sensors import publication_facts
from mlpipe_dagster.pipeline.retries import final_failure, intent_of
from mlpipe_dagster.publication.publisher import (
    RUN_ACTOR,
    PublicationResult,
    Publisher,
    PublishingError,
    serving_text,
)
from mlpipe_dagster.quality.batch_summary import batch_facts, drift_table, pictures, sample
from mlpipe_dagster.quality.quality_checks import batch_examiner, examine_batch
from mlpipe_dagster.resources.data_bucket import ObjectMissingError
from mlpipe_dagster.resources.platform import Platform
from mlpipe_dagster.resources.warehouse import Warehouse
from mlpipe_dagster.resources.warehouse_session import WarehouseSession
from model_declaration.declaration import ModelDeclaration
from prediction_contract.cleaning.cleaning_rules import recorded_cleaning
from prediction_contract.errors import RuleViolationError
from prediction_contract.manifests.load_report import LoadReport
from prediction_contract.manifests.manifest import Manifest
from prediction_contract.naming.resource_names import Deployment
from prediction_contract.registry.records import BatchRecord, ChangeRequest, LoadState

_LOG = logging.getLogger(__name__)
# The load's steps that use Snowflake's warehouse.
_WAREHOUSE_STEPS = ("stage", "move")
_RETRIES = dg.RetryPolicy(max_retries=2, delay=5, backoff=dg.Backoff.EXPONENTIAL, jitter=dg.Jitter.FULL)


class PublicationConfig(BatchConfig):
    """Names the batch to publish.

    Attributes:
        explicit: Publish it as a person's decision, despite a hold, a newer batch or a rollback.
    """

    explicit: bool = False


def publication_asset(
    declaration: ModelDeclaration, partitions: dg.PartitionsDefinition[str]
) -> dg.AssetsDefinition:
    """Return the publication of a model's batches."""
    model = declaration.name

    @model_asset(
        key=asset_key(model, PUBLICATION),
        deps=[asset_key(model, DYNAMODB), asset_key(model, SNOWFLAKE)],
        partitions_def=partitions,
        backfill_policy=dg.BackfillPolicy.multi_run(max_partitions_per_run=1),
        **asset_attributes(declaration),
        kinds={"dynamodb", "snowflake"},
        metadata={**publication_facts(declaration), **code_links(declaration)},
        retry_policy=_RETRIES,
        description="The live batch, which readers see. A batch that may not become live is materialized "
        "as history.",
        pool=SNOWFLAKE_POOL,
    )
    def publication(
        context: dg.AssetExecutionContext, config: PublicationConfig, platform: Platform, warehouse: Warehouse
    ) -> dg.MaterializeResult[Any]:
        settings, registry = platform.settings, platform.registry
        batch_id = select_batch(context.instance, context.run, registry, model, config.batch_id)
        record = registered_batch(registry, model, batch_id)
        try:
            manifest = registered_manifest(platform.bucket, record)
        except ManifestReplacedError as error:
            raise final_failure(context, str(error)) from error
        first_run_id, _ = intent_of(context.instance, context.run)
        request = ChangeRequest(
            # Equal for all retries of one intent, so that nothing is done twice if an answer was lost.
            request_id=f"{first_run_id}:{batch_id}",
            actor=f"{RUN_ACTOR}{context.run.run_id}",
            reason="explicit" if config.explicit else "automatic",
            automatic=not config.explicit,
        )
        with warehouse.session() as session:
            session.ensure_table(model, recorded_cleaning(record.cleaning).stored_schema(manifest.schema))
            # The batch is compared with the live one, so this must come before the live batch changes.
            summary = batch_summary(session, platform, declaration, manifest, record)
            publisher = Publisher(
                registry=registry,
                deployment=settings.deployment,
                declaration=declaration,
                serving_regions=settings.serving_regions,
                highest_projected=session.highest_projected(model),
                clock=lambda: datetime.now(UTC),
            )
            try:
                serving = serving_text(declaration, manifest, record, settings.provider_url)
                published = publisher.publish(batch_id, request, serving)
            except (PublishingError, RuleViolationError, UnknownBatchError) as refusal:
                raise final_failure(context, str(refusal)) from refusal
            projected = len(session.follow(registry, model, settings.deployment.home))
        context.log.info("%s: %s %s", batch_id, published.outcome, published.reason)
        return dg.MaterializeResult(
            metadata={**publication_metadata(published), "newly_projected": projected, **summary}
        )

    return publication


def batch_summary(
    session: WarehouseSession,
    platform: Platform,
    declaration: ModelDeclaration,
    manifest: Manifest,
    record: BatchRecord,
) -> dict[str, Any]:
    """Check a verified batch's quality, record the result in the registry, and return the batch's metadata.

    A publication that is materialized alone therefore follows the same rules as one in the load job. In the
    load job, Snowflake answers from its result cache, because the checks have just run the same queries.
    """
    if record.load_state != LoadState.VERIFIED:
        return {}
    examiner = batch_examiner(session, declaration, record, manifest)
    found = examine_batch(examiner, platform, record, manifest)
    report = verified_report(platform, record)
    costs = estimated_costs(batch_consumption(platform, manifest, report), platform.settings.prices)
    links = console_links(platform.settings.deployment, manifest, report.job_run_id if report else None)
    return {
        **batch_facts(manifest, record, report, costs, links),
        **drift_table(found),
        **pictures(manifest.batch_id, found),
        **sample(examiner, manifest.batch_id),
    }


def verified_report(platform: Platform, record: BatchRecord) -> LoadReport | None:
    """Return the report of a batch's verified load; None if it has expired on S3."""
    try:
        return load_report(platform.bucket, record.model, record.batch_id, record.verified_attempt or 0)
    except ObjectMissingError:
        return None


def batch_consumption(platform: Platform, manifest: Manifest, report: LoadReport | None) -> Consumption:
    """Return the known consumption of a batch; jobs that AWS no longer knows are left out."""
    details = report.dynamodb.details if report and report.dynamodb else {}
    durations = report.durations if report else {}
    return Consumption(
        write_units=int(details.get("write_units", 0)),
        dpu_seconds=_dpu_seconds(platform, report.job_run_id) if report else 0.0,
        warehouse_seconds=sum(durations.get(step, 0) for step in _WAREHOUSE_STEPS) / 1000,
        machine_seconds=_machine_seconds(platform, manifest.producer.job_name),
    )


def _dpu_seconds(platform: Platform, job_run_id: str) -> float:
    glue = platform.client("glue")
    try:
        run = glue.get_job_run(JobName=platform.settings.deployment.load_job, RunId=job_run_id)["JobRun"]
    except glue.exceptions.ClientError as error:
        _LOG.info("Glue did not describe job run %s: %s", job_run_id, error)
        return 0.0
    return float(glue_job_run_use(run, None).get("dpu_seconds", 0.0))


def _machine_seconds(platform: Platform, job_name: str | None) -> dict[str, float]:
    if not job_name:
        return {}
    sagemaker = platform.client("sagemaker")
    try:
        job = sagemaker.describe_processing_job(ProcessingJobName=job_name)
    except sagemaker.exceptions.ClientError as error:
        _LOG.info("SageMaker did not describe job %s: %s", job_name, error)
        return {}
    use = sagemaker_job_use(job, "Processing", {})
    return {use["instance_type"]: use["job_seconds"] * use["instance_count"]}


def console_links(deployment: Deployment, manifest: Manifest, load_job_run_id: str | None) -> dict[str, str]:
    """Return links to a batch's parts in the AWS console. All require a login, and none holds a secret."""
    region, bucket = deployment.region, manifest.bucket
    console = console_host(region)
    links = {
        "done_file": f"{console}/s3/object/{bucket}?region={region}&prefix={quote(manifest.key)}",
        "json_parts": f"{console}/s3/buckets/{bucket}?region={region}&prefix={quote(manifest.json_prefix)}",
        "online_table": f"{console}/dynamodbv2/home?region={region}#table?name="
        f"{deployment.online_table(manifest.model)}",
    }
    if load_job_run_id:
        links["load_job_run"] = glue_job_run_page(region, deployment.load_job, load_job_run_id)
    if manifest.producer.job_name:
        links["score_job"] = sagemaker_job_page(region, "Processing", manifest.producer.job_name)
    return links


def publication_metadata(published: PublicationResult) -> dict[str, Any]:
    """Return Dagster metadata of a publication."""
    shown: dict[str, Any] = {
        "batch_id": published.batch_id,
        "outcome": str(published.outcome),
        "live_batch_id": published.live_batch_id,
        "sequence": published.sequence,
        "condition": published.condition,
        "reason": published.reason,
    }
    return {name: value for name, value in shown.items() if value not in {None, ""}}
