"""Files that a tick may have died of: they keep no other file from being found, and do not wait for ever."""

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
    """Files of one day, of which a queue tells nothing; all are refused by name, which takes no registry."""

    instance: dg.DagsterInstance
    keys: list[str]

    name: str = "bucket"
    now: datetime = datetime(2026, 11, 29, tzinfo=UTC)
    cursor: str | None = None
    settled: list[str] = field(default_factory=list)

    def receive(self) -> list[Any]:
        """Tell of nothing."""
        return []

    def delete(self, messages: Any) -> None:
        """Forget messages."""

    def look(self, key: str) -> ListedObject:
        """Return the file as a listing would."""
        return ListedObject(key, "etag", DAY)

    def done_page(self, day: str, **_after: str) -> tuple[list[ListedObject], bool]:
        """List the day's files."""
        return [self.look(key) for key in self.keys if day in key], False

    def read(self, key: str) -> bytes:
        """Return the file."""
        return key.encode()

    def tick(self) -> None:
        """Look once, as Dagster does: what a tick would keep is lost with it."""
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
    """A file whose parsing ends its tick, and none beside it."""

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


def test_a_suspect_behind_a_file_that_cannot_be_recorded_is_set_aside(bucket: Bucket) -> None:
    """The listing goes on; it began again at the same page in each tick, and nobody looked at the suspect."""
    bucket.keys.append(UNREADABLE)
    for _ in range(2 * MAX_DEATHS):
        bucket.tick()
    assert bucket.settled == [KILLER]
    assert Cursor.parse(bucket.cursor).sweep.days == ()


def test_a_suspect_has_its_turn_however_many_files_come(bucket: Bucket) -> None:
    """Each of its turns costs one tick, and the ticks between settle what came meanwhile."""
    bucket.tick()
    for number in range((MAX_DEATHS + 1) * (MAX_WAITS + 2)):
        bucket.keys.append(f"done/{DAY}/new-{number:04}")
        bucket.tick()
    assert KILLER in bucket.settled
    bucket.tick()
    assert sorted(bucket.settled) == sorted(bucket.keys)
