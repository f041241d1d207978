"""A load's progress, reported to Glue's log, and to Dagster if it waits for Pipes messages."""

from __future__ import annotations

import sys
import threading
import time
from contextlib import contextmanager
from typing import TYPE_CHECKING, Any, Protocol

from prediction_contract.printable_text import escape_unprintable

if TYPE_CHECKING:
    from collections.abc import Callable, Iterator, Mapping

    from glue_scripts.settings import LoadSettings

# A message may wait as long again for its upload; both together must stay under ten seconds.
HEARTBEAT_SECONDS = 4.0
# Each addition takes a lock, so rows are added in groups of this size.
COUNTED_ROWS = 1000


class RowCounter(Protocol):
    """A number that one process reads while others add to it."""

    value: int

    def get_lock(self) -> Any:
        """Return the lock to hold while adding."""
        ...


class _ProcessCounter:
    """This process's counter; None on Spark's executors, which cannot reach the driver's."""

    counter: RowCounter | None = None


def use_counter(counter: RowCounter) -> None:
    """Make `count_rows` add to this counter from now on."""
    _ProcessCounter.counter = counter


def count_rows(rows: int) -> None:
    """Add processed rows to this process's counter, if it has one."""
    counter = _ProcessCounter.counter
    if counter is not None:
        with counter.get_lock():
            counter.value += rows


class Progress:
    """Reports the current step's time, rows and rate when it begins and every few seconds.

    Args:
        send: Sends a message: its kind and its values, which JSON can hold.
        heartbeat_seconds: The time between two reports.
    """

    def __init__(
        self,
        send: Callable[[str, Mapping[str, Any]], None],
        *,
        heartbeat_seconds: float = HEARTBEAT_SECONDS,
    ) -> None:
        self._send = send
        self._heartbeat_seconds = heartbeat_seconds
        self._step: str | None = None
        self._began = 0.0
        self._rows = 0
        self._total: int | None = None
        self._counter: RowCounter | None = None
        self._counted_before = 0
        self.durations: dict[str, int] = {}

    def watch(self, counter: RowCounter) -> None:
        """Include the rows that this counter holds in later reports."""
        self._counter = counter

    @contextmanager
    def step(self, name: str, rows: int | None = None) -> Iterator[None]:
        """Time a step, and report its progress while it runs.

        Args:
            name: The step's name.
            rows: The total number of rows to process; None if the step does not count rows.
        """
        self._step, self._began, self._rows, self._total = name, time.monotonic(), 0, rows
        self._counted_before = self._counter.value if self._counter else 0
        ended = threading.Event()
        heart = threading.Thread(target=self._beat, args=(ended,), name="progress", daemon=True)
        self._report_step()
        heart.start()
        try:
            yield
        finally:
            ended.set()
            heart.join()
            self.durations[name] = round((time.monotonic() - self._began) * 1000)

    def advance(self, rows: int) -> None:
        """Add the rows of a part that the current step has finished."""
        self._rows += rows

    def report(self, kind: str, values: Mapping[str, Any]) -> None:
        """Report something other than a step."""
        self._send(kind, values)

    def _beat(self, ended: threading.Event) -> None:
        while not ended.wait(self._heartbeat_seconds):
            self._report_step()

    def _report_step(self) -> None:
        seconds = time.monotonic() - self._began
        counted = self._counter.value - self._counted_before if self._counter else 0
        rows = max(self._rows, counted)
        values: dict[str, Any] = {"step": self._step, "rows": rows, "seconds": round(seconds)}
        if self._total is not None and rows:
            rate = rows / max(seconds, 0.001)
            values |= {
                "rows_per_second": round(rate),
                "eta_seconds": round(max(0, self._total - rows) / rate),
            }
        self._send("progress", values)


@contextmanager
def open_progress(settings: LoadSettings, s3: Any) -> Iterator[Progress]:
    """Open a job run's progress, with a Dagster Pipes session if Dagster waits for messages.

    Args:
        settings: The job run's settings.
        s3: A boto3 client, for Pipes messages sent through S3.
    """
    if not (settings.is_piped or settings.is_piped_by_environment):
        yield Progress(_log)
        return
    # Imported here, so that the job also runs without the package.
    import dagster_pipes as pipes  # noqa: PLC0415

    session = (
        pipes.open_dagster_pipes(
            params_loader=pipes.PipesCliArgsParamsLoader(),
            context_loader=pipes.PipesS3ContextLoader(s3),
            message_writer=pipes.PipesS3MessageWriter(s3, interval=HEARTBEAT_SECONDS),
        )
        if settings.is_piped
        else pipes.open_dagster_pipes()
    )
    with session:

        def send(kind: str, values: Mapping[str, Any]) -> None:
            _log(kind, values)
            session.report_custom_message({"kind": kind, **values})

        yield Progress(send)


def _log(kind: str, values: Mapping[str, Any]) -> None:
    text = " ".join(f"{name}={value}" for name, value in values.items())
    sys.stdout.write(f"{escape_unprintable(f'{kind}: {text}')}\n")
    sys.stdout.flush()
