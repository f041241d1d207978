"""Reports the progress of scoring every ten seconds: to the log, to Dagster and to the job's other hosts."""

from __future__ import annotations

import logging
import threading
import time
import uuid
from collections.abc import Callable, Iterator, Mapping
from contextlib import contextmanager
from typing import Any

from botocore.exceptions import BotoCoreError, ClientError

from sagemaker_scripts.scoring.hosts import ENDED, HostState, HostWatch

_LOG = logging.getLogger(__name__)
SECONDS_BETWEEN_REPORTS = 10.0

SendMessage = Callable[[str, Mapping[str, Any]], None]


class ScoreProgress:
    """The progress of the current step, reported while it runs.

    Args:
        host: This host.
        watch: The messages between hosts; None for a single host.
        send: Receives each message's kind and values; None on hosts that report only to the first host.
    """

    def __init__(self, host: str, watch: HostWatch | None, send: SendMessage | None) -> None:
        self._host = host
        self._watch = watch
        self._send = send
        self._lock = threading.Lock()
        self._run = uuid.uuid4().hex
        self._beat = 0
        self._step = "start"
        self._rows = 0
        self._is_complete = False

    def count_rows(self, rows: int) -> None:
        """Add to the number of done rows."""
        with self._lock:
            self._rows += rows

    def _all_rows(self) -> int:
        """Return the step's done rows of this host; on the first host, plus those reported by the others."""
        reports = self._watch.read_reports().values() if self._watch and self._send else ()
        return self._rows + sum(state.rows for state in reports if state.step == self._step)

    def end(self) -> None:
        """Report to the other hosts that this host has written its shares."""
        self._step = ENDED
        self._report_state(None)

    def complete(self) -> None:
        """Count all rows of the step as done, even if the hosts' last reports are older."""
        self._is_complete = True

    @contextmanager
    def step(self, name: str, total: int, done: int = 0) -> Iterator[None]:
        """Report a step's progress while it runs, and its failure to the other hosts.

        Args:
            name: The step's name.
            total: The number of rows of all hosts.
            done: The number of rows done before the step began.
        """
        with self._lock:
            self._step, self._rows, self._is_complete = name, done, False
        began, before = time.monotonic(), self._all_rows()
        ended = threading.Event()

        def beat() -> None:
            while not ended.wait(SECONDS_BETWEEN_REPORTS):
                self._report(total, before, began)

        thread = threading.Thread(target=beat, name="progress", daemon=True)
        self._report(total, before, began)
        thread.start()
        try:
            yield
        except BaseException as error:
            ended.set()
            thread.join()
            self._report_state(f"{type(error).__name__}: {error}")
            raise
        ended.set()
        thread.join()
        self._report(total, before, began)

    def _report(self, total: int, before: int, began: float) -> None:
        self._report_state(None)
        try:
            rows = total if self._is_complete else self._all_rows()
        except (BotoCoreError, ClientError) as error:
            _LOG.warning("the other hosts' progress could not be read: %s", error)
            return
        seconds = time.monotonic() - began
        values: dict[str, Any] = {"step": self._step, "rows": rows, "seconds": round(seconds)}
        rate = (rows - before) / max(seconds, 0.001)
        if rate > 0:
            values |= {
                "rows_per_second": round(rate),
                "eta_seconds": round(max(0, total - rows) / rate),
            }
        _LOG.info("progress: %s", " ".join(f"{name}={value}" for name, value in values.items()))
        if self._send:
            self._send("progress", values)

    def _report_state(self, error: str | None) -> None:
        if self._watch is None:
            return
        self._beat += 1
        state = HostState(self._host, self._step, self._rows, f"{self._run}-{self._beat}", error)
        try:
            self._watch.report_state(state)
        except (BotoCoreError, ClientError) as fault:
            # The next report may arrive. If none does, the first host will report that this host is lost.
            _LOG.warning("this host's progress could not be reported to the other hosts: %s", fault)
