"""`mlpipe load` shows the error of a failed run itself, without Dagster's class names."""

from __future__ import annotations

import dagster as dg
import pytest

from mlpipe_dagster.cli.load import failure_messages
from prediction_contract.errors import ContractError


@pytest.mark.parametrize(
    ("error", "words"),
    [
        (
            dg.Failure("The done file is refused: it is empty.", allow_retries=False),
            "The done file is refused: it is empty.",
        ),
        (ContractError("No part", remedy="Write one"), "No part. Write one."),
        (
            RuntimeError("The job failed.\nEnd of its log:\n\nlast line\n"),
            "The job failed. | End of its log: | last line",
        ),
    ],
    ids=["failure", "contract", "lines"],
)
def test_failure_message_is_the_steps_own_error(error: Exception, words: str) -> None:
    """Dagster's wrapping is removed, and several lines become one."""

    @dg.op
    def step() -> None:
        raise error

    @dg.job
    def load() -> None:
        step()

    result = load.execute_in_process(raise_on_error=False)
    assert failure_messages(result) == [words]
