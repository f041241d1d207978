"""A Pipes client for Glue job runs."""

import time
from collections.abc import Mapping
from typing import Any

from dagster._core.pipes.client import PipesClientCompletedInvocation

from mlpipe_dagster.job_clients.errors import GlueJobError, JobDeadlineError, JobNotStartedError
from mlpipe_dagster.job_clients.pipes_job_client import Context, PipesJobClient
from mlpipe_dagster.job_clients.polling import error_code, is_refusal
from prediction_contract.resource_names import GLUE_ERROR_LOG_GROUP, GLUE_OUTPUT_LOG_GROUP

# All states in which a job run stays for good.
_ENDED = frozenset({"SUCCEEDED", "FAILED", "STOPPED", "TIMEOUT", "ERROR", "EXPIRED"})
_QUEUED = frozenset(
    {"ConcurrentRunsExceededException", "ResourceNumberLimitExceededException", "ThrottlingException"}
)


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


class PipesGlueJobClient(PipesJobClient):
    """Runs a Glue job to its end, and reads what it reports over Pipes.

    Its boto3 client must not repeat requests by itself: `StartJobRun` has no token, so a repetition after a
    lost answer starts a second job run.
    """

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
            JobNotStartedError: There is none, for want of room or because Glue refuses.
            JobDeadlineError: It did not end in time, and was told to stop.
            JobApiError: Glue did not answer for too long; the job run is left alone.
        """
        with self._session(context, extras) as session:
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

    def wait(self, *, context: Context, job_name: str, job_run_id: str) -> None:
        """Wait until a job run that somebody else has started is no more.

        Raises:
            JobDeadlineError: It did not end in time, and was told to stop.
            JobApiError: Glue did not answer for too long.
        """
        try:
            self._job_run_at_its_end(context, job_name, job_run_id)
        except self._client.exceptions.EntityNotFoundException:
            # Glue forgets job runs in time, and nothing of one that it does not know can be running.
            context.log.warning("Glue does not know the job run %s any more", job_run_id)

    def _start(self, context: Context, params: Mapping[str, Any], within_seconds: float) -> str:
        """Start a job run and return its id.

        Raises:
            JobNotStartedError: Glue had no room in time, or refuses.
            Exception: Of the client: whether a job run was started is not known.
        """
        job = params["JobName"]
        try:
            for gone in self.polling.within(within_seconds).pauses(f"The wait for room for Glue job {job}"):
                try:
                    return str(self._client.start_job_run(**params)["JobRunId"])
                except self._client.exceptions.ClientError as error:
                    if not is_refusal(error):
                        raise
                    # Throttled or full: there may be room later.
                    if error_code(error) not in _QUEUED:
                        raise JobNotStartedError(f"Glue refuses to start job {job}: {error}") from error
                    context.log.info("Glue has no room after %.0f s: %s", gone, error)
        except JobDeadlineError as error:
            raise JobNotStartedError(f"{error}. Look at the job runs that take it.") from error
        raise AssertionError("pauses() ends by raising")

    def _finished(self, context: Context, job: str, run_id: str) -> Mapping[str, Any]:
        job_run = self._job_run_at_its_end(context, job, run_id)
        state = job_run["JobRunState"]
        if state != "SUCCEEDED":
            tail = self._log_tail(run_id, GLUE_ERROR_LOG_GROUP, GLUE_OUTPUT_LOG_GROUP)
            raise GlueJobError(
                f"Glue job {job} run {run_id} ended as {state}: "
                f"{job_run.get('ErrorMessage') or 'no reason given'}\nIts log ends:\n{tail}"
            )
        return job_run

    def _job_run_at_its_end(self, context: Context, job: str, run_id: str) -> Mapping[str, Any]:
        def stop() -> None:
            answer = self._client.batch_stop_job_run(JobName=job, JobRunIds=[run_id])
            for failed in answer.get("Errors", []):
                context.log.warning("Glue job run %s was not stopped: %s", run_id, failed.get("ErrorDetail"))

        return self._wait_for_completion(
            context,
            f"Glue job {job} run {run_id}",
            look=lambda: self._client.get_job_run(JobName=job, RunId=run_id)["JobRun"],
            state=lambda job_run: job_run["JobRunState"],
            has_ended=lambda job_run: job_run["JobRunState"] in _ENDED,
            stop=stop,
        )
