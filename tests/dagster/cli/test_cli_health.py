"""Findings of `mlpipe doctor` on a model's records, without any store, so that each fault can be tested."""

from __future__ import annotations

from datetime import UTC, datetime, timedelta
from typing import Any

import pytest

from mlpipe_dagster.cli.health.health_findings import HealthFinding
from mlpipe_dagster.cli.health.model_health import (
    ModelRecords,
    model_findings,
    projection_findings,
    staging_findings,
    unregistered_findings,
)
from prediction_contract.registry.records import BatchRecord, LivePointer, LivePointers, RetentionRecord
from prediction_contract.text.utc_time import format_utc

NOW = datetime(2026, 11, 23, 12, tzinfo=UTC)
MODEL = "tides"
OLD, LIVE, NEW = "20261110T010203Z-00000001", "20261123T010203Z-00000002", "20261123T020203Z-00000003"
HOUR, DAY = timedelta(hours=1), timedelta(days=1)


def batch(batch_id: str = LIVE, **values: Any) -> BatchRecord:
    """Return a healthy batch, unless changed."""
    return BatchRecord(
        **{
            "model": MODEL,
            "batch_id": batch_id,
            "load_state": "verified",
            "row_count": 100,
            "accepted_rows": 99,
            "manifest_key": f"done/2026-11-23/{MODEL}/{batch_id}.json",
            "items_expire_at": format_utc(NOW + 30 * DAY),
            **values,
        }
    )


def records(
    *batches: BatchRecord,
    home: LivePointer | None = None,
    regions: dict[str, LivePointer | None] | None = None,
    rollback_target: BatchRecord | None = None,
    not_vacuumed: str | None = None,
) -> ModelRecords:
    """Return a model's records with a healthy live batch, unless changed."""
    return ModelRecords(
        model=MODEL,
        batches=batches or (batch(),),
        live_pointers=LivePointers(
            home_region="us-east-1",
            home=home or LivePointer(model=MODEL, batch_id=LIVE, sequence=3, published_at=format_utc(NOW)),
            regions=regions or {},
        ),
        rollback_target=rollback_target,
        retention=RetentionRecord(model=MODEL, swept_at=format_utc(NOW - DAY), not_vacuumed=not_vacuumed),
        minimum_life=DAY,
        now=NOW,
    )


def summaries(findings: Any) -> list[tuple[str, str, str | None]]:
    """Return severity, topic and batch of findings; assert that each has a text and a remedy."""
    found: list[HealthFinding] = list(findings)
    for finding in found:
        assert finding.what
        assert finding.remedy
        assert finding.model == MODEL
        assert not finding.what.endswith(".")
    return [(str(each.severity), each.topic, each.batch_id) for each in found]


def test_healthy_model_has_no_findings() -> None:
    """The live batch is verified, far from its expiry and live in all regions."""
    follower = LivePointer(model=MODEL, batch_id=LIVE, sequence=2)
    assert summaries(model_findings(records(regions={"eu-west-1": follower}))) == []


def test_region_that_serves_another_batch_is_found() -> None:
    """A region that lags and one without a live pointer are both named."""
    late = LivePointer(model=MODEL, batch_id=OLD, sequence=2)
    found = list(model_findings(records(regions={"eu-west-1": late, "ap-south-1": None})))
    assert summaries(found) == [("warning", "pointers", LIVE)] * 2
    assert f"eu-west-1 serves {OLD}" in found[0].what
    assert "ap-south-1 serves nothing" in found[1].what


