"""The common part of the SageMaker and Glue clients: the Pipes session, and waiting for a job's end."""

from collections.abc import Callable, Iterator, Mapping, Sequence
from contextlib import AbstractContextManager, contextmanager
from typing import Any

import dagster as dg
from botocore.exceptions import BotoCoreError, ClientError
from dagster_pipes import DAGSTER_PIPES_CONTEXT_ENV_VAR, DAGSTER_PIPES_MESSAGES_ENV_VAR

from mlpipe_dagster.job_clients.job_messages import LoggedMessages
from mlpipe_dagster.job_clients.pipes_over_s3 import TidyContextInjector, TidyMessageReader
from mlpipe_dagster.job_clients.polling import Polling
from prediction_contract.printable_text import escape_unprintable

Context = dg.OpExecutionContext | dg.AssetExecutionContext

TAIL_LINES = 40
# The most streams that DescribeLogStreams returns. Each host of a job has a stream.
_MAX_STREAMS = 50


class JobInvocation(dg.PipesClientCompletedInvocation):
    """The results of a successful job, exactly as the job reported them.

    By default Dagster adds a materialization for each asset that a job does not mention, so lost messages
    would look like success.
    """

    def get_results(self, *, implicit_materializations: bool = False) -> Sequence[Any]:
        """Return the results that the job reported."""
        return super().get_results(implicit_materializations=implicit_materializations)

    def get_materialize_result(self, *, implicit_materialization: bool = False) -> dg.MaterializeResult[Any]:
        """Return the one materialization that the job reported.

        Raises:
            dagster.DagsterPipesError: The job reported none, or several.
        """
        return super().get_materialize_result(implicit_materialization=implicit_materialization)


class PipesJobClient(dg.PipesClient):
    """A client of one AWS service's jobs.

    Args:
        client: The service's boto3 client.
        logs_client: A boto3 CloudWatch Logs client.
        context_injector: Passes the context to the job, for example a `TidyContextInjector`.
        message_reader: Reads the job's messages, for example a `TidyMessageReader`.
        polling: The pauses, deadline and patience for watching a job.
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

    @property
    def _region(self) -> str:
        return str(self._client.meta.region_name)

    def _session(self, context: Context, extras: dict[str, Any] | None) -> AbstractContextManager[Any]:
        return dg.open_pipes_session(
            context=context,
            context_injector=self._context_injector,
            message_reader=LoggedMessages(self._message_reader, context.log.info),
            extras=extras,
        )

    def _follow(self, variables: Mapping[str, str]) -> None:
        """Read the messages of a job that another run started, and delete its Pipes objects afterwards.

        Args:
            variables: Pipes' parameters of that job, under the names of the environment variables.
        """
        if isinstance(self._message_reader, TidyMessageReader):
            self._message_reader.follow(variables.get(DAGSTER_PIPES_MESSAGES_ENV_VAR))
        if isinstance(self._context_injector, TidyContextInjector):
            self._context_injector.delete_at_end(variables.get(DAGSTER_PIPES_CONTEXT_ENV_VAR))

    @contextmanager
    def _stopping_on_interruption(
        self, context: Context, what: str, stop: Callable[[], Any]
    ) -> Iterator[None]:
        """Stop the job if the run is cancelled, or if the job's deadline passes.

        Args:
            context: The step's context.
            what: The job's name for messages.
            stop: Stops the job, which may not have started yet or may have ended.
        """

        def log_and_stop() -> None:
            context.log.warning("%s is being stopped", what)
            stop()

        with self.polling.stopping_on_interruption(log_and_stop, context.log.warning):
            yield

    def _wait_for_completion(
        self,
        context: Context,
        what: str,
        *,
        look: Callable[[], Mapping[str, Any]],
        state: Callable[[Mapping[str, Any]], str],
        has_ended: Callable[[Mapping[str, Any]], bool],
        since: float,
    ) -> Mapping[str, Any]:
        """Wait for a job's end and return its description.

        Args:
            context: The step's context; its log shows each change of state.
            what: The job's name for messages.
            look: Returns the job's description.
            state: Returns the state in a description, for people.
            has_ended: Returns whether the state in a description is final.
            since: When the deadline's time began, by the polling's clock.

        Raises:
            JobDeadlineError: It did not end in time.
            JobApiError: The service did not answer for too long; the job keeps running.
        """
        seen = ""
        for elapsed in self.polling.pauses(what, since=since):
            description = self.polling.retry(look, f"Querying {what}")
            if (present := state(description)) != seen:
                context.log.info("%s is %s after %.0f s", what, present, elapsed)
                seen = present
            if has_ended(description):
                return description
        raise AssertionError("pauses() ends by raising")

    def _log_tail(self, stream_prefix: str, *groups: str) -> str:
        return log_tail(self._logs_client, stream_prefix, *groups)


def log_tail(client: Any, stream_prefix: str, *groups: str) -> str:
    """Return the last lines of a job in each log group, or a note that they are missing.

    Args:
        client: A boto3 CloudWatch Logs client.
        stream_prefix: The prefix of its streams' names: `<job name>/` or a job run's id. If there are several
            streams, each line begins with the rest of its stream's name, for example the host.
        groups: The log groups. The one with errors comes last, because people read the end first.
    """
    tails = []
    for group in groups:
        try:
            found = _newest_lines(client, group, stream_prefix)
        except (ClientError, BotoCoreError) as error:
            # An unreadable log must not hide the failing job's own error.
            tails.append(f"(The log {group} {stream_prefix} cannot be read: {error})")
            continue
        tails += found or [f"(The log {group} {stream_prefix} is empty.)"]
    return "\n".join(tails)


def _newest_lines(client: Any, group: str, stream_prefix: str) -> list[str]:
    streams = client.describe_log_streams(
        logGroupName=group, logStreamNamePrefix=stream_prefix, limit=_MAX_STREAMS
    )
    names = [str(stream["logStreamName"]) for stream in streams["logStreams"]]
    events = [
        (event, name.removeprefix(stream_prefix))
        for name in names
        for event in client.get_log_events(
            logGroupName=group, logStreamName=name, limit=TAIL_LINES, startFromHead=False
        )["events"]
    ]
    # Each host or executor has a stream; merge them and return the last lines overall.
    events.sort(key=lambda event: event[0]["timestamp"])
    return [
        escape_unprintable(f"{host}: {line}" if host and len(names) > 1 else line)
        for event, host in events[-TAIL_LINES:]
        for line in event["message"].rstrip("\n").split("\n")
    ]
