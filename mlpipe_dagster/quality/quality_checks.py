"""The checks by a model's own rules: columns, rows and entities beside the live batch, drift."""

# No postponed annotations: Dagster compares the context's annotation itself.
from collections.abc import Iterator
from typing import Any

import dagster as dg

from mlpipe_dagster.done_files.registration import registered_manifest
from mlpipe_dagster.loading.load_coordinator import complete_attempt
from mlpipe_dagster.loading.reconciliation_check import loaded_batch
from mlpipe_dagster.pipeline.asset_names import (
    AGAINST_LIVE,
    DRIFT,
    QUALITY,
    SNOWFLAKE,
    SNOWFLAKE_POOL,
    asset_key,
    op_name,
)
from mlpipe_dagster.pipeline.batch_selection import select_batch
from mlpipe_dagster.pipeline.retries import leave_one_failed_run
from mlpipe_dagster.quality.batch_examination import Examination, Examiner
from mlpipe_dagster.quality.batch_summary import drift_table, pictures
from mlpipe_dagster.quality.quality_rules import Level, QualityFinding, drift_findings, highest
from mlpipe_dagster.resources.platform import Platform
from mlpipe_dagster.resources.warehouse import Warehouse
from mlpipe_dagster.resources.warehouse_session import WarehouseSession
from model_declaration.declaration import ModelDeclaration
from prediction_contract.cleaning.cleaning_rules import recorded_cleaning
from prediction_contract.manifests.manifest import Manifest
from prediction_contract.registry.automatic_publication import record_checks
from prediction_contract.registry.records import BatchRecord
from prediction_contract.registry.table import RegistryTable
from prediction_contract.registry.transaction import Transaction

_DESCRIPTIONS = {
    QUALITY: "The declared rules of single columns hold: null rate, range, uniqueness.",
    AGAINST_LIVE: "Rows and entities are as declared beside those of the live batch.",
    DRIFT: "No column's values moved further from the live batch than declared.",
}


def quality_checks(declaration: ModelDeclaration) -> dg.AssetChecksDefinition:
    """Return the checks that keep a loaded batch from being published automatically."""
    model = declaration.name
    specs = {
        name: dg.AssetCheckSpec(
            name, asset=asset_key(model, SNOWFLAKE), blocking=True, description=description
        )
        for name, description in _DESCRIPTIONS.items()
    }

    @dg.multi_asset_check(
        name=op_name(model, QUALITY),
        specs=list(specs.values()),
        can_subset=True,
        retry_policy=dg.RetryPolicy(max_retries=2, delay=5),
        pool=SNOWFLAKE_POOL,
    )
    def quality(
        context: dg.AssetCheckExecutionContext, platform: Platform, warehouse: Warehouse
    ) -> Iterator[dg.AssetCheckResult]:
        registry = platform.registry
        batch_id = select_batch(context.instance, context.run, registry, model)
        record = loaded_batch(registry, model, batch_id)
        manifest = registered_manifest(platform.bucket, record)
        with warehouse.session() as session:
            found = examine_batch(batch_examiner(session, declaration, record, manifest), platform, record)
        if found.blocking:
            leave_one_failed_run(context.instance, context.run.run_id)
        results = {
            QUALITY: check_result(specs[QUALITY], found.by_column, found, batch_id),
            AGAINST_LIVE: check_result(specs[AGAINST_LIVE], found.against_live, found, batch_id),
            DRIFT: check_result(
                specs[DRIFT],
                drift_findings(found.drift),
                found,
                batch_id,
                metadata={**drift_table(found), **pictures(batch_id, found)},
            ),
        }
        for name, result in results.items():
            if specs[name].key in context.op_execution_context.selected_asset_check_keys:
                yield result

    return quality


def batch_examiner(
    session: WarehouseSession, declaration: ModelDeclaration, record: BatchRecord, manifest: Manifest
) -> Examiner:
    """Return what examines a loaded batch by the rules that its rows were cleaned by."""
    return Examiner(
        query=session.rows,
        declaration=declaration,
        written=manifest.schema,
        cleaning=recorded_cleaning(record.cleaning),
    )


def examine_batch(examiner: Examiner, platform: Platform, record: BatchRecord) -> Examination:
    """Examine a loaded batch beside the one that readers see now, and keep the verdict in the registry.

    Args:
        examiner: Of the batch.
        platform: Where.
        record: The batch's, as read before it was examined: the verdict is on the load that it names.

    Raises:
        RuleViolationError: The batch was loaded again meanwhile.
    """
    registry, attempt = platform.registry, complete_attempt(record)
    found = examiner.examine(
        record.batch_id, compared_batch(registry, record, platform.settings.deployment.home)
    )

    def decide() -> Transaction:
        present = loaded_batch(registry, record.model, record.batch_id)
        return record_checks(present, attempt=attempt, faults=found.blocking)

    registry.carry_out(decide)
    return found


def compared_batch(registry: RegistryTable, record: BatchRecord, home_region: str) -> str | None:
    """Return the live batch, or the one before if the batch itself is live; None before the first."""
    pointer = registry.pointer(record.model, home_region)
    if pointer is None:
        return None
    return pointer.previous_batch_id if pointer.batch_id == record.batch_id else pointer.batch_id


def check_result(
    spec: dg.AssetCheckSpec,
    findings: list[QualityFinding],
    found: Examination,
    batch_id: str,
    metadata: dict[str, Any] | None = None,
) -> dg.AssetCheckResult:
    """Return findings as Dagster shows them: only blocking ones fail as errors."""
    level = highest(findings)
    facts = found.facts
    counted = {
        "batch_id": batch_id,
        "rows": facts.rows,
        "compared_with": found.live_batch_id,
        "live_rows": facts.live_rows,
        "shared_entities": facts.shared_entities,
    }
    return dg.AssetCheckResult(
        asset_key=spec.asset_key,
        check_name=spec.name,
        passed=level is Level.PASS,
        severity=dg.AssetCheckSeverity.ERROR if level is Level.BLOCK else dg.AssetCheckSeverity.WARN,
        description=". ".join(finding.text for finding in findings) or "Nothing is wrong",
        metadata={name: value for name, value in counted.items() if value is not None} | (metadata or {}),
    )
