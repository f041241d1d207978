"""Documents about a batch: its manifest, the reports of its loads, its publications."""

from __future__ import annotations

from collections.abc import Iterable, Iterator
from datetime import timedelta
from typing import Any

from mlpipe_dagster.cli.command_output import Table
from mlpipe_dagster.cli.deployment_access import DeploymentAccess
from mlpipe_dagster.done_files.registration import registered_manifest
from mlpipe_dagster.resources.data_bucket import DataBucket, ObjectMissingError
from prediction_contract.errors import ContractError
from prediction_contract.manifests.load_report import LoadReport
from prediction_contract.manifests.manifest import Manifest
from prediction_contract.naming.batch import BatchId
from prediction_contract.naming.s3_layout import report_key
from prediction_contract.registry.records import BatchRecord, PublicationEntry
from prediction_contract.registry.table import RegistryTable
from prediction_contract.text.utc_time import parse_utc

# Much more than clocks may differ, and still cheap to read.
_MINTING_MARGIN = timedelta(days=1)
# The members that are null for an attempt without a report.
_UNREPORTED = ("started_at", "ended_at", "rows_dynamodb", "rows_snowflake", "rows_quarantined", "write_units")
_PUBLICATION = (
    "sequence",
    "action",
    "batch_id",
    "previous_batch_id",
    "published_at",
    "actor",
    "reason",
    "request_id",
)
_CHECK = ("asset", "check", "passed", "severity", "at", "description")
# The claim token authorizes a job run, so it is not shown.
_RECORD = tuple(name for name in BatchRecord.__dataclass_fields__ if name != "claim_token")


def record_document(record: BatchRecord) -> dict[str, Any]:
    """Return a batch's registry record without the claim token."""
    document = {name: getattr(record, name) for name in _RECORD}
    return {
        **document,
        "verified_regions": sorted(record.verified_regions),
        "is_claimed": record.claim_token is not None,
    }


def find_manifest(access: DeploymentAccess, record: BatchRecord) -> tuple[Manifest | None, str | None]:
    """Return the manifest that a batch was registered with, or the reason why it cannot be read."""
    try:
        return registered_manifest(access.bucket, record), None
    except ContractError as error:
        return None, str(error)


def manifest_document(manifest: Manifest) -> dict[str, Any]:
    """Return a summary of a manifest, with counts instead of lists of parts and files."""
    return {
        "key": manifest.key,
        "digest": manifest.digest,
        "created_at": manifest.created_at,
        "attempt": manifest.attempt,
        "partition": str(manifest.partition),
        "model_version": manifest.model_version,
        "model_package": package_document(manifest),
        "code_version": manifest.code_version,
        "previous_batch_id": None if manifest.previous_batch_id is None else str(manifest.previous_batch_id),
        "row_count": manifest.row_count,
        "checksum": manifest.checksum,
        "key_column": manifest.schema.key,
        "columns": len(manifest.schema.columns),
        "json_parts": len(manifest.json_parts),
        "bytes": sum(part.bytes for part in manifest.json_parts),
        "delta_version": manifest.delta.version,
        "delta_files": len(manifest.delta.files),
        "producer": {"job_name": manifest.producer.job_name, "job_arn": manifest.producer.job_arn},
    }


def package_document(manifest: Manifest | None) -> dict[str, Any] | None:
    """Return the registered model version that scored a batch, or None."""
    package = manifest and manifest.model_package
    if package is None:
        return None
    return {"version": package.version, "approved_by": package.approved_by, "arn": package.arn}


def package_version(manifest: Manifest | None) -> int | None:
    """Return the number of the registered model version that scored a batch, or None."""
    package = manifest and manifest.model_package
    return package.version if package else None


def find_report(bucket: DataBucket, record: BatchRecord, attempt: int) -> tuple[LoadReport | None, str]:
    """Return the report of one load attempt, or the reason why there is none."""
    try:
        return LoadReport.parse(bucket.read(report_key(record.model, record.batch_id, attempt))), ""
    except ObjectMissingError:
        return None, "the attempt left no report"
    except ContractError as error:
        return None, str(error)


def load_reports(bucket: DataBucket, record: BatchRecord) -> Iterator[tuple[int, LoadReport | None, str]]:
    """Yield each load attempt with its report, or the reason why there is none, newest first."""
    for attempt in range(record.load_attempts, 0, -1):
        yield attempt, *find_report(bucket, record, attempt)


def load_documents(
    record: BatchRecord, reports: Iterable[tuple[int, LoadReport | None, str]]
) -> list[dict[str, Any]]:
    """Return the outcomes of all load attempts, oldest first."""
    return [_load_document(record, *found) for found in reports][::-1]


def _load_document(
    record: BatchRecord, attempt: int, report: LoadReport | None, why_not: str
) -> dict[str, Any]:
    if report is None:
        under_way = record.claim_token is not None and attempt == record.load_attempts
        return {
            "attempt": attempt,
            "status": "under way" if under_way else "unknown",
            "job_run_id": record.claim_job_run_id if under_way else None,
            **dict.fromkeys(_UNREPORTED),
            "durations_ms": {},
            "reason": None if under_way else why_not,
        }
    online, warehouse = report.dynamodb, report.snowflake
    return {
        "attempt": attempt,
        "status": report.status,
        "job_run_id": report.job_run_id,
        "started_at": report.started_at,
        "ended_at": report.ended_at,
        "rows_dynamodb": online.rows.rows if online else None,
        "rows_snowflake": warehouse.rows.rows if warehouse else None,
        "rows_quarantined": report.quarantine.rows.rows,
        "write_units": online.details.get("write_units") if online else None,
        "durations_ms": dict(report.durations),
        "reason": report.reason,
    }


def publication_documents(registry: RegistryTable, record: BatchRecord) -> list[dict[str, Any]]:
    """Return the publications that made a batch live or replaced it, in order.

    Reads only publications from the batch's minting to the one that last replaced it.
    """
    if record.published_sequence is None:
        return []
    minted_at = BatchId(record.batch_id).minted_at - _MINTING_MARGIN
    entries: list[PublicationEntry] = []
    for entry in registry.newest_publications(record.model, up_to=record.superseded_sequence):
        if parse_utc(entry.published_at) < minted_at:
            break
        if record.batch_id in {entry.batch_id, entry.previous_batch_id}:
            entries.append(entry)
    return [{name: getattr(entry, name) for name in _PUBLICATION} for entry in reversed(entries)]


def quarantine_summary(report: LoadReport | None) -> dict[str, Any]:
    """Return the number of refused rows by reason, from a load's report."""
    found = report.quarantine if report else None
    return {
        "attempt": report.attempt if report else None,
        "rows": found.rows.rows if found else None,
        "reasons": dict(found.reasons) if found else {},
        "keys": list(found.keys) if found else [],
    }


def publication_table(publications: list[dict[str, Any]]) -> Table:
    """Return publications as a table."""
    return Table(
        title="publications",
        columns=_PUBLICATION[:-1],
        rows=publications,
        whole=frozenset({"batch_id", "previous_batch_id"}),
    )


def check_table(checks: list[dict[str, Any]], unknown: str | None) -> Table:
    """Return check results as a table."""
    return Table(
        title="checks", columns=_CHECK, rows=checks, empty=f"unknown: {unknown}" if unknown else "none"
    )