@pytest.mark.parametrize(
    ("accepted", "severity", "what", "remedy"),
    [
        (0, "error", "none of its 6 rows was accepted", "Roll back"),
        (None, "warning", "did not record its accepted rows", "--again"),
    ],
)
def test_served_batch_without_accepted_rows_is_found(
    accepted: int | None, severity: str, what: str, remedy: str
) -> None:
    """No accepted rows is an error; a count that an earlier version did not record is a warning."""
    found = list(model_findings(records(batch(row_count=6, accepted_rows=accepted))))
    assert summaries(found) == [(severity, "rows", LIVE)]
    assert what in found[0].what
    assert remedy in found[0].remedy
    late = LivePointer(model=MODEL, batch_id=OLD, sequence=2)
    old = batch(OLD, accepted_rows=accepted)
    assert (severity, "rows", OLD) in summaries(
        model_findings(records(old, batch(), regions={"eu-west-1": late}))
    )
    assert summaries(model_findings(records(old, batch()))) == []


def test_hold_and_missing_publication_are_notes() -> None:
    """Neither is a fault."""
    held = LivePointer(model=MODEL, batch_id=LIVE, sequence=3, hold=True)
    assert summaries(model_findings(records(home=held))) == [("note", "hold", LIVE)]
    assert summaries(model_findings(records(home=LivePointer(model=MODEL)))) == [("note", "pointers", None)]


@pytest.mark.parametrize(
    ("life", "severity"), [(8 * DAY, None), (6 * DAY, "warning"), (DAY - HOUR, "error"), (-HOUR, "error")]
)
def test_served_batch_near_its_expiry_is_found(life: timedelta, severity: str | None) -> None:
    """Below the minimum of remaining life it is an error, since it could not even be published again."""
    found = summaries(model_findings(records(batch(items_expire_at=format_utc(NOW + life)))))
    assert found == ([(severity, "expiry", LIVE)] if severity else [])


def test_expiry_counts_in_late_regions_too() -> None:
    """A batch that only a late region serves still has readers."""
    late = LivePointer(model=MODEL, batch_id=OLD, sequence=2)
    old = batch(OLD, items_expire_at=format_utc(NOW + HOUR))
    found = summaries(model_findings(records(old, batch(), regions={"eu-west-1": late})))
    assert ("error", "expiry", OLD) in found


@pytest.mark.parametrize(
    ("changes", "is_found"),
    [
        ({}, True),
        ({"retain_until": format_utc(NOW - DAY)}, False),
        ({"load_state": "retired", "claim_token": "t", "claim_job_run_id": "a dagster run"}, True),
        ({"load_state": "retired", "cleared_at": format_utc(NOW)}, False),
        ({"batch_id": LIVE}, False),
    ],
)
def test_batches_kept_past_their_retention_are_found(changes: dict[str, Any], is_found: bool) -> None:
    """A batch overdue by days is a warning, unless it is cleared, live or the rollback target."""
    over = format_utc(NOW - 4 * DAY)
    old = batch(**{"batch_id": OLD, "retain_until": over, "release_state": "superseded", **changes})
    # The target of a rollback is kept.
    newer = batch("20261120T010203Z-00000004", release_state="superseded", retain_until=over)
    found = summaries(model_findings(records(old, newer, rollback_target=newer)))
    assert found == ([("warning", "retention", OLD)] if is_found else [])


def test_delta_files_that_no_sweep_may_delete_are_found() -> None:
    """They stay until a person restores the missing done file."""
    found = list(model_findings(records(not_vacuumed="2 files stay. done/x.json does not exist.")))
    assert summaries(found) == [("warning", "retention", None)]
    assert "done/x.json does not exist" in found[0].what


@pytest.mark.parametrize(
    ("batch_id", "severity"), [(OLD, "note"), (NEW, "warning"), ("20261101T000000Z-00000009", "note")]
)
def test_refusal_is_a_warning_until_a_newer_batch_is_live(batch_id: str, severity: str) -> None:
    """An older refusal is only a note, which leaves the deployment healthy."""
    refused = batch(batch_id, load_state="refused", refusal_reason="part-00000 is missing")
    assert summaries(model_findings(records(refused, batch()))) == [(severity, "refused", batch_id)]


