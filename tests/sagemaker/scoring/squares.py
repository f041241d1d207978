"""Simple work for scoring processes: it squares numbers, or fails as its task says."""

from __future__ import annotations

import os
import signal
import time
from dataclasses import dataclass
from pathlib import Path
from typing import TYPE_CHECKING, Any

import pyarrow as pa

from prediction_contract.errors import ContractError

if TYPE_CHECKING:
    from sagemaker_scripts.scoring.scoring_processes import CountRows, RunTask


class UnpicklableError(Exception):
    """An error that cannot be pickled."""

    def __init__(self, what: str, number: int) -> None:
        super().__init__(f"{what} {number}")
        self.lambda_of = lambda: number


@dataclass(frozen=True)
class Squares:
    """Work that squares numbers.

    Attributes:
        folder: Each process leaves a file here as it opens the work.
    """

    folder: Path

    def open(self, count_rows: CountRows) -> RunTask:
        """Return a function that squares a number or fails."""
        (self.folder / f"{os.getpid()}").touch()

        def run(task: Any) -> int:
            if task == "killed":
                os.kill(os.getpid(), signal.SIGKILL)
            if task == "refused":
                error = ContractError("It cannot be scored", remedy="Correct it", model="m")
                error.add_note("In a number")
                raise error
            if task == "unpicklable":
                raise UnpicklableError("task", 7)
            if task == "threads":
                return max(pa.cpu_count(), int(os.environ["OMP_NUM_THREADS"]))
            if task == "slow":
                time.sleep(600)
            number = int(task)
            count_rows(number)
            return number * number

        return run
