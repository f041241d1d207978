"""A Pipes client for Glue job runs."""

import time
from collections.abc import Mapping
from typing import Any

import dagster as dg
from dagster._core.definitions.resource_annotation import TreatAsResourceParam
from dagster._core.pipes.client import PipesClientCompletedInvocation

from mlpipe_dagster.job_clients.job_logs import log_tail
from mlpipe_dagster.job_clients.polling import Polling, error_code, stopping_on_interruption
from prediction_contract.resource_names import GLUE_ERROR_LOG_GROUP, GLUE_OUTPUT_LOG_GROUP

Context = dg.OpExecutionContext | dg.AssetExecutionContext

# All states in which a job run stays for good.
_ENDED = frozenset({"SUCCEEDED", "FAILED", "STOPPED", "TIMEOUT", "ERROR", "EXPIRED"})
_QUEUED = frozenset({"ConcurrentRunsExceededException", "ResourceNumberLimitExceededException"})


class GlueJobError(Exception):
    """A Glue job run ended otherwise than succeeded; the message ends with its own log's last lines."""


class GlueInvocation(PipesClientCompletedInvocation):
    """The results of a job run that succeeded.

    Attributes:
        job_run_id: Its id.
        job_run: Glue's own description of it.
    """

    def __init__(self, session: Any, job_run: Mapping[str, Any], seconds: float) -> None:
        self.job_run_id = str(job_run["Id"])
        self.job_run = job_run
        super().__init__(
            session,
            metadata={
                "Glue job": str(job_run["JobName"]),
                "Glue job run": self.job_run_id,
                "job_seconds": round(seconds, 1),
            },
        )


class PipesGlueJobClient(dg.PipesClient, TreatAsResourceParam):
    """Runs a Glue job to its end, and reads what it reports over Pipes.

    Args:
        client: A boto3 Glue client. It must not repeat requests by itself: `StartJobRun` has no token, so a
            repetition after a lost answer starts a second job run.
        logs_client: A boto3 CloudWatch Logs client.
        context_injector: Gives the job its context, say dagster-aws's `PipesS3ContextInjector`.
        message_reader: Reads its messages, say dagster-aws's `PipesS3MessageReader`.
        polling: How the job run is watched.
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

    def run(  # type: ignore[override]  # Pipes clients each have arguments of their own
        self,
        *,
        context: Context,
        start_job_run_params: Mapping[str, Any],
        extras: dict[str, Any] | None = None,
        start_within_seconds: float = 600,
    ) -> GlueInvocation:
        """Start a job run and wait for its end.

        Args:
            context: The step's.
            start_job_run_params: What `StartJobRun` takes, without Pipes' arguments; left as it is.
            extras: For the job, over Pipes.
            start_within_seconds: How long the start is tried while Glue has no room.

        Raises:
            GlueJobError: The job run failed, was stopped, expired or timed out.
            JobDeadlineError: It could not be started in time, or did not end in time and was told to stop.
        """
        with dg.open_pipes_session(
            context=context,
            context_injector=self._context_injector,
            message_reader=self._message_reader,
            extras=extras,
        ) as session:
            began = time.monotonic()
            arguments = {
                **start_job_run_params.get("Arguments", {}),
                **session.get_bootstrap_cli_arguments(),
            }
            job = str(start_job_run_params["JobName"])
            run_id = self._start(
                context, {**start_job_run_params, "Arguments": arguments}, start_within_seconds
            )
            context.log.info("Glue job %s was started as job run %s", job, run_id)
            job_run = self._finished(context, job, run_id)
        return GlueInvocation(session, job_run, time.monotonic() - began)

    def wait(self, *, context: Context, job_name: str, job_run_id: str) -> str:
        """Wait for a job run that somebody else has started, and return the state in which it ended.

        Raises:
            JobDeadlineError: It did not end in time, and was told to stop.
        """
        with self._stopped_with_us(context, job_name, job_run_id):
            return str(self._wait_for_completion(context, job_name, job_run_id)["JobRunState"])

    def log_tail(self, job_run_id: str) -> str:
        """Return the last lines of a job run's error log, or of its output if there are none."""
        tail = log_tail(self._logs_client, GLUE_ERROR_LOG_GROUP, job_run_id)
        return (
            tail
            if not tail.startswith("(")
            else log_tail(self._logs_client, GLUE_OUTPUT_LOG_GROUP, job_run_id)
        )

    def _start(self, context: Context, params: Mapping[str, Any], within_seconds: float) -> str:
        patience = Polling(
            deadline_seconds=within_seconds,
            first_pause=self.polling.first_pause,
            longest_pause=self.polling.longest_pause,
            clock=self.polling.clock,
            sleep=self.polling.sleep,
        )
        for gone in patience.pauses(f"The start of Glue job {params['JobName']}"):
            try:
                return str(self._client.start_job_run(**params)["JobRunId"])
            except self._client.exceptions.ClientError as error:
                # Throttled or full: nothing was started. After any other answer that is not known.
                if error_code(error) not in _QUEUED | {"ThrottlingException"}:
                    raise
                context.log.info("Glue has no room after %.0f s: %s", gone, error)
        raise AssertionError("pauses() ends by raising")

    def _finished(self, context: Context, job: str, run_id: str) -> Mapping[str, Any]:
        with self._stopped_with_us(context, job, run_id):
            job_run = self._wait_for_completion(context, job, run_id)
        state = job_run["JobRunState"]
        if state != "SUCCEEDED":
            raise GlueJobError(
                f"Glue job {job} run {run_id} ended as {state}: "
                f"{job_run.get('ErrorMessage') or 'no reason given'}\nIts log ends:\n{self.log_tail(run_id)}"
            )
        return job_run

    def _wait_for_completion(self, context: Context, job: str, run_id: str) -> Mapping[str, Any]:
        seen = ""
        for gone in self.polling.pauses(f"Glue job {job} run {run_id}"):
            job_run = self.polling.insist(
                lambda: self._client.get_job_run(JobName=job, RunId=run_id)["JobRun"],
                f"Looking at Glue job run {run_id}",
            )
            state = job_run["JobRunState"]
            if state != seen:
                context.log.info("Glue job run %s is %s after %.0f s", run_id, state, gone)
                seen = state
            if state in _ENDED:
                return job_run
        raise AssertionError("pauses() ends by raising")

    def _stopped_with_us(self, context: Context, job: str, run_id: str) -> Any:
        def stop() -> None:
            context.log.warning("Glue job run %s is told to stop", run_id)
            answer = self._client.batch_stop_job_run(JobName=job, JobRunIds=[run_id])
            for failed in answer.get("Errors", []):
                context.log.warning("Glue job run %s was not stopped: %s", run_id, failed.get("ErrorDetail"))

        return stopping_on_interruption(stop, context.log.warning)
