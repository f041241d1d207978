"""A stand-in for Dagster's daemon keeps the sensor's cursor and makes one run per run key."""

from __future__ import annotations

import time
import uuid
from dataclasses import dataclass, field
from datetime import UTC, datetime, timedelta
from typing import TYPE_CHECKING, Any

import dagster as dg

from mlpipe_dagster.done_files.done_file_cursor import SWEEP_EVERY
from mlpipe_dagster.done_files.done_files_sensor import done_files_tick

if TYPE_CHECKING:
    from collections.abc import Callable

    from mlpipe_dagster.done_files.load_requests import Partitions
    from tests.dagster.small_model import SmallModel

RUN_KEY = "dagster/run_key"
MORNING = datetime(2026, 11, 23, 6, tzinfo=UTC)


@dataclass
class SensorDaemon:
    """Evaluates the sensor of done files whenever a test asks.

    Attributes:
        small: The model whose files are delivered.
        instance: Holds the runs.
        now: The moment of the next tick.
        cursor: The sensor's cursor.
        partitions: The partitions of the declared models.
    """

    small: SmallModel
    instance: dg.DagsterInstance
    now: datetime = MORNING
    cursor: str | None = None
    partitions: Partitions = field(default_factory=dict)

    def __post_init__(self) -> None:
        """Declare the model."""
        self.partitions = {self.small.name: self.small.partitions}

    def tick(
        self,
        *,
        lists: bool = True,
        keeps_cursor: bool = True,
        makes_runs: bool = True,
        clock: Callable[[], float] = time.monotonic,
    ) -> dg.SensorResult:
        """Evaluate the sensor once.

        Args:
            lists: Whether enough time has passed to list the bucket again.
            keeps_cursor: Whether the daemon lives long enough to keep the cursor.
            makes_runs: Whether it lives long enough to make the runs.
            clock: Measures the tick.
        """
        self.now += SWEEP_EVERY if lists else timedelta(seconds=5)
        context = dg.build_sensor_context(instance=self.instance, cursor=self.cursor)
        result = done_files_tick(context, self.small.platform, self.partitions, self.now, clock)
        if keeps_cursor:
            self.cursor = result.cursor
        for request in result.run_requests or () if makes_runs else ():
            self._make_run(request)
        return result

    def runs(self, run_key: str | None = None) -> list[dg.DagsterRun]:
        """Return all runs, or those of one run key."""
        of_key = dg.RunsFilter(tags={RUN_KEY: run_key}) if run_key else None
        return list(self.instance.get_runs(of_key))

    def _make_run(self, request: dg.RunRequest) -> None:
        run_key = str(request.run_key)
        if not self.runs(run_key):
            tags = {**request.tags, RUN_KEY: run_key}
            self.instance.add_run(
                dg.DagsterRun(job_name=str(request.job_name), run_id=str(uuid.uuid4()), tags=tags)
            )


def requests(result: dg.SensorResult) -> list[dg.RunRequest]:
    """Return a tick's run requests."""
    return list(result.run_requests or ())


def batches(result: dg.SensorResult) -> list[str]:
    """Return the batches for which runs were requested."""
    return [request.tags["mlpipe/batch_id"] for request in requests(result)]


def refusals(result: dg.SensorResult) -> list[str]:
    """Return the reasons of the refusals that the UI shows."""
    return [str(event.metadata["reason"].value) for event in result.asset_events]


def skipped_because(result: dg.SensorResult) -> str:
    """Return a tick's skip reason."""
    assert result.skip_reason is not None
    reason: Any = result.skip_reason
    return str(reason.skip_message)