def test_claim_not_confirmed_in_time_is_found() -> None:
    """A claim that may still be confirmed, or was, is no finding."""
    claimed = {"load_state": "loading", "claim_token": "t"}
    waits = batch(NEW, claim_confirm_by=format_utc(NOW + HOUR), **claimed)
    assert summaries(model_findings(records(batch(), waits))) == []
    lapsed = batch(NEW, claim_confirm_by=format_utc(NOW - HOUR), **claimed)
    assert summaries(model_findings(records(batch(), lapsed))) == [("warning", "claims", NEW)]
    confirmed = batch(NEW, claim_confirm_by=format_utc(NOW - HOUR), claim_job_run_id="jr_1", **claimed)
    assert summaries(model_findings(records(batch(), confirmed))) == []


@pytest.mark.parametrize("state", ["done", "loaded"])
def test_batch_without_progress_is_found(state: str) -> None:
    """A batch that stays done or loaded without a claim for over an hour is forgotten."""
    late = batch("20261123T105959Z-00000004", load_state=state)
    assert summaries(model_findings(records(batch(), late))) == [("warning", "waiting", late.batch_id)]
    fresh = batch("20261123T110000Z-00000004", load_state=state)
    assert summaries(model_findings(records(batch(), fresh))) == []
    repeated = batch(NEW, load_state=state, writing_begun_at=format_utc(NOW - HOUR))
    assert summaries(model_findings(records(batch(), repeated))) == []


@pytest.mark.parametrize(("partition", "is_found"), [("2013-02-02", True), ("2013-01-31", False)])
def test_blocked_batch_is_found_while_it_is_newer(partition: str, is_found: bool) -> None:
    """A batch of an older partition than the live one would not have become live anyway."""
    home = LivePointer(model=MODEL, batch_id=LIVE, partition="2013-02-01", sequence=3)
    blocked = batch(NEW, partition=partition, check_faults="score: 40 % of the values are null")
    found = list(model_findings(records(batch(partition="2013-02-01"), blocked, home=home)))
    assert summaries(found) == ([("warning", "blocked", NEW)] if is_found else [])
    assert all("40 % of the values are null" in each.what for each in found)


def test_lagging_projection_is_an_error_and_a_gap_a_warning() -> None:
    """Out of step, the live view shows another batch; a gap in its past leaves the view right."""
    seen = records(home=LivePointer(model=MODEL, batch_id=LIVE, sequence=3))
    assert summaries(projection_findings(seen, 3, [])) == []
    assert summaries(projection_findings(seen, 3, [(1, 3)])) == [("warning", "projection", None)]
    for highest in (0, 2, 4):
        assert summaries(projection_findings(seen, highest, [])) == [("error", "projection", None)]


def test_unused_staging_table_is_found() -> None:
    """Tables of a claimed batch and of a model with a similar name are not reported."""
    claimed = batch(NEW, load_state="loading", claim_token="t", claim_job_run_id="jr_1")
    own = "TIDES_STAGING_20261110T010203Z_00000001_AAAAAAAAAAAA"
    used = "TIDES_STAGING_20261123T020203Z_00000003_BBBBBBBBBBBB"
    tables = [
        own,
        used,
        f"{used}_REFUSED",
        "TIDES_OF_SPRING_STAGING_20261110T010203Z_00000001_A",
        "TIDES_LOADS",
    ]
    found = list(staging_findings(records(), tables, lambda batch_id: batch_id == claimed.batch_id))
    assert summaries(found) == [("warning", "staging", None)]
    assert own in found[0].what


def test_done_file_missing_from_the_registry_is_found() -> None:
    """A fresh one is left to the sensor, and a registered one is no finding."""
    files = {OLD: NOW - DAY, LIVE: NOW - DAY, NEW: NOW - timedelta(minutes=5)}
    found = list(unregistered_findings(MODEL, files, {LIVE}, NOW))
    assert summaries(found) == [("warning", "done_files", OLD)]
    assert f"mlpipe load done/2026-11-10/{MODEL}/{OLD}.json" in found[0].remedy
