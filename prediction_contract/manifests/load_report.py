"""The report that a load writes to S3 as its last step. A run that replaces a crashed one reads it."""

from __future__ import annotations

from dataclasses import dataclass, field
from typing import TYPE_CHECKING, Any, Self

from prediction_contract.errors import ContractError
from prediction_contract.rows.checksums import RowTally, parse_batch_checksum
from prediction_contract.text.canonical_json import (
    InvalidJsonError,
    canonical_bytes,
    parse_json,
)
from prediction_contract.text.json_members import DocumentShapeError, member, members_of

if TYPE_CHECKING:
    from collections.abc import Mapping

REPORT_VERSION = 1
LOADED, REFUSED, FAILED = "loaded", "refused", "failed"
_STATUSES = frozenset({LOADED, REFUSED, FAILED})


class InvalidReportError(ContractError):
    """The object under a report's key is not a report of this contract."""


@dataclass(frozen=True, slots=True, kw_only=True)
class LoadEvidence:
    """The rows counted in the stores after a load.

    Attributes:
        attempt: The load attempt.
        dynamodb: The rows in the online table.
        snowflake: The rows in the warehouse table.
        quarantined: The refused rows, which are in neither store.
    """

    attempt: int
    dynamodb: RowTally
    snowflake: RowTally
    quarantined: RowTally


@dataclass(frozen=True, slots=True, kw_only=True)
class PartReport:
    """The load of one JSON part.

    Attributes:
        key: The part's key.
        read: All its lines.
        quarantined: Its refused lines.
        acknowledged: Its rows that DynamoDB acknowledged.
    """

    key: str
    read: RowTally
    quarantined: RowTally
    acknowledged: RowTally


@dataclass(frozen=True, slots=True, kw_only=True)
class StoreReport:
    """The batch's rows in one store.

    Attributes:
        table: The table's name.
        rows: The stored rows.
        verified_rows: The number of rows that were read back and compared equal.
        details: For DynamoDB `write_units`, `write_units_per_second`, `retried_items`, `found_rows` (written
            by an earlier attempt, all read back) and, after a scan, `scan_read_units`; for Snowflake
            `query_ids`.
    """

    table: str
    rows: RowTally
    verified_rows: int
    details: Mapping[str, Any] = field(default_factory=dict)


@dataclass(frozen=True, slots=True, kw_only=True)
class QuarantineReport:
    """The refused rows, their number by reason, and the keys of the files that hold them."""

    rows: RowTally = field(default_factory=lambda: RowTally(rows=0, checksum=0))
    reasons: Mapping[str, int] = field(default_factory=dict)
    keys: tuple[str, ...] = ()


@dataclass(frozen=True, slots=True, kw_only=True)
class LoadReport:
    """The result of one load attempt, as the job run saw it. The registry's record takes precedence.

    Attributes:
        status: `loaded`, `refused` or `failed`.
        model: The model's name.
        batch_id: The batch.
        attempt: The load attempt, as in the report's key.
        job_run_id: The job run that wrote it.
        manifest_digest: The digest of the manifest that was loaded.
        started_at: When the job run began, in the form of `format_utc`.
        ended_at: When the report was written, in the same form.
        items_expire_at: When its first item expires, in seconds since 1970.
        reason: Why the batch was refused or the load failed; None if loaded.
        expected: The manifest's rows and checksum; None if the manifest is unreadable.
        parts: One report per part, in the manifest's order; empty unless loaded.
        dynamodb: The rows in DynamoDB; None unless loaded.
        snowflake: The rows in Snowflake; None unless loaded.
        quarantine: The refused rows.
        durations: Milliseconds by step.
    """

    status: str
    model: str
    batch_id: str
    attempt: int
    job_run_id: str
    manifest_digest: str
    started_at: str
    ended_at: str
    items_expire_at: int
    reason: str | None = None
    expected: RowTally | None = None
    parts: tuple[PartReport, ...] = ()
    dynamodb: StoreReport | None = None
    snowflake: StoreReport | None = None
    quarantine: QuarantineReport = field(default_factory=QuarantineReport)
    durations: Mapping[str, int] = field(default_factory=dict)

    def evidence(self) -> LoadEvidence | None:
        """Return the evidence for `load_rules.verify_load`; None unless loaded."""
        if self.status != LOADED or self.dynamodb is None or self.snowflake is None:
            return None
        return LoadEvidence(
            attempt=self.attempt,
            dynamodb=self.dynamodb.rows,
            snowflake=self.snowflake.rows,
            quarantined=self.quarantine.rows,
        )

    def to_bytes(self) -> bytes:
        """Return the report as canonical JSON in UTF-8."""
        plain = ("status", "model", "batch_id", "attempt", "job_run_id", "manifest_digest")
        moments = ("started_at", "ended_at", "items_expire_at", "reason")
        document: dict[str, Any] = {name: getattr(self, name) for name in (*plain, *moments)}
        document |= {
            "report_version": REPORT_VERSION,
            "expected": None if self.expected is None else _tally_document(self.expected),
            "parts": [
                {"key": part.key} | {name: _tally_document(getattr(part, name)) for name in _PART_TALLIES}
                for part in self.parts
            ],
            "dynamodb": _store_document(self.dynamodb),
            "snowflake": _store_document(self.snowflake),
            "quarantine": {
                **_tally_document(self.quarantine.rows),
                "reasons": dict(self.quarantine.reasons),
                "keys": list(self.quarantine.keys),
            },
            "durations": dict(self.durations),
        }
        return canonical_bytes(document)

    @classmethod
    def parse(cls, content: bytes) -> Self:
        """Return the report in a document. Unknown members are ignored.

        Raises:
            InvalidReportError: The bytes are not a report, or the report has another version.
        """
        try:
            document: Any = parse_json(content)
            return cls(**_fields(document))
        except InvalidJsonError as error:
            raise _unreadable(error.what) from error
        except ValueError as error:
            raise _unreadable(str(error)) from error


