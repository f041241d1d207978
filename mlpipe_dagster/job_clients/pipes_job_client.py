"""What the clients of SageMaker and Glue jobs share: their parts, a Pipes session, the wait for an end."""

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
# What DescribeLogStreams answers at most: each host of a job has a stream.
_MAX_STREAMS = 50


class JobInvocation(dg.PipesClientCompletedInvocation):
    """The results of a job that succeeded: what it has reported, and nothing that it has not.

    Dagster's own default makes up a materialization for every asset that a job is silent about, so that one
    whose messages got lost turns green.
    """

    def get_results(self, *, implicit_materializations: bool = False) -> Sequence[Any]:
        """Return what the job has reported."""
        return super().get_results(implicit_materializations=implicit_materializations)

    def get_materialize_result(self, *, implicit_materialization: bool = False) -> dg.MaterializeResult[Any]:
        """Return the one materialization that the job has reported.

        Raises:
            dagster.DagsterPipesError: It has reported none, or several.
        """
        return super().get_materialize_result(implicit_materialization=implicit_materialization)


class PipesJobClient(dg.PipesClient):
    """A client of one AWS service's jobs.

    Args:
        client: The service's boto3 client.
        logs_client: A boto3 CloudWatch Logs client.
        context_injector: Gives the job its context, say a `TidyContextInjector`.
        message_reader: Reads its messages, say a `TidyMessageReader`.
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
        """Read what a job tells that another run has started, and tidy up after it.

        Args:
            variables: Pipes' parameters of that job by the names of environment variables.
        """
        if isinstance(self._message_reader, TidyMessageReader):
            self._message_reader.follow(variables.get(DAGSTER_PIPES_MESSAGES_ENV_VAR))
        if isinstance(self._context_injector, TidyContextInjector):
            self._context_injector.delete_in_the_end(variables.get(DAGSTER_PIPES_CONTEXT_ENV_VAR))

    @contextmanager
    def _stopping_on_interruption(
        self, context: Context, what: str, stop: Callable[[], Any]
    ) -> Iterator[None]:
        """Stop a job when the run is cancelled, or when the job has had its time.

        Args:
            context: The step's.
            what: Names the job.
            stop: Tells it to stop; it may not have been started, or have ended.
        """

        def tell_to_stop() -> None:
            context.log.warning("%s is told to stop", what)
            stop()

        with self.polling.stopping_on_interruption(tell_to_stop, context.log.warning):
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
        """Return the description of a job that has ended.

        Args:
            context: The step's, whose log shows every change of the state.
            what: Names the job.
            look: Returns its description.
            state: Gives its state, for a person.
            has_ended: Tells whether that state stays.
            since: When its time began, by the polling's clock.

        Raises:
            JobDeadlineError: It did not end in time.
            JobApiError: Its service did not answer for too long; the job is left alone.
        """
        seen = ""
        for gone in self.polling.pauses(what, since=since):
            description = self.polling.insist(look, f"Looking at {what}")
            if (shown := state(description)) != seen:
                context.log.info("%s is %s after %.0f s", what, shown, gone)
                seen = shown
            if has_ended(description):
                return description
        raise AssertionError("pauses() ends by raising")

    def _log_tail(self, stream_prefix: str, *groups: str) -> str:
        return log_tail(self._logs_client, stream_prefix, *groups)


def log_tail(client: Any, stream_prefix: str, *groups: str, lines: int = TAIL_LINES) -> str:
    """Return a job's last lines of each log group; a word on why not of one that has none.

    Args:
        client: A boto3 CloudWatch Logs client.
        stream_prefix: What the names of its streams begin with: `<job name>/` or a job run's id. Of several
            streams each line begins with the rest of its stream's name, say the host.
        groups: The log groups, that of errors last: what is read first stands at the end.
        lines: How many, of each.
    """
    tails = []
    for group in groups:
        try:
            found = _newest_lines(client, group, stream_prefix, lines)
        except (ClientError, BotoCoreError) as error:
            # A failing job's own error is what counts: that its log cannot be had must not hide it.
            tails.append(f"(The log {group} {stream_prefix} cannot be read: {error})")
            continue
        tails += found or [f"(The log {group} {stream_prefix} is empty.)"]
    return "\n".join(tails)


def _newest_lines(client: Any, group: str, stream_prefix: str, lines: int) -> list[str]:
    streams = client.describe_log_streams(
        logGroupName=group, logStreamNamePrefix=stream_prefix, limit=_MAX_STREAMS
    )
    names = [str(stream["logStreamName"]) for stream in streams["logStreams"]]
    events = [
        (event, name.removeprefix(stream_prefix))
        for name in names
        for event in client.get_log_events(
            logGroupName=group, logStreamName=name, limit=lines, startFromHead=False
        )["events"]
    ]
    # Hosts and executors each have a stream; the last word of all of them is wanted.
    events.sort(key=lambda told: told[0]["timestamp"])
    return [
        escape_unprintable(f"{host}: {line}" if host and len(names) > 1 else line)
        for event, host in events[-lines:]
        for line in event["message"].rstrip("\n").split("\n")
    ]
