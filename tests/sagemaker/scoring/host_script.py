"""The real score job of one host, which may be told to die, stop or wait at some write, and to be impatient.

It runs as a script by itself and imports as the job does; its processes import it again.
"""

from __future__ import annotations

import os
import re
import signal
import sys
import time
from pathlib import Path
from typing import TYPE_CHECKING, Any

from prediction_batches.delivery.delta_commit import TableCommit
from prediction_batches.object_store import ObjectStore
from sagemaker_scripts import score_batch
from sagemaker_scripts.container import run_script
from sagemaker_scripts.scoring import hosts, score_progress, scoring_plan

if TYPE_CHECKING:
    from collections.abc import Callable

_SECONDS = 120


def _happens(moment: str) -> None:
    """Die or wait, if this is the moment to."""
    if re.search(os.environ.get("DIE_AT", "^$"), moment):
        os.kill(os.getpid(), signal.SIGKILL)
    if re.search(os.environ.get("WAIT_AT", "^$"), moment):
        deadline = time.monotonic() + _SECONDS
        while not Path(os.environ["WAIT_FOR"]).exists() and time.monotonic() < deadline:
            time.sleep(0.1)


def _telling(put: Callable[..., Any]) -> Callable[..., Any]:
    """Let moments be right before and after a put: `before <key>`, `after <key>`."""

    def told(store: ObjectStore, key: str, *rest: Any, **named: Any) -> Any:
        _happens(f"before {key}")
        result = put(store, key, *rest, **named)
        _happens(f"after {key}")
        return result

    return told


def _told_commit(commit: TableCommit, *rest: Any) -> Any:
    _happens("before commit")
    made = _make(commit, *rest)
    _happens("after commit")
    return made


_make = TableCommit.make
TableCommit.make = _told_commit  # type: ignore[method-assign]  # the same with moments
ObjectStore.put_new = _telling(ObjectStore.put_new)
if "PATIENCE" in os.environ:
    score_progress.SECONDS_BETWEEN_REPORTS = 0.5
    scoring_plan.PLAN_PATIENCE_SECONDS = hosts.START_PATIENCE_SECONDS = float(os.environ["PATIENCE"])
    hosts.SILENCE_PATIENCE_SECONDS = float(os.environ["PATIENCE"])

if __name__ == "__main__":
    sys.exit(run_script(score_batch.main))
