"""How a load goes on: reported to Glue's log, and to Dagster where it waits for Pipes messages."""

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

# A heartbeat waits as long again for its upload: together less than the ten seconds that may pass in silence.
HEARTBEAT_SECONDS = 4.0
# Each addition costs a lock, so rows are added so many at a time.
COUNTED_ROWS = 1000


class RowCounter(Protocol):
    """A number that one process reads while others add to it."""

    value: int

    def get_lock(self) -> Any:
        """Return what guards an addition."""
        ...


class _ProcessCounter:
    """The counter of this process; None on Spark's executors, which cannot reach the driver's."""

    counter: RowCounter | None = None


def use_counter(counter: RowCounter) -> None:
    """Let `count_rows` of this process add to a counter from now on."""
    _ProcessCounter.counter = counter


def count_rows(rows: int) -> None:
    """Add processed rows to this process's counter, if it has one."""
    counter = _ProcessCounter.counter
    if counter is not None:
        with counter.get_lock():
            counter.value += rows


class Progress:
    """The present step's time, rows and rate, reported when the step begins and every few seconds.

    Args:
        send: Takes a message's kind and its plain values.
        heartbeat_seconds: The longest silence.
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
        """Read rows of unfinished parts from a counter from now on."""
        self._counter = counter

    @contextmanager
    def step(self, name: str, rows: int | None = None) -> Iterator[None]:
        """Time a step, and report its progress while it runs.

        Args:
            name: The step's.
            rows: How many rows it processes in all; None if it does not work by rows.
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
        """Count the rows of a part that the present step has finished."""
        self._rows += rows

    def report(self, kind: str, values: Mapping[str, Any]) -> None:
        """Report something beside the steps."""
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
    """Hold the progress of a job run, and Dagster's Pipes session if there is one.

    Args:
        settings: Says whether Dagster waits for messages.
        s3: A boto3 client, for the messages that the command line asks for.
    """
    if not (settings.is_piped or settings.is_piped_by_environment):
        yield Progress(_log)
        return
    # Here alone, so that the job runs where the package is not installed.
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
