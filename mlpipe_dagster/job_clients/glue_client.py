"""A Dagster Pipes client for Glue job runs."""

from collections.abc import Mapping
from typing import Any

import dagster as dg

from mlpipe_dagster.job_clients.job_errors import (
    GlueJobError,
    JobApiError,
    JobDeadlineError,
    JobNotStartedError,
)
from mlpipe_dagster.job_clients.job_metadata import (
    GLUE_DPU_HOUR_USD,
    glue_job_run_page,
    glue_job_run_use,
    log_page,
)
from mlpipe_dagster.job_clients.pipes_job_client import Context, JobInvocation, PipesJobClient
from mlpipe_dagster.job_clients.polling import error_code, is_refusal, is_transient

# The final states of a job run.
_ENDED = frozenset({"SUCCEEDED", "FAILED", "STOPPED", "TIMEOUT", "ERROR", "EXPIRED"})
_NO_CAPACITY = frozenset(
    {"ConcurrentRunsExceededException", "ResourceNumberLimitExceededException", "ThrottlingException"}
)


class GlueInvocation(JobInvocation):
    """The results of a successful job run.

    Attributes:
        job_run_id: The job run's id.
        job_run: Glue's description of the job run.
    """

    def __init__(self, session: Any, job_run: Mapping[str, Any], metadata: Mapping[str, Any]) -> None:
        self.job_run_id = str(job_run["Id"])
        self.job_run = job_run
        super().__init__(session, metadata=metadata)


