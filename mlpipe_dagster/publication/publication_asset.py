"""The publication: one transaction makes a verified batch live, or it stays as history."""

# No postponed annotations: Dagster compares the context's annotation itself.
from datetime import UTC, datetime
from typing import Any

import dagster as dg

from mlpipe_dagster.costs import estimated_costs
from mlpipe_dagster.done_files.registration import (
    ManifestReplacedError,
    UnknownBatchError,
    registered_batch,
    registered_manifest,
)
from mlpipe_dagster.loading.load_coordinator import load_report
from mlpipe_dagster.pipeline.asset_metadata import asset_tags, code_links
from mlpipe_dagster.pipeline.asset_names import DYNAMODB, PUBLICATION, SNOWFLAKE, SNOWFLAKE_POOL, asset_key
from mlpipe_dagster.pipeline.batch_selection import BatchConfig, select_batch
from mlpipe_dagster.pipeline.model_ops import model_asset
from mlpipe_dagster.pipeline.model_sensors import publication_facts
from mlpipe_dagster.pipeline.retries import final_failure, intent_of
from mlpipe_dagster.publication.batch_consumption import batch_consumption
from mlpipe_dagster.publication.console_links import console_links
from mlpipe_dagster.publication.publisher import (
    RUN_ACTOR,
    PublicationResult,
    Publisher,
    PublishingError,
    serving_text,
)
from mlpipe_dagster.quality.batch_card import batch_facts, drift_table, pictures, sample
from mlpipe_dagster.quality.batch_examination import Examiner
from mlpipe_dagster.quality.quality_checks import examined
from mlpipe_dagster.resources.data_bucket import ObjectMissingError
from mlpipe_dagster.resources.platform import Platform
from mlpipe_dagster.resources.warehouse import Warehouse
from mlpipe_dagster.resources.warehouse_session import WarehouseSession
from model_declaration.declaration import ModelDeclaration
from prediction_contract.cleaning.cleaning_rules import recorded_cleaning
from prediction_contract.errors import RuleViolationError
from prediction_contract.manifests.load_report import LoadReport
from prediction_contract.manifests.manifest import Manifest
from prediction_contract.registry.records import BatchRecord, ChangeRequest, LoadState

_RETRIES = dg.RetryPolicy(max_retries=2, delay=5, backoff=dg.Backoff.EXPONENTIAL, jitter=dg.Jitter.FULL)


class PublicationConfig(BatchConfig):
    """Names the batch to publish.

    Attributes:
        explicit: Publish it as a person's decision, which neither hold, order nor a rollback stands against.
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
        group_name=declaration.asset_group,
        owners=declaration.owners,
        tags=asset_tags(declaration),
        kinds={"dynamodb", "snowflake"},
        metadata={**publication_facts(declaration), **code_links(model)},
        retry_policy=_RETRIES,
        description="Which batch readers see; a batch that may not become live is materialized as history.",
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
            # The same for every retry of the same intent: a lost answer then does nothing twice.
            request_id=f"{first_run_id}:{batch_id}",
            actor=f"{RUN_ACTOR}{context.run_id}",
            reason="explicit" if config.explicit else "automatic",
            automatic=not config.explicit,
        )
        with warehouse.session() as session:
            session.ensure_table(model, recorded_cleaning(record.cleaning).stored_schema(manifest.schema))
            # Against what is live now, and before that changes.
            card = batch_card(session, platform, declaration, manifest)
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
            metadata={**publication_metadata(published), "newly_projected": projected, **card}
        )

    return publication


def batch_card(
    session: WarehouseSession, platform: Platform, declaration: ModelDeclaration, manifest: Manifest
) -> dict[str, Any]:
    """Examine a verified batch, keep the verdict that gates it, and return what a person sees of it.

    A publication that is materialized by itself so obeys the same rules as one in the job that loads. In that
    job Snowflake answers from its result cache: the checks have just asked the same.
    """
    record = registered_batch(platform.registry, declaration.name, manifest.batch_id)
    if record.load_state != LoadState.VERIFIED:
        return {}
    found = examined(session, platform, declaration, manifest.schema, manifest.batch_id)
    examiner = Examiner(
        query=session.rows,
        declaration=declaration,
        written=manifest.schema,
        cleaning=recorded_cleaning(record.cleaning),
    )
    report = verified_report(platform, record)
    consumed = batch_consumption(platform, manifest, report)
    deployment = platform.settings.deployment
    return {
        **batch_facts(
            manifest,
            record,
            report,
            estimated_costs(consumed, platform.settings.prices),
            console_links(deployment, manifest, report.job_run_id if report else None),
        ),
        **drift_table(found),
        **pictures(manifest.batch_id, found),
        **sample(examiner, manifest.batch_id),
    }


def verified_report(platform: Platform, record: BatchRecord) -> LoadReport | None:
    """Return the report of a batch's verified load, or None if its time on S3 is over."""
    try:
        return load_report(platform.bucket, record.model, record.batch_id, record.verified_attempt or 0)
    except ObjectMissingError:
        return None


def publication_metadata(published: PublicationResult) -> dict[str, Any]:
    """Return what a person wants to know of a publication."""
    shown: dict[str, Any] = {
        "batch_id": published.batch_id,
        "outcome": str(published.outcome),
        "live_batch_id": published.live_batch_id,
        "sequence": published.sequence,
        "condition": published.condition,
        "reason": published.reason,
    }
    return {name: value for name, value in shown.items() if value not in {None, ""}}
