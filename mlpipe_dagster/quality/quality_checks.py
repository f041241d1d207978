"""The checks of a model's quality rules: columns, comparison with the live batch, and drift."""

# No postponed annotations: Dagster compares the context's annotation itself.
from collections.abc import Iterator
from dataclasses import replace
from typing import Any

import dagster as dg

from mlpipe_dagster.accuracy.accuracy_asset import has_accuracy
from mlpipe_dagster.accuracy.accuracy_rules import decayed_accuracy
from mlpipe_dagster.done_files.registration import ManifestReplacedError, registered_manifest
from mlpipe_dagster.loading.load_coordinator import complete_attempt
from mlpipe_dagster.loading.reconciliation_check import loaded_batch
from mlpipe_dagster.pipeline.asset_names import (
    AGAINST_LIVE,
    DRIFT,
    QUALITY,
    SNOWFLAKE,
    SNOWFLAKE_POOL,
    VERSION_ACCURACY,
    asset_key,
    op_name,
)
from mlpipe_dagster.pipeline.batch_selection import select_batch
from mlpipe_dagster.pipeline.finding_level import Level
from mlpipe_dagster.pipeline.retries import leave_one_failed_run
from mlpipe_dagster.quality.batch_examination import Examination, Examiner
from mlpipe_dagster.quality.batch_summary import drift_table, pictures
from mlpipe_dagster.quality.quality_rules import QualityFinding, drift_findings, highest_level
from mlpipe_dagster.resources.data_bucket import ObjectMissingError
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

_OTHER_VERSION = (
    "Another model version scored the live batch. Drift is then expected: it does not block the batch "
    "or cause a retraining"
)
_DESCRIPTIONS = {
    QUALITY: "The declared rules of single columns hold: null rate, range, uniqueness.",
    AGAINST_LIVE: "The numbers of rows and of entities shared with the live batch are within the declared "
    "limits.",
    DRIFT: "No column has drifted further from the live batch than declared.",
    VERSION_ACCURACY: "Earlier batches of the same version were not worse than promised by "
    "`quality.accuracy.block`.",
}


def quality_checks(declaration: ModelDeclaration) -> dg.AssetChecksDefinition:
    """Return the checks that can keep a loaded batch from being published automatically."""
    model = declaration.name
    specs = {
        name: dg.AssetCheckSpec(
            name, asset=asset_key(model, SNOWFLAKE), blocking=True, description=description
        )
        for name, description in _DESCRIPTIONS.items()
        if name != VERSION_ACCURACY or _judges_version(declaration)
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
            examiner = batch_examiner(session, declaration, record, manifest)
            found = examine_batch(examiner, platform, record, manifest)
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
                metadata={
                    "partition": record.partition,
                    "model_version": manifest.model_version,
                    **drift_table(found),
                    **pictures(batch_id, found),
                },
                note=_OTHER_VERSION if found.live_model_version else "",
            ),
        }
        if VERSION_ACCURACY in specs:
            results[VERSION_ACCURACY] = check_result(
                specs[VERSION_ACCURACY], found.of_version, found, batch_id
            )
        for name, result in results.items():
            if specs[name].key in context.op_execution_context.selected_asset_check_keys:
                yield result

    return quality


def batch_examiner(
    session: WarehouseSession, declaration: ModelDeclaration, record: BatchRecord, manifest: Manifest
) -> Examiner:
    """Return the examiner of a loaded batch, with the rules by which its rows were cleaned."""
    return Examiner(
        query=session.rows,
        declaration=declaration,
        written=manifest.schema,
        cleaning=recorded_cleaning(record.cleaning),
    )


def examine_batch(
    examiner: Examiner, platform: Platform, record: BatchRecord, manifest: Manifest
) -> Examination:
    """Check a loaded batch against the rules and the live batch, and record the verdict.

    Args:
        examiner: The batch's examiner.
        platform: The resources and settings.
        record: The batch's record, read before the examination; the verdict applies to its last load.
        manifest: The batch's manifest.

    Raises:
        RuleViolationError: The batch was loaded again in the meantime.
    """
    registry, attempt = platform.registry, complete_attempt(record)
    compared = compared_batch(registry, record, platform.settings.deployment.home)
    found = replace(
        examiner.examine(
            record.batch_id, compared, live_model_version=_other_version(platform, manifest, compared)
        ),
        of_version=_version_findings(platform, examiner.declaration, manifest),
    )

    def decide() -> Transaction:
        present = loaded_batch(registry, record.model, record.batch_id)
        return record_checks(present, attempt=attempt, faults=found.blocking)

    registry.carry_out(decide)
    return found


def _judges_version(declaration: ModelDeclaration) -> bool:
    return declaration.quality.accuracy.block is not None and has_accuracy(declaration)


def _version_findings(
    platform: Platform, declaration: ModelDeclaration, manifest: Manifest
) -> list[QualityFinding]:
    """Return findings on earlier batches of the version that scored this batch."""
    if not _judges_version(declaration):
        return []
    worse = decayed_accuracy(
        platform.bucket, platform.registry, declaration, manifest.model_version, least=Level.BLOCK
    )
    return [
        QualityFinding(Level.BLOCK, f"An earlier batch of the same model version: {finding.text}")
        for finding in worse
    ]


def compared_batch(registry: RegistryTable, record: BatchRecord, home_region: str) -> str | None:
    """Return the live batch's id, or its predecessor's if the batch itself is live; None if none."""
    pointer = registry.pointer(record.model, home_region)
    if pointer is None:
        return None
    return pointer.previous_batch_id if pointer.batch_id == record.batch_id else pointer.batch_id


def _other_version(platform: Platform, manifest: Manifest, compared: str | None) -> str | None:
    """Return the version that scored the other batch if it differs; None if it is equal or unknown."""
    record = platform.registry.batch(manifest.model, compared) if compared else None
    if record is None:
        return None
    try:
        version = registered_manifest(platform.bucket, record).model_version
    except (ManifestReplacedError, ObjectMissingError):
        return None
    return version if version != manifest.model_version else None


def check_result(
    spec: dg.AssetCheckSpec,
    findings: list[QualityFinding],
    found: Examination,
    batch_id: str,
    *,
    metadata: dict[str, Any] | None = None,
    note: str = "",
) -> dg.AssetCheckResult:
    """Return findings as a check result; only blocking findings fail with severity ERROR.

    Args:
        spec: The check's specification.
        findings: The check's findings.
        found: The batch's whole examination.
        batch_id: The batch.
        metadata: Metadata in addition to that of every check.
        note: A remark that is added to the description.
    """
    level = highest_level(findings)
    facts = found.facts
    counted = {
        "batch_id": batch_id,
        "rows": facts.rows,
        "compared_with": found.live_batch_id,
        "live_model_version": found.live_model_version,
        "live_rows": facts.live_rows,
        "shared_entities": facts.shared_entities,
    }
    return dg.AssetCheckResult(
        asset_key=spec.asset_key,
        check_name=spec.name,
        passed=level is Level.PASS,
        severity=dg.AssetCheckSeverity.ERROR if level is Level.BLOCK else dg.AssetCheckSeverity.WARN,
        description=". ".join(text for text in (*(finding.text for finding in findings), note) if text)
        or "No rule is violated",
        metadata={name: value for name, value in counted.items() if value is not None} | (metadata or {}),
    )