class PipesGlueJobClient(PipesJobClient):
    """Runs a Glue job to its end, and reads its Pipes messages.

    The boto3 client must not retry by itself: `StartJobRun` has no token, so a retry after a lost answer
    would start a second job run. For the same reason this client cannot find the job run of a crashed run.
    The caller keeps a claim that the job run confirms, and passes the job run that holds it to `wait`.

    Args:
        dpu_hour_usd: Price of a DPU hour for cost estimates; None for no estimate.
        log_group_prefix: The jobs' `--custom-logGroup-prefix`; by default Glue's own prefix.
        parts: The arguments of `PipesJobClient`.
    """

    def __init__(
        self,
        *,
        dpu_hour_usd: float | None = GLUE_DPU_HOUR_USD,
        log_group_prefix: str = "/aws-glue/jobs",
        **parts: Any,
    ) -> None:
        super().__init__(**parts)
        self._dpu_hour_usd = dpu_hour_usd
        self._output_log, self._error_log = f"{log_group_prefix}/output", f"{log_group_prefix}/error"

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
            context: The step's context.
            start_job_run_params: The parameters of `StartJobRun`, without Pipes' arguments; not modified.
            extras: Pipes extras for the job.
            start_within_seconds: How long to retry the start while Glue has no capacity.

        Raises:
            GlueJobError: The job run failed, was stopped, expired or timed out.
            JobNotStartedError: No job run was started, because Glue has no capacity or refuses.
            JobDeadlineError: It did not end in time and is being stopped.
            JobApiError: It is unknown whether a job run was started, or Glue did not answer for too long; a
                started job run keeps running.
        """
        job = str(start_job_run_params["JobName"])
        started: list[str] = []

        def stop() -> None:
            for run_id in started:
                self._stop(context, job, run_id)

        since = self.polling.clock()
        with (
            self._session(context, extras) as session,
            self._stopping_on_interruption(context, f"The run of Glue job {job}", stop),
        ):
            arguments = {
                **start_job_run_params.get("Arguments", {}),
                **session.get_bootstrap_cli_arguments(),
            }
            run_id = self._start(
                context, {**start_job_run_params, "Arguments": arguments}, start_within_seconds
            )
            started.append(run_id)
            page = glue_job_run_page(self._region, job, run_id)
            context.log.info("Glue job %s was started as job run %s: %s", job, run_id, page)
            job_run = self._wait_for_job_run(context, job, run_id, since)
            self._require_succeeded(job, job_run)
        return GlueInvocation(session, job_run, self.metadata(job_run))

    def wait(
        self, *, context: Context, job_name: str, job_run_id: str, is_ours: bool
    ) -> Mapping[str, Any] | None:
        """Wait for the end of a job run that another Dagster run started.

        Args:
            context: The step's context.
            job_name: The job's name.
            job_run_id: The job run's id.
            is_ours: Whether an earlier attempt at the same work started it and has ended. Then its messages
                are shown here, and it is stopped if this run is cancelled or the deadline passes.

        Returns:
            Glue's description of the job run; None if Glue no longer knows it.

        Raises:
            JobDeadlineError: It did not end in time.
            JobApiError: Glue did not answer for too long.
        """

        def stop() -> None:
            if is_ours:
                self._stop(context, job_name, job_run_id)
            else:
                context.log.info("Glue job run %s belongs to another Dagster run and goes on", job_run_id)

        since = self.polling.clock()
        try:
            with (
                self._session(context, None),
                self._stopping_on_interruption(context, f"The wait for Glue job run {job_run_id}", stop),
            ):
                if is_ours:
                    found = self.polling.retry(
                        lambda: self._look(job_name, job_run_id), f"Querying Glue job run {job_run_id}"
                    )
                    self._follow(_pipes_variables(found))
                return self._wait_for_job_run(context, job_name, job_run_id, since)
        except self._client.exceptions.EntityNotFoundException:
            # Glue deletes old job runs, and a job run that it does not know cannot be running.
            context.log.warning("Glue no longer knows job run %s", job_run_id)
            return None

    def find(self, job_name: str, job_run_id: str) -> Mapping[str, Any] | None:
        """Return Glue's description of a job run; None if Glue does not know it or does not answer."""
        try:
            return self._look(job_name, job_run_id)
        except (self._client.exceptions.ClientError, JobApiError):
            return None

    def metadata(self, job_run: Mapping[str, Any]) -> dict[str, Any]:
        """Return Dagster metadata of a job run."""
        job, run_id = str(job_run["JobName"]), str(job_run["Id"])
        return {
            "Glue job": job,
            "Glue job run": run_id,
            "job_page": dg.MetadataValue.url(glue_job_run_page(self._region, job, run_id)),
            "log_page": dg.MetadataValue.url(log_page(self._region, self._output_log, run_id)),
            **glue_job_run_use(job_run, self._dpu_hour_usd),
        }

    def _look(self, job: str, run_id: str) -> Mapping[str, Any]:
        return self._client.get_job_run(JobName=job, RunId=run_id)["JobRun"]

    def _start(self, context: Context, params: Mapping[str, Any], within_seconds: float) -> str:
        """Start a job run and return its id.

        Raises:
            JobNotStartedError: Glue had no capacity in time, or refuses.
            JobApiError: It is unknown whether a job run was started.
        """
        job = params["JobName"]
        try:
            for elapsed in self.polling.with_deadline(within_seconds).pauses(
                f"The wait for capacity for Glue job {job}"
            ):
                try:
                    return str(self._client.start_job_run(**params)["JobRunId"])
                except self._client.exceptions.ClientError as error:
                    if not is_refusal(error):
                        raise
                    # Throttled or full: retry later.
                    if error_code(error) not in _NO_CAPACITY:
                        raise JobNotStartedError(f"Glue refused to start job {job}: {error}") from error
                    context.log.info("Glue has had no capacity for %.0f s: %s", elapsed, error)
        except JobDeadlineError as error:
            raise JobNotStartedError(f"{error}. Check which job runs use it.") from error
        except Exception as error:
            if not is_transient(error):
                raise
            raise JobApiError(
                f"It is unknown whether Glue started job {job}: {error}. If it did, the job run goes on."
            ) from error
        raise AssertionError("pauses() ends by raising")

    def _require_succeeded(self, job: str, job_run: Mapping[str, Any]) -> None:
        state, run_id = job_run["JobRunState"], str(job_run["Id"])
        if state == "SUCCEEDED":
            return
        tail = self._log_tail(run_id, self._output_log, self._error_log)
        reason = job_run.get("ErrorMessage") or "no reason given"
        raise GlueJobError(
            f"Glue job {job} run {run_id} ended as {state}: {reason}"
            f"\nConsole page: {glue_job_run_page(self._region, job, run_id)}\nEnd of its log:\n{tail}"
        )

    def _wait_for_job_run(self, context: Context, job: str, run_id: str, since: float) -> Mapping[str, Any]:
        return self._wait_for_completion(
            context,
            f"Glue job {job} run {run_id}",
            look=lambda: self._look(job, run_id),
            state=lambda job_run: job_run["JobRunState"],
            has_ended=lambda job_run: job_run["JobRunState"] in _ENDED,
            since=since,
        )

    def _stop(self, context: Context, job: str, run_id: str) -> None:
        answer = self._client.batch_stop_job_run(JobName=job, JobRunIds=[run_id])
        for failed in answer.get("Errors", []):
            context.log.warning("Glue job run %s was not stopped: %s", run_id, failed.get("ErrorDetail"))


def _pipes_variables(job_run: Mapping[str, Any]) -> dict[str, str]:
    """Return the arguments of a job run under the names of the equivalent environment variables."""
    return {
        name.removeprefix("--").replace("-", "_").upper(): text
        for name, text in job_run.get("Arguments", {}).items()
    }
