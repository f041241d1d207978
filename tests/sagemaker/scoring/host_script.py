"""Run the real score job of one host, which can be made to die, wait or lose patience at a write.

It is a script of its own and imports what the job imports; its processes import it again.
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


def _die_or_wait(moment: str) -> None:
    """Die or wait if the environment names this moment."""
    if re.search(os.environ.get("DIE_AT", "^$"), moment):
        os.kill(os.getpid(), signal.SIGKILL)
    if re.search(os.environ.get("WAIT_AT", "^$"), moment):
        deadline = time.monotonic() + _SECONDS
        while not Path(os.environ["WAIT_FOR"]).exists() and time.monotonic() < deadline:
            time.sleep(0.1)


def _with_moments(put: Callable[..., Any]) -> Callable[..., Any]:
    """Wrap a put so that `before <key>` and `after <key>` are moments."""

    def put_with_moments(store: ObjectStore, key: str, *rest: Any, **named: Any) -> Any:
        _die_or_wait(f"before {key}")
        result = put(store, key, *rest, **named)
        _die_or_wait(f"after {key}")
        return result

    return put_with_moments


def _commit_with_moments(commit: TableCommit, *rest: Any) -> Any:
    _die_or_wait("before commit")
    made = _make(commit, *rest)
    _die_or_wait("after commit")
    return made


_make = TableCommit.make
TableCommit.make = _commit_with_moments  # type: ignore[method-assign]  # adds moments
ObjectStore.put_new = _with_moments(ObjectStore.put_new)
if "PATIENCE" in os.environ:
    score_progress.SECONDS_BETWEEN_REPORTS = 0.5
    scoring_plan.PLAN_PATIENCE_SECONDS = hosts.START_PATIENCE_SECONDS = float(os.environ["PATIENCE"])
    hosts.SILENCE_PATIENCE_SECONDS = float(os.environ["PATIENCE"])

if __name__ == "__main__":
    sys.exit(run_script(score_batch.main))
