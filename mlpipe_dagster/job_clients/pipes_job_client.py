"""What the clients of SageMaker and Glue jobs share: their parts, a Pipes session, the wait for an end."""

from collections.abc import Callable, Mapping
from contextlib import AbstractContextManager
from typing import Any

import dagster as dg
from dagster._core.definitions.resource_annotation import TreatAsResourceParam

from mlpipe_dagster.job_clients.job_logs import log_tail
from mlpipe_dagster.job_clients.polling import Polling

Context = dg.OpExecutionContext | dg.AssetExecutionContext


class PipesJobClient(dg.PipesClient, TreatAsResourceParam):
    """A client of one AWS service's jobs.

    Args:
        client: The service's boto3 client.
        logs_client: A boto3 CloudWatch Logs client.
        context_injector: Gives the job its context, say dagster-aws's `PipesS3ContextInjector`.
        message_reader: Reads its messages, say dagster-aws's `PipesS3MessageReader`.
        polling: How the job is watched.
    """

    def __init__(
        self,
        *,
        client: Any,
        logs_client: Any,
        context_injector: dg.PipesContextInjector,
        message_reader: dg.PipesMessageReader,
        polling: Polling | None = None,
    ) -> None:
        self._client = client
        self._logs_client = logs_client
        self._context_injector = context_injector
        self._message_reader = message_reader
        self.polling = polling or Polling()

    def _session(self, context: Context, extras: dict[str, Any] | None) -> AbstractContextManager[Any]:
        return dg.open_pipes_session(
            context=context,
            context_injector=self._context_injector,
            message_reader=self._message_reader,
            extras=extras,
        )

    def _wait_for_completion(
        self,
        context: Context,
        what: str,
        *,
        look: Callable[[], Mapping[str, Any]],
        state: Callable[[Mapping[str, Any]], str],
        has_ended: Callable[[Mapping[str, Any]], bool],
        stop: Callable[[], Any],
    ) -> Mapping[str, Any]:
        """Return the description of a job that has ended; stop one that takes too long or is interrupted.

        Args:
            context: The step's, whose log shows every change of the state.
            what: Names the job.
            look: Returns its description.
            state: Gives its state, for a person.
            has_ended: Tells whether that state stays.
            stop: Tells it to stop.

        Raises:
            JobDeadlineError: It did not end in time, and was told to stop.
            JobApiError: Its service did not answer for too long; the job is left alone.
        """
        seen = ""

        def tell_to_stop() -> None:
            context.log.warning("%s is told to stop", what)
            stop()

        with self.polling.stopping_on_interruption(tell_to_stop, context.log.warning):
            for gone in self.polling.pauses(what):
                description = self.polling.insist(look, f"Looking at {what}")
                if (shown := state(description)) != seen:
                    context.log.info("%s is %s after %.0f s", what, shown, gone)
                    seen = shown
                if has_ended(description):
                    return description
        raise AssertionError("pauses() ends by raising")

    def _log_tail(self, stream_prefix: str, *groups: str) -> str:
        return log_tail(self._logs_client, stream_prefix, *groups)
