"""The load script is killed at random times and run again, and the stores are always the same."""

from __future__ import annotations

import os
import random
import re
import signal
import time
from collections import Counter
from datetime import UTC, datetime, timedelta
from typing import TYPE_CHECKING, Any

import pytest

from prediction_contract.registry.load_rules import abandon_claim
from tests.glue.forked_loads import forker
from tests.glue.store_checks import check_stores

if TYPE_CHECKING:
    from collections.abc import Callable
    from pathlib import Path

    from tests.glue.batch_builder import WrittenBatch
    from tests.glue.forked_loads import Forker
    from tests.glue.load_platform import LoadPlatform

pytestmark = pytest.mark.stack

_BATCHES_EACH = 10
# Each load writes these parts as a new batch, so that it starts with empty stores.
PARTS: list[list[dict[str, Any] | bytes]] = [
    [*({"flight": f"F-{part}-{number:02}", "seats": number} for number in range(40)), b"{"]
    for part in range(3)
]
# How long the local Snowflake lets an idle transaction keep its locks.
_IDLE_TRANSACTION_SECONDS = 31.0


class KilledLoads:
    """Loads that are killed and repeated.

    Args:
        forks: Runs the script.

    Attributes:
        steps: How many loads were killed in which step.
    """

    def __init__(self, forks: Forker) -> None:
        self._forks = forks
        self._starts = 0
        self._heard = 0
        self.steps: Counter[str] = Counter()

    def kill(self, platform: LoadPlatform, written: WrittenBatch, seconds: float) -> str:
        """Start a load and kill it after some seconds; return the job run's id."""
        job_run_id, pid = self._start(platform, written, None)
        time.sleep(seconds)
        os.kill(pid, signal.SIGKILL)
        if self._forks.ended() == -signal.SIGKILL:
            steps = re.findall("^progress: step=([a-z_]+)", self._log(), re.MULTILINE)
            self.steps[steps[-1] if steps else "confirm"] += 1
        return job_run_id

    def repeat(self, platform: LoadPlatform, written: WrittenBatch, ended: str) -> bool:
        """Load the batch of a killed load; return whether no lock of the dead session prevented it."""
        _free_unconfirmed_claim(platform, written)
        self._start(platform, written, ended)
        status, log = self._forks.ended(), self._log()
        if status:
            assert "Another transaction holds a lock" in log, log
            return False
        assert platform.record(written.batch_id).load_state == "loaded"
        check_stores(platform, written)
        return True

    def _start(self, platform: LoadPlatform, written: WrittenBatch, ended: str | None) -> tuple[str, int]:
        self._starts += 1
        job_run_id = f"jr_{self._starts}"
        arguments = platform.claim(written, ended=ended, quarantine_rows=3)
        pairs = [text for pair in arguments.glue_arguments().items() for text in pair]
        return job_run_id, self._forks.start([*pairs, "--JOB_RUN_ID", job_run_id])

    def _log(self) -> str:
        """Return the output since the last call."""
        said = self._forks.said()
        heard, self._heard = self._heard, len(said)
        return said[heard:]


def _free_unconfirmed_claim(platform: LoadPlatform, written: WrittenBatch) -> None:
    """Abandon a claim that no job run has confirmed, as if its time had passed."""
    record = platform.record(written.batch_id)
    if record.claim_token is not None and record.claim_job_run_id is None:
        later = datetime.now(UTC) + timedelta(hours=1)
        platform.registry.carry_out(lambda: abandon_claim(record, now=later))


@pytest.mark.timeout(3000)
@pytest.mark.parametrize(
    # A load has nine steps. The kills hit some of them at random.
    ("kills", "steps"),
    [pytest.param(5, 2, marks=pytest.mark.slow), pytest.param(100, 4, marks=pytest.mark.drill)],
)
def test_load_killed_at_random_times_can_be_repeated(
    kills: int, steps: int, make_platform: Callable[[], LoadPlatform], tmp_path: Path
) -> None:
    """After a kill at any time a repeated load gives each row once, value by value, in both stores."""
    seconds, platform = 1.5, make_platform()
    hindered: list[tuple[LoadPlatform, WrittenBatch, str]] = []
    with forker(platform.script_environment, tmp_path / "log") as forks:
        loads = KilledLoads(forks)
        for number in range(2 * kills):
            if loads.steps.total() == kills:
                break
            if number % _BATCHES_EACH == 0:
                platform = make_platform()
            written = platform.builder.write(*PARTS, batch_id=f"20130201T060000Z-{number:08x}")
            ended = loads.kill(platform, written, random.uniform(0, seconds))
            began = time.monotonic()
            if loads.repeat(platform, written, ended):
                # The next load will take about as long as this one.
                seconds = time.monotonic() - began
            else:
                hindered.append((platform, written, ended))
        if hindered:
            time.sleep(_IDLE_TRANSACTION_SECONDS)
        for one in hindered:
            # The first refused load lets Snowflake end the dead sessions. A statement may run on after its
            # client's death; its session is idle only afterwards.
            deadline = time.monotonic() + _IDLE_TRANSACTION_SECONDS
            while not loads.repeat(*one):
                assert time.monotonic() < deadline, "a dead session stands in the way after its time"
                time.sleep(1)
    assert loads.steps.total() == kills
    assert len(loads.steps) >= steps