def _unreadable(why: str) -> InvalidReportError:
    return InvalidReportError(
        f"A load report cannot be read: {why}"[:500],
        remedy="Load the batch again, with the job and Dagster from the same release",
    )


_PART_TALLIES = ("read", "quarantined", "acknowledged")


def _tally_document(tally: RowTally) -> dict[str, Any]:
    return {"rows": tally.rows, "checksum": tally.checksum_text}


def _store_document(store: StoreReport | None) -> dict[str, Any] | None:
    if store is None:
        return None
    return {
        "table": store.table,
        **_tally_document(store.rows),
        "verified_rows": store.verified_rows,
        "details": dict(store.details),
    }


def _fields(document: Any) -> dict[str, Any]:
    report = members_of(document, "it")
    version, status = member(report, "report_version", int), member(report, "status", str)
    if version != REPORT_VERSION or status not in _STATUSES:
        raise ValueError(f"version {version} and status {status[:40]!r} are not known")
    texts = ("status", "model", "batch_id", "job_run_id", "manifest_digest", "started_at", "ended_at")
    quarantine = member(report, "quarantine", dict)
    return {
        **{name: member(report, name, str) for name in texts},
        "attempt": member(report, "attempt", int),
        "items_expire_at": member(report, "items_expire_at", int),
        "reason": None if _is_null(report, "reason") else member(report, "reason", str),
        "expected": None if _is_null(report, "expected") else _tally(member(report, "expected", dict)),
        "parts": tuple(_part(part) for part in member(report, "parts", list)),
        "dynamodb": _store(report, "dynamodb"),
        "snowflake": _store(report, "snowflake"),
        "quarantine": QuarantineReport(
            rows=_tally(quarantine),
            reasons=_counts(quarantine, "reasons"),
            keys=_keys(member(quarantine, "keys", list)),
        ),
        "durations": _counts(report, "durations"),
    }


def _is_null(members: Mapping[str, Any], name: str) -> bool:
    return name in members and members[name] is None


def _part(document: object) -> PartReport:
    part = members_of(document, "one of parts")
    tallies = {name: _tally(member(part, name, dict)) for name in _PART_TALLIES}
    return PartReport(key=member(part, "key", str), **tallies)


def _keys(keys: list[Any]) -> tuple[str, ...]:
    if not all(type(key) is str for key in keys):
        raise DocumentShapeError("keys are not all text")
    return tuple(keys)


def _counts(members: Mapping[str, Any], name: str) -> dict[str, int]:
    counts = member(members, name, dict)
    return {counted: member(counts, counted, int) for counted in counts}


def _tally(members: Mapping[str, Any]) -> RowTally:
    checksum = parse_batch_checksum(member(members, "checksum", str))
    return RowTally(rows=member(members, "rows", int), checksum=checksum)


def _store(report: Mapping[str, Any], name: str) -> StoreReport | None:
    if _is_null(report, name):
        return None
    store = member(report, name, dict)
    return StoreReport(
        table=member(store, "table", str),
        rows=_tally(store),
        verified_rows=member(store, "verified_rows", int),
        details=member(store, "details", dict),
    )
