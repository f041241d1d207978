"""Tests of the load report: writing and parsing, evidence and refusals."""

from __future__ import annotations

import json

import pytest

from prediction_contract.manifests.load_report import (
    InvalidReportError,
    LoadEvidence,
    LoadReport,
    PartReport,
    QuarantineReport,
    StoreReport,
)
from prediction_contract.rows.checksums import RowTally
from tests.fakes.foreign_documents import refusals

TWO, ONE, ALL = (RowTally(rows=rows, checksum=checksum) for rows, checksum in ((2, 5), (1, 2**63), (3, 7)))
REPORT = LoadReport(
    status="loaded",
    model="flight_delay",
    batch_id="20130201T060000Z-0123abcd",
    attempt=2,
    job_run_id="jr_1",
    manifest_digest="ab" * 32,
    started_at="2013-02-01T06:00:00Z",
    ended_at="2013-02-01T06:01:00Z",
    items_expire_at=1_500_000_000,
    expected=ALL,
    parts=(PartReport(key="predictions/a", read=ALL, quarantined=ONE, acknowledged=TWO),),
    dynamodb=StoreReport(table="online", rows=TWO, verified_rows=2, details={"write_units": 2}),
    snowflake=StoreReport(table="T", rows=TWO, verified_rows=2, details={"query_ids": {"commit": "x"}}),
    quarantine=QuarantineReport(rows=ONE, reasons={"missing_key": 1}, keys=("quarantine/a",)),
    durations={"survey": 12},
)


def test_report_round_trip() -> None:
    """A report survives writing and parsing, and yields the evidence for the registry."""
    found = LoadReport.parse(REPORT.to_bytes())
    assert found == REPORT
    assert found.evidence() == LoadEvidence(attempt=2, dynamodb=TWO, snowflake=TWO, quarantined=ONE)


def test_refused_load_yields_no_evidence() -> None:
    """The report of a refused load gives the reason and no evidence."""
    members = {name: getattr(REPORT, name) for name in LoadReport.__dataclass_fields__}
    refused = LoadReport(
        **members
        | {"status": "refused", "reason": "no part", "expected": None, "dynamodb": None, "parts": ()}
    )
    found = LoadReport.parse(refused.to_bytes())
    assert (found.reason, found.expected, found.evidence()) == ("no part", None, None)


@pytest.mark.parametrize(
    "change",
    [
        {"report_version": 2},
        {"status": "perhaps"},
        {"attempt": "2"},
        {"attempt": True},
        {"parts": None},
        {"dynamodb": {}},
        {"expected": {"rows": 1, "checksum": "-1"}},
        {"durations": {"survey": "long"}},
        {"durations": []},
    ],
)
def test_invalid_report_member_is_refused(change: dict[str, object]) -> None:
    """A report of another version or with an unknown status or wrongly typed member is refused."""
    document = json.loads(REPORT.to_bytes()) | change
    with pytest.raises(InvalidReportError):
        LoadReport.parse(json.dumps(document).encode())


@pytest.mark.parametrize("content", [b"", b"[]", b"{}", b"\xff", b"null"])
def test_content_without_a_report_is_refused(content: bytes) -> None:
    """Content that is not a JSON object with a report's members is refused."""
    with pytest.raises(InvalidReportError):
        LoadReport.parse(content)


def test_malformed_reports_are_reported_plainly() -> None:
    """Each missing or wrong member of a report is refused with a readable message."""
    whole = json.loads(REPORT.to_bytes())
    assert len(refusals(LoadReport.parse, whole, InvalidReportError)) > len(whole)
    with pytest.raises(InvalidReportError, match="attempt is a text, not a whole number"):
        LoadReport.parse(json.dumps({**whole, "attempt": "2"}).encode())
