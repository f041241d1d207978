"""Tests that log lines are shipped exactly once and within CloudWatch's limits, despite failures."""

from __future__ import annotations

from typing import TYPE_CHECKING, Any

import pytest
from botocore.exceptions import ClientError, ReadTimeoutError
from hypothesis import given
from hypothesis import strategies as st

from infra.local.job_executor.jobs.log_shipping import LogShipper, split_events

if TYPE_CHECKING:
    from pathlib import Path

# CloudWatch's limits, independent of the constants under test.
EVENT_LIMIT = 262_144
BATCH_LIMIT = 1_048_576


class FakeLogs:
    """A fake CloudWatch Logs stream that enforces the limits and can fail before or after a batch."""

    def __init__(self) -> None:
        self.messages: list[str] = []
        self.failures: list[str] = []
        self.exists = False
        self.streams: list[tuple[str, str]] = []

    def create_log_group(self, **_names: str) -> None:
        """Create the group, or fail if it exists."""
        if self.exists:
            error = {"Error": {"Code": "ResourceAlreadyExistsException", "Message": "it exists"}}
            raise ClientError(error, "CreateLogGroup")
        self.exists = True

    def create_log_stream(self, *, logGroupName: str, logStreamName: str) -> None:  # noqa: N803 - AWS's
        """Record the stream."""
        self.streams.append((logGroupName, logStreamName))

    def put_log_events(self, *, logEvents: list[dict[str, Any]], **_names: str) -> None:  # noqa: N803 - AWS's
        """Store a batch within the limits, or fail before or after storing it if a failure is due."""
        sizes = [len(event["message"].encode()) + 26 for event in logEvents]
        assert 1 <= len(logEvents) <= 10_000
        assert sum(sizes) <= BATCH_LIMIT
        assert max(sizes) <= EVENT_LIMIT
        assert all(event["message"] for event in logEvents)
        times = [event["timestamp"] for event in logEvents]
        assert times == sorted(times)
        failure = self.failures.pop(0) if self.failures else "none"
        if failure != "before":
            self.messages += [event["message"] for event in logEvents]
        if failure != "none":
            raise ReadTimeoutError(endpoint_url="http://logs")

    def get_log_events(self, *, nextToken: str = "0", **_names: Any) -> dict[str, Any]:  # noqa: N803 - AWS's
        """Return a page of 10,000 events."""
        start = int(nextToken)
        events = [{"message": message} for message in self.messages[start : start + 10_000]]
        return {"events": events, "nextForwardToken": str(start + len(events))}


def shipper(client: FakeLogs, path: Path) -> LogShipper:
    """Return a shipper of one file."""
    return LogShipper(client, path, group="/g", stream="s")


@pytest.mark.parametrize("failure", ["before", "after"])
def test_failed_put_is_neither_lost_nor_repeated(tmp_path: Path, failure: str) -> None:
    """Each line arrives once, whether CloudWatch stored a batch before its error or not."""
    path = tmp_path / "out"
    path.write_text("".join(f"line {number}\n" for number in range(25_000)))
    logs = FakeLogs()
    logs.failures = ["none", failure]
    ships = shipper(logs, path)
    assert not ships.ship(final=True, seconds=60)
    assert ships.ship(final=True, seconds=60)
    assert logs.messages == [f"line {number}" for number in range(25_000)]


def test_new_shipper_continues_where_stream_ends(tmp_path: Path) -> None:
    """A new shipper of the same file, as after a kill, adds only what the stream lacks."""
    path = tmp_path / "out"
    path.write_text("one\n\ntwo\nunfinished")
    logs = FakeLogs()
    assert shipper(logs, path).ship(seconds=60)
    assert logs.messages == ["one", "two"]
    with path.open("a") as file:
        file.write(" business\nthree")
    assert shipper(logs, path).ship(final=True, seconds=60)
    assert logs.messages == ["one", "two", "unfinished business", "three"]


def test_shipping_stops_in_time_despite_fast_output(tmp_path: Path) -> None:
    """Shipping stops when its time is over, however fast the output grows, and continues later."""
    path = tmp_path / "out"
    path.write_bytes(b"y\n" * 20_000)

    class Flooded(FakeLogs):
        """A fake stream whose script writes more lines with every request."""

        puts = 0

        def put_log_events(self, *, logEvents: list[dict[str, Any]], **names: str) -> None:  # noqa: N803 - AWS's
            """Store the batch, and for twenty requests let the file grow by more than a batch."""
            super().put_log_events(logEvents=logEvents, **names)
            self.puts += 1
            if self.puts <= 20:
                with path.open("ab") as file:
                    file.write(b"y\n" * 10_001)

    logs = Flooded()
    ships = shipper(logs, path)
    assert not ships.ship(seconds=0)
    assert logs.puts == 1
    assert ships.ship(final=True, seconds=60)
    assert logs.messages == ["y"] * (20_000 + 20 * 10_001)


def test_long_line_is_split_between_characters(tmp_path: Path) -> None:
    """A line beyond the event limit arrives in pieces, with no character broken."""
    path = tmp_path / "out"
    line = "a" + "é" * 2_600_000
    path.write_text(f"before\n{line}\nafter\n")
    logs = FakeLogs()
    assert shipper(logs, path).ship(final=True, seconds=60)
    assert (logs.messages[0], logs.messages[-1]) == ("before", "after")
    assert "".join(logs.messages[1:-1]) == line


def test_invalid_utf8_is_shipped_as_question_marks(tmp_path: Path) -> None:
    """Bytes that are not UTF-8 are shipped as question marks, within the limits."""
    path = tmp_path / "out"
    path.write_bytes(b"\xff" * 600_000 + b"\nend\n")
    logs = FakeLogs()
    assert shipper(logs, path).ship(final=True, seconds=60)
    assert "".join(logs.messages[:-1]) == "?" * 600_000
    assert logs.messages[-1] == "end"


def test_missing_output_ships_no_events(tmp_path: Path) -> None:
    """A job without an output file gets its log group and its stream, but no events."""
    logs = FakeLogs()
    assert shipper(logs, tmp_path / "absent").ship(final=True, seconds=60)
    assert logs.exists
    assert logs.streams == [("/g", "s")]
    assert logs.messages == []


@given(data=st.binary(max_size=300), cut=st.integers(min_value=0, max_value=300))
def test_events_do_not_depend_on_read_boundaries(data: bytes, cut: int) -> None:
    """Splitting the output while it grows gives the same events as splitting all of it at once."""
    whole = [event for event, _ in split_events(data, final=True)]
    early = list(split_events(data[:cut], final=False))
    used = early[-1][1] if early else 0
    late = [event for event, _ in split_events(data[used:], final=True)]
    assert [event for event, _ in early] + late == whole
