"""Tells how a load goes on: into Glue's log, and to Dagster where it waits for Pipes messages."""

from __future__ import annotations

import sys
import threading
import time
from contextlib import contextmanager
from typing import TYPE_CHECKING, Any

from prediction_contract.printable_text import escape_unprintable

if TYPE_CHECKING:
    from collections.abc import Callable, Iterator, Mapping

    from glue_scripts.row_counter import RowCounter
    from glue_scripts.settings import LoadSettings

# A heartbeat waits as long again for its upload: together less than the ten seconds that may pass in silence.
HEARTBEAT_SECONDS = 4.0


class Progress:
    """The load's present step, its time, rows and rate, told when a step begins and every few seconds.

    Args:
        tell: Takes a kind and plain values.
        heartbeat_seconds: The longest silence.
    """

    def __init__(
        self,
        tell: Callable[[str, Mapping[str, Any]], None],
        *,
        heartbeat_seconds: float = HEARTBEAT_SECONDS,
    ) -> None:
        self._tell = tell
        self._heartbeat_seconds = heartbeat_seconds
        self._step: str | None = None
        self._began = 0.0
        self._rows = 0
        self._total: int | None = None
        self._counter: RowCounter | None = None
        self._counted_before = 0
        self.durations: dict[str, int] = {}

    def watch(self, counter: RowCounter) -> None:
        """Read from now on how far a step is within the parts that it has not finished."""
        self._counter = counter

    @contextmanager
    def step(self, name: str, rows: int | None = None) -> Iterator[None]:
        """Time a step, and tell that it goes on as long as it does.

        Args:
            name: The step's.
            rows: How many rows it comes through in all; None if it does not go by rows.
        """
        self._step, self._began, self._rows, self._total = name, time.monotonic(), 0, rows
        self._counted_before = self._counter.value if self._counter else 0
        ended = threading.Event()
        heart = threading.Thread(target=self._beat, args=(ended,), name="progress", daemon=True)
        self._tell_progress()
        heart.start()
        try:
            yield
        finally:
            ended.set()
            heart.join()
            self.durations[name] = round((time.monotonic() - self._began) * 1000)

    def advance(self, rows: int) -> None:
        """Count rows of a part that the present step is through with."""
        self._rows += rows

    def tell(self, kind: str, values: Mapping[str, Any]) -> None:
        """Tell something else."""
        self._tell(kind, values)

    def _beat(self, ended: threading.Event) -> None:
        while not ended.wait(self._heartbeat_seconds):
            self._tell_progress()

    def _tell_progress(self) -> None:
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
        self._tell("progress", values)


@contextmanager
def told(settings: LoadSettings, s3: Any) -> Iterator[Progress]:
    """Hold the progress of a job run, and Dagster's Pipes session if there is one.

    Args:
        settings: Says whether Dagster waits for messages.
        s3: A boto3 client, through which messages go that the command line asks for.
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

        def tell(kind: str, values: Mapping[str, Any]) -> None:
            _log(kind, values)
            session.report_custom_message({"kind": kind, **values})

        yield Progress(tell)


def _log(kind: str, values: Mapping[str, Any]) -> None:
    text = " ".join(f"{name}={value}" for name, value in values.items())
    sys.stdout.write(f"{escape_unprintable(f'{kind}: {text}')}\n")
    sys.stdout.flush()
