"""The check that gates publication: each row of the manifest is in both stores or in quarantine."""

# No postponed annotations: Dagster compares the context's annotation itself.
from collections.abc import Iterator
from datetime import UTC, datetime, timedelta

import dagster as dg

from mlpipe_dagster.done_files.registration import registered_batch, registered_manifest
from mlpipe_dagster.loading.load_coordinator import LoadIncompleteError, complete_attempt, load_report
from mlpipe_dagster.loading.online_count import count_online
from mlpipe_dagster.loading.reconciliation import StoreBalance, balances, evidence
from mlpipe_dagster.pipeline.asset_names import (
    ADDS_UP,
    DYNAMODB,
    SNOWFLAKE,
    SNOWFLAKE_POOL,
    asset_key,
    op_name,
)
from mlpipe_dagster.pipeline.batch_selection import select_batch
from mlpipe_dagster.resources.platform import Platform
from mlpipe_dagster.resources.warehouse import Warehouse
from model_declaration.declaration import ModelDeclaration
from prediction_contract.cleaning.cleaning_rules import recorded_cleaning
from prediction_contract.manifests.load_report import LoadEvidence
from prediction_contract.registry.load_rules import verify_load
from prediction_contract.registry.records import BatchRecord
from prediction_contract.registry.table import RegistryTable
from prediction_contract.registry.transaction import Transaction
from prediction_contract.rows.checksums import RowTally


def reconciliation_check(declaration: ModelDeclaration) -> dg.AssetChecksDefinition:
    """Return the check of both tables. The registry marks the batch as verified only if both pass."""
    model = declaration.name
    specs = {
        store: dg.AssetCheckSpec(
            ADDS_UP,
            asset=asset_key(model, store),
            blocking=True,
            description="Rows and checksums of manifest, store and quarantine agree.",
        )
        for store in (DYNAMODB, SNOWFLAKE)
    }

    @dg.multi_asset_check(
        name=op_name(model, ADDS_UP),
        specs=list(specs.values()),
        can_subset=True,
        retry_policy=dg.RetryPolicy(max_retries=2, delay=5),
        pool=SNOWFLAKE_POOL,
    )
    def adds_up(
        context: dg.AssetCheckExecutionContext, platform: Platform, warehouse: Warehouse
    ) -> Iterator[dg.AssetCheckResult]:
        registry = platform.registry
        batch_id = select_batch(context.instance, context.run, registry, model)
        record = loaded_batch(registry, model, batch_id)
        report = load_report(platform.bucket, model, batch_id, complete_attempt(record))
        manifest, cleaning = registered_manifest(platform.bucket, record), recorded_cleaning(record.cleaning)
        online = count_online(
            platform.bucket,
            platform.client("dynamodb"),
            platform.settings.deployment.online_table(model),
            manifest,
            cleaning=cleaning,
        )
        with warehouse.session() as session:
            counted = session.batch_tally(model, cleaning.stored_schema(manifest.schema), batch_id)
        promised = RowTally(rows=record.row_count, checksum=int(record.checksum))
        must_read_back = declaration.quality.verification(record.row_count) != "sample"
        both = balances(report, promised, online, counted, must_read_back=must_read_back)
        if not any(balance.faults for balance in both):
            verify(registry, declaration, batch_id, evidence(report, *both))
        for balance in both:
            spec = specs[balance.store]
            if spec.key in context.op_execution_context.selected_asset_check_keys:
                yield check_result(spec, balance, batch_id)

    return adds_up


def loaded_batch(registry: RegistryTable, model: str, batch_id: str) -> BatchRecord:
    """Return the record of a completely loaded batch.

    Raises:
        UnknownBatchError: The registry does not know the batch.
        LoadIncompleteError: The batch has no complete load.
    """
    record = registered_batch(registry, model, batch_id)
    if not complete_attempt(record):
        raise LoadIncompleteError(
            "No load of the batch is complete, so there is nothing to check",
            remedy="Materialize its tables first",
            model=model,
            batch_id=batch_id,
        )
    return record


def verify(
    registry: RegistryTable, declaration: ModelDeclaration, batch_id: str, found: LoadEvidence
) -> None:
    """Mark a batch as verified; the registry checks the evidence itself.

    Raises:
        RuleViolationError: The evidence does not add up, or is not of the last load.
    """
    retention = timedelta(days=declaration.retention.superseded_days)

    def decide() -> Transaction:
        record = loaded_batch(registry, declaration.name, batch_id)
        return verify_load(record, found, now=datetime.now(UTC), retention=retention)

    registry.carry_out(decide)


def check_result(spec: dg.AssetCheckSpec, balance: StoreBalance, batch_id: str) -> dg.AssetCheckResult:
    """Return a balance as a Dagster check result."""
    return dg.AssetCheckResult(
        asset_key=spec.asset_key,
        check_name=spec.name,
        passed=not balance.faults,
        severity=dg.AssetCheckSeverity.ERROR,
        description=". ".join(balance.faults) or "Each row of the manifest is in the store or in quarantine",
        metadata={"batch_id": batch_id, **balance.metadata()},
    )
