"""Ships a job's output to CloudWatch Logs while it runs: in order, every line exactly once."""

from __future__ import annotations

import codecs
import logging
import time
from typing import TYPE_CHECKING, Any

from botocore.exceptions import BotoCoreError, ClientError

if TYPE_CHECKING:
    from collections.abc import Iterator
    from pathlib import Path

_LOG = logging.getLogger(__name__)

# https://docs.aws.amazon.com/AmazonCloudWatchLogs/latest/APIReference/API_PutLogEvents.html
_EVENT_OVERHEAD = 26
_MAX_EVENT_BYTES = 256 * 1024 - _EVENT_OVERHEAD
_MAX_BATCH_BYTES = 1_048_576
_MAX_BATCH_EVENTS = 10_000
# The two high bits that mark a continuation byte in UTF-8.
_CONTINUATION_MASK = 0xC0
_CONTINUATION = 0x80
_READ_BYTES = 4 * 1024 * 1024

# Replace each invalid byte by one byte, so that an event does not grow beyond its limit.
codecs.register_error("question-mark", lambda error: ("?", getattr(error, "start", 0) + 1))


def split_events(data: bytes, *, final: bool) -> Iterator[tuple[bytes, int]]:
    """Split output into events; splitting again from any event's end gives the same events.

    Args:
        data: The output after the end of an event.
        final: Whether the output is complete.

    Yields:
        Each line without its line end, and the number of bytes of `data` that it used. Long lines come in
        pieces of at most 256 KB less CloudWatch's overhead.
    """
    position = 0
    while position < len(data):
        end = data.find(b"\n", position, position + _MAX_EVENT_BYTES + 1)
        if end >= 0:
            yield data[position:end].removesuffix(b"\r"), end + 1
            position = end + 1
        elif len(data) - position > _MAX_EVENT_BYTES:
            cut = position + _MAX_EVENT_BYTES
            while data[cut] & _CONTINUATION_MASK == _CONTINUATION and cut > position + _MAX_EVENT_BYTES - 3:
                cut -= 1
            yield data[position:cut], cut
            position = cut
        elif final:
            yield data[position:], len(data)
            position = len(data)
        else:
            return


class LogShipper:
    """Ships one growing file to one log stream.

    The position is not stored here: it follows from the number of events in the stream. So an executor that
    is killed right after a put neither repeats nor loses a line.

    Args:
        client: A boto3 CloudWatch Logs client without automatic retries.
        path: The file.
        group: The log group; created if it does not exist.
        stream: The log stream; created if it does not exist.
    """

    def __init__(self, client: Any, path: Path, *, group: str, stream: str) -> None:
        self._client = client
        self._path = path
        self._group = group
        self._stream = stream
        self._offset = 0
        self._in_step = False
        self._last_time = 0

    def ship(self, *, seconds: float, final: bool = False) -> bool:
        """Ship new output for a limited time, so that a fast script cannot block the caller for ever.

        Args:
            seconds: The time after which no further request is sent.
            final: Whether the file is complete, so that a last line without a line end counts.

        Returns:
            False if there is more output, or if CloudWatch Logs refused and the call must be repeated.
        """
        deadline = time.monotonic() + seconds
        try:
            if not self._in_step:
                self._catch_up()
            while self._ship_batch(final=final):
                if time.monotonic() > deadline:
                    return False
        except (BotoCoreError, ClientError) as error:
            self._in_step = False
            _LOG.warning("logs of %s %s are delayed: %s", self._group, self._stream, error)
            return False
        return True

    def _catch_up(self) -> None:
        self._create(self._client.create_log_group, logGroupName=self._group)
        self._create(self._client.create_log_stream, logGroupName=self._group, logStreamName=self._stream)
        missing = self._count()
        self._offset = 0
        while missing > 0:
            data, at_end = self._read()
            used = 0
            for event, end in split_events(data, final=at_end):
                used = end
                missing -= bool(event)
                if missing == 0:
                    break
            if used == 0:
                break
            self._offset += used
        self._in_step = True

    def _create(self, create: Any, **names: str) -> None:
        try:
            create(**names)
        except ClientError as error:
            if error.response["Error"]["Code"] != "ResourceAlreadyExistsException":
                raise

    def _count(self) -> int:
        """Count the stream's events."""
        request = {"logGroupName": self._group, "logStreamName": self._stream, "startFromHead": True}
        answer = self._client.get_log_events(**request)
        count = len(answer["events"])
        while answer["events"]:
            answer = self._client.get_log_events(**request, nextToken=answer["nextForwardToken"])
            count += len(answer["events"])
        return count

    def _read(self) -> tuple[bytes, bool]:
        if not self._path.exists():
            return b"", True
        with self._path.open("rb") as file:
            file.seek(self._offset)
            data = file.read(_READ_BYTES)
        return data, len(data) < _READ_BYTES

    def _ship_batch(self, *, final: bool) -> bool:
        """Ship what fits into one request; return whether there may be more."""
        data, at_end = self._read()
        self._last_time = now = max(self._last_time, int(time.time() * 1000))
        batch: list[dict[str, Any]] = []
        size = used = 0
        full = False
        for event, end in split_events(data, final=final and at_end):
            cost = len(event) + _EVENT_OVERHEAD
            full = bool(batch) and (len(batch) == _MAX_BATCH_EVENTS or size + cost > _MAX_BATCH_BYTES)
            if full:
                break
            if event:
                batch.append({"timestamp": now, "message": event.decode(errors="question-mark")})
                size += cost
            used = end
        if batch:
            self._put(batch)
        self._offset += used
        return full or (not at_end and used > 0)

    def _put(self, batch: list[dict[str, Any]]) -> None:
        self._client.put_log_events(logGroupName=self._group, logStreamName=self._stream, logEvents=batch)
