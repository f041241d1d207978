"""The sensor's calls and cursor grow with new files, not with a million canned old ones."""

from __future__ import annotations

from datetime import UTC, date, datetime, timedelta

import pytest

from benchmarks.canned.canned_done_files import BUCKET, CannedDoneFiles
from benchmarks.canned.canned_sensor import NOW, canned_client, canned_sensor
from mlpipe_dagster.done_files.done_file_cursor import (
    MAX_LIST_CALLS,
    SWEEP_EVERY,
    Cursor,
    RequestedRun,
    Sweep,
)
from mlpipe_dagster.done_files.done_file_fingerprints import (
    FINGERPRINT_LENGTH,
    WINDOW_DAYS,
    DeliveryStatus,
    Fingerprint,
    Fingerprints,
)
from mlpipe_dagster.resources.data_bucket import DataBucket, ListedObject
from prediction_contract.naming.s3_layout import done_key

TODAY = date(2026, 11, 23)


@pytest.mark.parametrize("tell", [True, False], ids=["by the queue", "by listing"])
def test_twenty_new_files_beside_a_million_cost_at_most_five_list_calls(*, tell: bool) -> None:
    """Each new file is read once and starts its run, whether the queue or a listing announces it."""
    with canned_sensor(history=1_000_000, per_day=1000) as sensor:
        sensor.canned.add(20, tell=tell)
        ticked = sensor.tick(lists=not tell)
    assert ticked.runs == 20
    assert ticked.list_calls <= MAX_LIST_CALLS == 5
    assert ticked.calls["GetObject"] == 20


def test_quiet_tick_only_asks_the_queue() -> None:
    """Between two listings, a tick without new files makes one call."""
    with canned_sensor(history=10_000, per_day=1000) as sensor:
        assert sensor.tick(lists=False).calls == {"ReceiveMessage": 1}


def test_day_of_many_pages_is_listed_over_several_ticks() -> None:
    """No tick lists more than its share, no page is listed twice, and every file is found."""
    canned = CannedDoneFiles(NOW.date(), history=12_000, per_day=12_000)
    with canned.served() as address:
        bucket = DataBucket(canned_client("s3", address), BUCKET)
        sweep, found = Sweep().next_if_due(NOW), 0
        while sweep.days:
            files, sweep = sweep.page(bucket)
            found += len(files)
    assert found == 12_000
    assert canned.calls["ListObjectsV2"] == 12 + 2
    with canned_sensor(history=12_000, per_day=12_000) as sensor:
        assert sensor.tick(lists=True).list_calls == MAX_LIST_CALLS


@pytest.mark.parametrize(
    ("refused", "tell"), [("ListObjectsV2", True), ("ReceiveMessage", False)], ids=["listing", "queue"]
)
def test_listing_and_queue_work_without_each_other(refused: str, *, tell: bool) -> None:
    """New files start their runs, and the cursor names the call that failed."""
    with canned_sensor(history=40, per_day=10) as sensor:
        sensor.canned.add(2, tell=tell)
        sensor.canned.refused.add(refused)
        ticked = sensor.tick(lists=True)
    assert ticked.runs == 2
    assert refused in Cursor.parse(sensor.kept).last_error


def test_unlistable_day_does_not_stop_the_sweep() -> None:
    """Files found before it start their runs, and the next tick continues with the older day."""
    with canned_sensor(history=40, per_day=10) as sensor:
        sensor.canned.add(1, tell=False)
        yesterday = f"{NOW.date() - timedelta(days=1):%Y-%m-%d}"
        sensor.canned.unlisted.add(yesterday)
        ticked = sensor.tick(lists=True)
    assert ticked.runs == 1
    cursor = Cursor.parse(sensor.kept)
    assert yesterday in cursor.last_error
    assert [day < yesterday for day in cursor.sweep.days] == [True]


def test_sweeps_take_today_yesterday_and_one_older_day() -> None:
    """The older days of the window take turns."""
    sweep, older = Sweep(), []
    for number in range(2 * (WINDOW_DAYS - 1)):
        now = datetime(2026, 11, 23, 6, tzinfo=UTC) + number * SWEEP_EVERY
        sweep = Sweep(sweep.began_at, sweep.turn).next_if_due(now)
        assert sweep.days[:2] == ("2026-11-23", "2026-11-22")
        older.append(sweep.days[2])
    assert older == ["2026-11-21", "2026-11-20"] * 2


