"""Reports from a job to the Dagster run that started it, over Pipes; without a run nothing is sent.

Pipes reads its parameters from the environment. If they name a bucket, it uses the job's own S3 client.
Otherwise it uses what Dagster chose, for example a file or standard output.
"""

from __future__ import annotations

import logging
import os
from collections.abc import Iterator, Mapping
from contextlib import contextmanager
from typing import TYPE_CHECKING, Any

from prediction_contract.printable_text import escape_unprintable

if TYPE_CHECKING:
    from prediction_batches.object_store import ObjectStore

_SECONDS_BETWEEN_MESSAGES = 3.0
_CONTEXT_VARIABLE = "DAGSTER_PIPES_CONTEXT"


class DagsterReport:
    """Sends a job's reports to its Dagster run; does nothing without a run.

    Args:
        pipes: The Pipes session; None without a run.
    """

    def __init__(self, pipes: Any = None) -> None:
        self._pipes = pipes

    def result(self, values: Mapping[str, Any]) -> None:
        """Report the job's result, as a custom message and as the asset's metadata."""
        if self._pipes is None:
            return
        self._pipes.report_custom_message(dict(values))
        # With several assets, only the step knows which one the values belong to.
        if self._pipes.is_asset_step and len(self._pipes.asset_keys) == 1:
            shown = {name: value for name, value in values.items() if value is not None}
            self._pipes.report_asset_materialization(metadata=shown)

    def message(self, kind: str, values: Mapping[str, Any]) -> None:
        """Report progress as a custom message with its kind."""
        if self._pipes is not None:
            self._pipes.report_custom_message({"kind": kind, **values})


@contextmanager
def report_to_dagster(store: ObjectStore, log: logging.Logger) -> Iterator[DagsterReport]:
    """Open the report of a job's result and progress.

    Args:
        store: The bucket; its client is also used for Pipes' objects.
        log: The script's log; its lines are sent to the Dagster run as they come.
    """
    if _CONTEXT_VARIABLE not in os.environ:
        yield DagsterReport()
        return
    # Containers of jobs that Dagster does not start may lack the package.
    import dagster_pipes  # noqa: PLC0415

    parameters = dagster_pipes.PipesEnvVarParamsLoader()
    options: dict[str, Any] = {}
    if "bucket" in parameters.load_context_params():
        options["context_loader"] = dagster_pipes.PipesS3ContextLoader(store.client)
    if "bucket" in parameters.load_messages_params():
        interval = _SECONDS_BETWEEN_MESSAGES
        options["message_writer"] = dagster_pipes.PipesS3MessageWriter(store.client, interval=interval)
    with dagster_pipes.open_dagster_pipes(params_loader=parameters, **options) as pipes:
        lines = _LinesToDagster(pipes.log)
        log.addHandler(lines)
        try:
            yield DagsterReport(pipes)
        finally:
            log.removeHandler(lines)


class _LinesToDagster(logging.Handler):
    """Sends a script's log lines to the Dagster run."""

    def __init__(self, target: logging.Logger) -> None:
        super().__init__(logging.INFO)
        self._target = target

    def emit(self, record: logging.LogRecord) -> None:
        self._target.log(record.levelno, escape_unprintable(record.getMessage()))
