"""The publication: one transaction makes a verified batch live, or it stays as history."""

# No postponed annotations: Dagster compares the context's annotation itself.
from datetime import UTC, datetime
from typing import Any

import dagster as dg

from mlpipe_dagster.asset_names import DYNAMODB, PUBLICATION, SNOWFLAKE, asset_key
from mlpipe_dagster.batch_choice import BatchConfig, chosen_batch
from mlpipe_dagster.declaration import ModelDeclaration
from mlpipe_dagster.final_failure import final_failure
from mlpipe_dagster.intents import intent_of
from mlpipe_dagster.noticing import ManifestReplacedError, registered_manifest
from mlpipe_dagster.publishing import Publication, Publisher, known_batch, serving_text
from mlpipe_dagster.resources.platform import Platform
from mlpipe_dagster.resources.warehouse import Warehouse
from prediction_contract.errors import RuleViolationError
from prediction_contract.registry.records import Request

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

    @dg.asset(
        key=asset_key(model, PUBLICATION),
        deps=[asset_key(model, DYNAMODB), asset_key(model, SNOWFLAKE)],
        partitions_def=partitions,
        backfill_policy=dg.BackfillPolicy.multi_run(max_partitions_per_run=1),
        group_name=model,
        owners=declaration.owners,
        kinds={"dynamodb", "snowflake"},
        retry_policy=_RETRIES,
        description="Which batch readers see; a batch that may not become live is materialized as history.",
    )
    def publication(
        context: dg.AssetExecutionContext, config: PublicationConfig, platform: Platform, warehouse: Warehouse
    ) -> dg.MaterializeResult[Any]:
        settings, registry = platform.settings, platform.registry
        batch_id = chosen_batch(context.instance, context.run, registry, model, config.batch_id)
        try:
            manifest = registered_manifest(platform.bucket, known_batch(registry, model, batch_id))
        except ManifestReplacedError as error:
            raise final_failure(context, str(error)) from error
        first_run_id, _ = intent_of(context.instance, context.run)
        request = Request(
            # The same for every retry of the same intent: a lost answer then does nothing twice.
            request_id=f"{first_run_id}:{batch_id}",
            actor=f"dagster run {context.run_id}",
            reason="explicit" if config.explicit else "automatic",
            automatic=not config.explicit,
        )
        with warehouse.session() as session:
            session.ensure_view(model, manifest.schema)
            publisher = Publisher(
                registry=registry,
                deployment=settings.deployment,
                declaration=declaration,
                serving_regions=settings.serving_regions,
                highest_projected=session.highest_projected(model),
                clock=lambda: datetime.now(UTC),
            )
            serving = serving_text(declaration, manifest, settings.provider_url)
            try:
                published = publisher.publish(batch_id, request, serving)
            except RuleViolationError as violation:
                raise final_failure(context, str(violation)) from violation
            projected = session.project(model, registry.publications(model))
        context.log.info("%s: %s %s", batch_id, published.outcome, published.reason)
        return dg.MaterializeResult(
            metadata={**publication_metadata(published), "newly_projected": projected}
        )

    return publication


def publication_metadata(published: Publication) -> dict[str, Any]:
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
