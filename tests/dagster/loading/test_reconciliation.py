"""Counts, checksums and rows read back decide whether a batch is accounted for."""

from __future__ import annotations

import dataclasses

import pytest

from mlpipe_dagster.loading.online_count import OnlineCount
from mlpipe_dagster.loading.reconciliation import balances, evidence
from prediction_contract.manifests.load_report import LOADED, LoadReport, QuarantineReport, StoreReport
from prediction_contract.rows.checksums import RowTally

PROMISED = RowTally(rows=10, checksum=2**64 - 5)
REFUSED = RowTally(rows=1, checksum=7)
# Modulo 2^64, the checksums of the nine stored rows and the refused row add up to the promised one.
STORED = RowTally(rows=9, checksum=-12)


def report(read_back: int = 9) -> LoadReport:
    """Return the report of a complete load."""
    return LoadReport(
        status=LOADED,
        model="things",
        batch_id="20261123T010203Z-00000001",
        attempt=2,
        job_run_id="jr",
        manifest_digest="a" * 64,
        started_at="2026-11-23T01:02:03Z",
        ended_at="2026-11-23T01:02:09Z",
        items_expire_at=1,
        dynamodb=StoreReport(table="t", rows=STORED, verified_rows=read_back),
        snowflake=StoreReport(table="T", rows=STORED, verified_rows=read_back),
        quarantine=QuarantineReport(rows=REFUSED),
    )


def counted(found: RowTally, *, asked: int = 9, is_whole: bool = True) -> OnlineCount:
    """Return the count of rows found in DynamoDB."""
    return OnlineCount(asked=asked, found=found, is_whole=is_whole)


WHOLE = counted(STORED)


def test_stored_and_refused_rows_add_up_to_batch() -> None:
    """Neither store has a fault, and the evidence names attempt, stored rows and refused rows."""
    both = balances(report(), PROMISED, WHOLE, STORED, must_read_back=True)
    assert [balance.faults for balance in both] == [(), ()]
    found = evidence(report(), *both)
    assert (found.attempt, found.dynamodb, found.snowflake, found.quarantined) == (2, STORED, STORED, REFUSED)


@pytest.mark.parametrize(
    ("stored", "fault"),
    [
        (RowTally(rows=8, checksum=-12), "the manifest has 10"),
        (RowTally(rows=9, checksum=-11), "the checksum"),
    ],
)
@pytest.mark.parametrize("store", ["dynamodb", "snowflake"])
def test_differing_store_is_at_fault(store: str, stored: RowTally, fault: str) -> None:
    """A missing row and a different checksum are attributed to the store that has them."""
    online = counted(stored if store == "dynamodb" else STORED)
    warehouse = stored if store == "snowflake" else STORED
    both = balances(report(), PROMISED, online, warehouse, must_read_back=False)
    by_store = {balance.store: balance.faults for balance in both}
    assert fault in by_store.pop(store)[0]
    assert list(by_store.values()) == [()]


def test_batch_without_accepted_row_is_at_fault() -> None:
    """Readers would find nothing, although counts and checksums agree."""
    nothing = RowTally(rows=0, checksum=0)
    empty = dataclasses.replace(report(read_back=0), quarantine=QuarantineReport(rows=PROMISED))
    both = balances(empty, PROMISED, counted(nothing, asked=0), nothing, must_read_back=True)
    assert [balance.faults for balance in both] == [
        ("dynamodb holds no row of the batch: none of 10 was accepted",),
        ("snowflake holds no row of the batch: none of 10 was accepted",),
    ]


@pytest.mark.parametrize(("found", "faults"), [(4, 0), (3, 1)])
def test_large_batch_is_looked_up_in_part(found: int, faults: int) -> None:
    """At most as many sampled rows may be missing as are in quarantine; the report gives the rows loaded."""
    online = counted(RowTally(rows=found, checksum=1), asked=5, is_whole=False)
    both = balances(report(), PROMISED, online, STORED, must_read_back=True)
    assert [len(balance.faults) for balance in both] == [faults, 0]
    assert evidence(report(), *both).dynamodb == STORED


def test_unread_rows_are_at_fault_only_if_all_must_be_read_back() -> None:
    """A load that read back a part of its rows passes if the model does not require more."""
    partial = report(read_back=3)
    strict = balances(partial, PROMISED, WHOLE, STORED, must_read_back=True)
    assert all("read back" in balance.faults[0] for balance in strict)
    assert not any(
        balance.faults for balance in balances(partial, PROMISED, WHOLE, STORED, must_read_back=False)
    )


def test_failed_load_cannot_be_reconciled() -> None:
    """The report of a failed load raises an error."""
    with pytest.raises(ValueError, match="failed"):
        balances(
            dataclasses.replace(report(), status="failed", snowflake=None),
            PROMISED,
            WHOLE,
            STORED,
            must_read_back=True,
        )