def test_cursor_grows_with_the_window_not_with_history() -> None:
    """After a year of 40 files a day, each replaced once, it holds the fingerprints of the window only."""
    cursor = Cursor()
    for passed in range(365):
        today = TODAY + timedelta(days=passed)
        cursor.fingerprints.forget_before(today - timedelta(days=WINDOW_DAYS))
        for number in range(40):
            key = done_key("things", f"{today:%Y%m%d}T010203Z-{number:08x}")
            for etag, digest in (("a", "first"), ("b", "second"), ("c", "second")):
                found = ListedObject(key, etag, "1")
                cursor.fingerprints.add(key, Fingerprint.of(found, {"things"}, digest), today)
        cursor = Cursor.parse(cursor.text())
    files = 40 * (WINDOW_DAYS + 1)
    assert len(cursor.fingerprints) == 2 * files
    assert len(cursor.text()) < 2 * files * FINGERPRINT_LENGTH + 300


def test_old_file_is_remembered_from_its_arrival() -> None:
    """Its own day has left the window, but its message may still return."""
    fingerprints, key = Fingerprints(), done_key("things", "20200101T010203Z-00000001")
    fingerprint = Fingerprint.of(ListedObject(key, "a", "1"), {"things"}, "digest")
    fingerprints.add(key, fingerprint, TODAY)
    fingerprints.forget_before(TODAY)
    assert fingerprints.is_processed(fingerprint)
    fingerprints.forget_before(TODAY + timedelta(days=1))
    assert not fingerprints.is_processed(fingerprint)
    assert fingerprints.status_of(fingerprint) is DeliveryStatus.NEW


@pytest.mark.parametrize(
    ("etag", "put_at", "digest", "status"),
    [
        ("c", "2", "second", DeliveryStatus.REDELIVERED),
        ("b", "3", "second", DeliveryStatus.REDELIVERED),
        ("c", "3", "first", DeliveryStatus.RETURNED),
        ("a", "3", "first", DeliveryStatus.RETURNED),
        ("c", "3", "third", DeliveryStatus.NEW),
    ],
    ids=["new ETag, same bytes", "later, same bytes", "earlier bytes", "earlier bytes and ETag", "new bytes"],
)
def test_file_is_identified_by_content_not_by_etag(
    etag: str, put_at: str, digest: str, status: DeliveryStatus
) -> None:
    """Under SSE-KMS equal bytes get a new ETag with each put; otherwise they keep it."""
    fingerprints, key = Fingerprints(), done_key("things", "20261123T010203Z-00000001")
    for known in (("a", "1", "first"), ("b", "2", "second")):
        fingerprints.add(key, Fingerprint.of(ListedObject(key, *known[:2]), {"things"}, known[2]), TODAY)
    assert fingerprints.is_processed(Fingerprint.of(ListedObject(key, "b", "2"), {"things"}))
    fingerprint = Fingerprint.of(ListedObject(key, etag, put_at), {"things"}, digest)
    assert not fingerprints.is_processed(fingerprint)
    assert fingerprints.status_of(fingerprint) is status


def test_cursor_round_trips_through_text() -> None:
    """Fingerprints, requested runs, waiting files, last error and sweep are read as they were written."""
    key = done_key("things", "20261123T010203Z-00000001")
    fingerprint = Fingerprint.of(ListedObject(key, "a", "1"), {"things"}, "digest")
    cursor = Cursor(
        requested={key: RequestedRun("run key", fingerprint)},
        waiting={key: "2026-11-23"},
        last_error="AccessDenied",
    )
    cursor.fingerprints.add(key, fingerprint, TODAY)
    cursor.sweep = Sweep().next_if_due(NOW)
    read = Cursor.parse(cursor.text())
    assert read.text() == cursor.text()
    assert (read.requested, read.last_error, read.sweep) == (
        cursor.requested,
        cursor.last_error,
        cursor.sweep,
    )
    assert read.waiting == cursor.waiting
    assert read.fingerprints.is_processed(fingerprint)


@pytest.mark.parametrize(
    "text",
    [
        None,
        "",
        "[]",
        "{",
        "null",
        '{"form": 2, "asked": 1}',
        '{"form": 2, "asked": {"k": 1}}',
        '{"form": 2, "marks": {"d": 1}}',
        '{"form": 2, "sweep": "x"}',
        # Cursors of releases whose fingerprints held ETags.
        '{"marks":{"2026-11-23":"eCz1SrE3bfVnD1dHmU9i"},"asked":{},"trouble":"","sweep":[1,1,[],""]}',
        '{"marks":{},"asked":{"k":["run key","eCz1SrE3bfVnD1dHmU9i"]},"trouble":"","sweep":[1,1,[],""]}',
    ],
)
def test_unreadable_cursor_counts_as_empty(text: str | None) -> None:
    """A cursor of another release or a damaged one does not stop the sensor."""
    assert Cursor.parse(text).text() == Cursor().text()
