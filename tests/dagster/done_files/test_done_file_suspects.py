"""Suspects, files that may have killed a tick: other files are still found, and they do not wait for ever."""

from __future__ import annotations

from dataclasses import dataclass, field
from datetime import UTC, datetime, timedelta
from typing import TYPE_CHECKING, Any

import dagster as dg
import pytest

from mlpipe_dagster.done_files import done_file_tick
from mlpipe_dagster.done_files.done_file_cursor import Cursor
from mlpipe_dagster.done_files.done_file_suspects import MAX_WAITS
from mlpipe_dagster.done_files.done_file_tick import MAX_DEATHS, DoneFileTick, DoneFileUnreadableError
from mlpipe_dagster.done_files.registration import DoneFile
from mlpipe_dagster.resources.data_bucket import ListedObject

if TYPE_CHECKING:
    from collections.abc import Iterator

DAY = "2026-11-29"
KILLER, UNREADABLE = f"done/{DAY}/killer", f"done/{DAY}/a-record-unreadable"


@dataclass
class Bucket:
    """Stands in for bucket, registry and queue, with files of one day that are all refused."""

    instance: dg.DagsterInstance
    keys: list[str]

    name: str = "bucket"
    now: datetime = datetime(2026, 11, 29, tzinfo=UTC)
    cursor: str | None = None
    settled: list[str] = field(default_factory=list)

    def receive(self) -> list[Any]:
        """Return no messages."""
        return []

    def delete(self, messages: Any) -> None:
        """Accept messages to delete."""

    def look(self, key: str) -> ListedObject:
        """Return the file as a listing would."""
        return ListedObject(key, "etag", DAY)

    def done_page(self, day: str, **_after: str) -> tuple[list[ListedObject], bool]:
        """List the day's files."""
        return [self.look(key) for key in self.keys if day in key], False

    def read(self, key: str) -> bytes:
        """Return the file's content."""
        return key.encode()

    def tick(self) -> None:
        """Run one tick as Dagster does: a tick that dies does not keep its cursor."""
        self.now += timedelta(minutes=3)
        stores: Any = self
        with dg.build_sensor_context(instance=self.instance, cursor=self.cursor) as context:
            try:
                result = DoneFileTick(context, stores, stores, stores, {}, self.now, lambda: 0.0).result()
            except (SystemExit, DoneFileUnreadableError):
                return
        self.cursor = result.cursor
        self.settled += [str(event.metadata["refused_done_file"].value) for event in result.asset_events]


@pytest.fixture
def bucket(monkeypatch: pytest.MonkeyPatch) -> Iterator[Bucket]:
    """A bucket whose only file kills the tick that parses it."""

    def judge(_bucket: object, key: str, _content: bytes) -> DoneFile:
        if key == KILLER:
            raise SystemExit(key)
        return DoneFile(key=key, refusal="It is no done file")

    def record(_registry: object, read: DoneFile, **_status: bool) -> DoneFile:
        if read.key == UNREADABLE:
            raise ValueError(read.key)
        return read

    monkeypatch.setattr(done_file_tick, "parse_done_file", judge)
    monkeypatch.setattr(done_file_tick, "record_done_file", record)
    with dg.DagsterInstance.ephemeral() as instance:
        yield Bucket(instance, [KILLER])


def test_suspect_behind_an_unrecordable_file_is_set_aside(bucket: Bucket) -> None:
    """The listing continues after the file instead of starting at the same page in each tick."""
    bucket.keys.append(UNREADABLE)
    for _ in range(2 * MAX_DEATHS):
        bucket.tick()
    assert bucket.settled == [KILLER]
    assert Cursor.parse(bucket.cursor).sweep.days == ()


def test_suspect_gets_its_turn_while_new_files_arrive(bucket: Bucket) -> None:
    """Each turn costs one tick, and the ticks in between settle the new files."""
    bucket.tick()
    for number in range((MAX_DEATHS + 1) * (MAX_WAITS + 2)):
        bucket.keys.append(f"done/{DAY}/new-{number:04}")
        bucket.tick()
    assert KILLER in bucket.settled
    bucket.tick()
    assert sorted(bucket.settled) == sorted(bucket.keys)
