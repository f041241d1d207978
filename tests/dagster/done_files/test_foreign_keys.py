"""Foreign keys and messages cannot forge lines in the logs of sensors and runs."""

from __future__ import annotations

import logging
from dataclasses import dataclass
from datetime import UTC, datetime
from typing import Any

import dagster as dg
import pytest

from mlpipe_dagster.done_files.done_file_queue import DoneFileMessage
from mlpipe_dagster.done_files.done_file_tick import DoneFileTick
from mlpipe_dagster.job_clients.job_messages import message_text
from mlpipe_dagster.job_clients.pipes_job_client import log_tail
from mlpipe_dagster.resources.data_bucket import ListedObject

FORGED = "\n2026-11-29 00:00:00 +0000 - dagster - INFO - all is well \x1b[31mred\x9b0m\u202e"
KEY = f"done/2026-11-29/x{FORGED}.json"


@dataclass
class OneFile:
    """A bucket and a queue with one done file, which S3 returns, has lost or refuses to show."""

    outcome: str

    name: str = "bucket"
    _told: bool = False

    def receive(self) -> list[DoneFileMessage]:
        """Return a message about the file, once."""
        first, self._told = not self._told, True
        return [DoneFileMessage("1", "receipt", KEY)] if first else []

    def delete(self, messages: Any) -> None:
        """Accept messages to delete."""

    def look(self, key: str) -> ListedObject | None:
        """Return the file as a listing would."""
        if self.outcome == "refused to show":
            raise OSError(key)
        return None if self.outcome == "lost" else ListedObject(key, "etag", "2026-11-29")

    def done_page(self, _day: str, **_after: str) -> tuple[list[ListedObject], bool]:
        """List nothing."""
        return [], False

    def read(self, key: str) -> bytes:
        """Return the file's content."""
        return key.encode()


@pytest.mark.parametrize("outcome", ["given", "lost", "refused to show"])
def test_key_cannot_forge_a_line_in_the_sensor_log(outcome: str) -> None:
    """Anyone who may put a file chooses its key, so the log and the tick's reason escape it."""
    told: list[str] = []
    handler = logging.Handler()
    handler.emit = lambda record: told.append(record.getMessage())
    with dg.DagsterInstance.ephemeral() as instance, dg.build_sensor_context(instance=instance) as context:
        context.log.addHandler(handler)
        stores: Any = OneFile(outcome)
        result = DoneFileTick(
            context=context,
            bucket=stores,
            registry=stores,
            queue=stores,
            partitions={},
            now=datetime(2026, 11, 29, tzinfo=UTC),
            clock=lambda: 0.0,
        ).result()
    assert any("all is well" in line for line in told)
    for line in (*told, str(result.skip_reason)):
        assert line.isprintable()


def test_job_message_is_one_line() -> None:
    """A job's messages may contain text from its input."""
    for payload in ({"kind": FORGED, FORGED: FORGED}, FORGED, [FORGED]):
        assert message_text(payload).isprintable()


def test_job_log_tail_keeps_lines_but_no_escape_sequences() -> None:
    """Users read the tail in a terminal or in the run's log."""

    class Logs:
        """A log group with one stream and one event."""

        def describe_log_streams(self, **_asked: Any) -> Any:
            """Return the stream."""
            return {"logStreams": [{"logStreamName": "s"}]}

        def get_log_events(self, **_asked: Any) -> Any:
            """Return the event."""
            return {"events": [{"timestamp": 1, "message": "first\nsecond\x1b[2J\n"}]}

    assert log_tail(Logs(), "s", "group") == "first\nsecond\\x1b[2J"
