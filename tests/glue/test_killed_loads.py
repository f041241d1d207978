"""A load that was killed at any step ends in the same state when it is run again."""

from __future__ import annotations

import signal
import time
from pathlib import Path
from typing import TYPE_CHECKING

import pytest

from glue_scripts.errors import LoadFailedError
from tests.glue.store_checks import check_stores

if TYPE_CHECKING:
    from collections.abc import Callable

    from prediction_contract.jobs.job_arguments import LoadArguments
    from prediction_contract.manifests.load_report import LoadReport
    from tests.glue.load_platform import LoadPlatform

pytestmark = pytest.mark.stack

SCRIPT = Path(__file__).with_name("killed_load.py")
# In the order of a load's steps, so that each run meets what the killed one left behind.
STEPS = [
    ("TransactWriteItems", 1),  # the claim is confirmed
    ("INSERT", 1),  # its record is in Snowflake, its staging tables are not
    ("COPY", 1),
    ("TransactWriteItems", 2),  # writing has begun
    ("BatchWriteItem", 2),  # some items are written
    ("PUT reports", 1),  # the part is acknowledged
    ("INSERT", 2),  # inside the transaction
    ("COMMIT", 1),
    ("DROP", 3),  # the earlier load's tables and its own staging table are dropped
    ("PUT reports", 1),  # the registry is not updated yet
]


def test_load_killed_at_each_step_can_be_repeated(
    platform: LoadPlatform, load: Callable[[LoadArguments], LoadReport]
) -> None:
    """After a kill at each step the last run loads each row once and leaves no staging tables."""
    written = platform.builder.write([{"flight": f"F-{number:03}", "seats": number} for number in range(110)])
    ended = None
    for number, (step, count) in enumerate(STEPS, start=1):
        arguments = platform.claim(written, ended=ended)
        ended = f"jr_killed_{number}"
        done = platform.run_in_process(arguments, SCRIPT, step, str(count), job_run_id=ended)
        assert done.returncode == -signal.SIGKILL, (step, done.stdout, done.stderr)
        assert platform.record().load_state == "loading", step
    report = load(platform.claim(written, ended=ended))
    assert report.attempt == len(STEPS) + 1
    assert platform.record().load_state == "loaded"
    check_stores(platform, written)
    assert platform.staging_tables() == []


@pytest.mark.slow
def test_load_killed_within_a_reload_can_be_repeated(
    platform: LoadPlatform, load: Callable[[LoadArguments], LoadReport]
) -> None:
    """A dead session's lock fails the next loads until Snowflake ends it; then the load succeeds."""
    written = platform.builder.write([{"flight": f"F-{number:03}", "seats": number} for number in range(30)])
    load(platform.claim(written))
    done = platform.run_in_process(platform.claim(written), SCRIPT, "DELETE", "1", job_run_id="jr_killed")
    assert done.returncode == -signal.SIGKILL, (done.stdout, done.stderr)
    with pytest.raises(LoadFailedError, match="Another transaction holds a lock"):
        load(platform.claim(written, ended="jr_killed"))
    time.sleep(31)  # the local Snowflake's limit for idle transactions
    with pytest.raises(LoadFailedError, match="Another transaction holds a lock"):
        load(platform.claim(written))
    load(platform.claim(written))
    check_stores(platform, written)
