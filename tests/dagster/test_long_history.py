"""Costs of registry operations do not grow with the length of a model's history."""

from __future__ import annotations

import argparse
from dataclasses import replace

from benchmarks.long_history import MODEL, NOW, SHORT, CannedAccess, LongHistory, costs, declaration
from mlpipe_dagster.cli.health.doctor import doctor
from prediction_contract.registry.records import BatchRecord, LoadState, ReleaseState, RetentionRecord
from prediction_contract.registry.retention_rules import record_sweep
from prediction_contract.text.utc_time import format_utc


def test_longer_history_needs_no_more_requests() -> None:
    """Publish, rollback, sensors, `doctor` and retention read only recent or retained batches.

    1,200 hourly batches already exceed everything that is read, so 400 more must cost nothing.
    """
    short, long, longer = costs(SHORT), costs(1200), costs(1600)
    assert longer == long
    # A page holds over a thousand records, so the same requests only return more of them.
    for name, cost in long.items():
        few = short[name]
        assert replace(cost, items=0, rows=0) == replace(few, items=0, rows=0), name


def test_doctor_finds_overdue_batch_behind_many_retired_ones() -> None:
    """More than 400 retired batches do not hide the one whose retention has ended."""
    history = LongHistory.of(1200)
    records = list(history.table.batches(MODEL))
    retired = [record for record in records if record.load_state == LoadState.RETIRED]
    overdue = next(record for record in records if record.load_state == LoadState.VERIFIED)
    history.put(replace(overdue, retain_until=format_utc(NOW.replace(year=NOW.year - 1))))
    assert len(retired) > 400

    answer = doctor(argparse.Namespace(model=MODEL, days=7), CannedAccess(history, declaration()))
    found = [each["batch_id"] for each in answer.document["findings"] if each["topic"] == "retention"]
    assert found == [overdue.batch_id]


def test_rollback_target_is_searched_among_retained_batches() -> None:
    """It is found behind many withdrawn batches, and after a rollback to it there is none."""
    history = LongHistory.of(1200)
    registry = history.table
    superseded = [
        record
        for record in registry.batches(MODEL)
        if record.load_state == LoadState.VERIFIED and record.release_state == ReleaseState.SUPERSEDED
    ]
    for record in superseded[1:]:
        history.put(replace(record, release_state=ReleaseState.WITHDRAWN))
    found = RetentionRecord(model=MODEL, sweep_from="", retained_from=superseded[0].batch_id)
    registry.carry_out(lambda: record_sweep(found))

    targets: list[BatchRecord | None] = []
    cost = history.cost_of(lambda: targets.append(registry.rollback_target(MODEL)))
    assert targets == [superseded[0]]
    assert sum(cost.requests.values()) < 20

    history.put(replace(superseded[0], release_state=ReleaseState.LIVE))
    cost = history.cost_of(lambda: targets.append(registry.rollback_target(MODEL)))
    assert targets[1:] == [None]
    assert sum(cost.requests.values()) < 20
