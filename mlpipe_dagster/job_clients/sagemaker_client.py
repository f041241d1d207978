"""A Dagster Pipes client for SageMaker processing jobs."""

from collections.abc import Callable, Mapping
from dataclasses import dataclass
from typing import Any

import dagster as dg

from mlpipe_dagster.job_clients.job_errors import SageMakerJobError
from mlpipe_dagster.job_clients.job_metadata import (
    SAGEMAKER_HOUR_USD,
    log_page,
    sagemaker_job_page,
    sagemaker_job_use,
)
from mlpipe_dagster.job_clients.pipes_job_client import Context, JobInvocation, PipesJobClient
from mlpipe_dagster.job_clients.polling import error_code
from prediction_contract.jobs.job_arguments import container_environment
from prediction_contract.naming.resource_names import PROCESSING_LOG_GROUP

_TYPE = "Processing"
_STATUS = "ProcessingJobStatus"
_ENDED = {"Completed", "Failed", "Stopped"}
_MAX_ATTEMPTS = 50
_NO_CAPACITY = {"ResourceLimitExceeded"}


@dataclass(frozen=True)
class SageMakerJob:
    """A job that was found or created.

    Attributes:
        name: The job's name.
        attempt: The number of the attempt, which is part of the name.
        adopted: Whether an earlier run created it.
    """

    name: str
    attempt: int
    adopted: bool


@dataclass(frozen=True)
class _Wanted:
    """The wanted job of one intent.

    Attributes:
        name: Returns the job's name for an attempt.
        request: Returns the Create request for a name and an attempt.
        variables: Pipes' environment variables.
        since: When the deadline's time began, by the polling's clock.
    """

    name: Callable[[int], str]
    request: Callable[[str, int], Mapping[str, Any]]
    variables: Mapping[str, str]
    since: float


class SageMakerInvocation(JobInvocation):
    """The results of a completed job.

    Attributes:
        job: The job.
        description: SageMaker's description of the job.
    """

    def __init__(
        self, session: Any, job: SageMakerJob, description: Mapping[str, Any], metadata: Mapping[str, Any]
    ) -> None:
        self.job = job
        self.description = description
        super().__init__(session, metadata=metadata)


class PipesSageMakerClient(PipesJobClient):
    """Runs a SageMaker processing job to its end, and reads its Pipes messages.

    Args:
        hour_usd: Price of an hour by instance type for cost estimates.
        parts: The arguments of `PipesJobClient`.
    """

    def __init__(self, *, hour_usd: Mapping[str, float] | None = None, **parts: Any) -> None:
        super().__init__(**parts)
        self._hour_usd = SAGEMAKER_HOUR_USD if hour_usd is None else hour_usd

    def run(  # type: ignore[override]  # Pipes clients each have arguments of their own
        self,
        *,
        context: Context,
        job_name: Callable[[int], str],
        request: Callable[[str, int], Mapping[str, Any]],
        extras: dict[str, Any] | None = None,
    ) -> SageMakerInvocation:
        """Run a job, or adopt the one that an earlier run with the same intent started.

        Names of failed or stopped jobs are skipped. If the next name belongs to a running or completed job,
        that job is adopted, so that no second job ever runs beside it.

        Args:
            context: The step's context.
            job_name: Returns the name for an attempt, which counts from 1; equal for equal intents.
            request: Returns the Create request for a name and an attempt, without Pipes' variables.
            extras: Pipes extras for the job.

        Raises:
            SageMakerJobError: The job failed or was stopped.
            JobDeadlineError: It did not end in time, including its time in queues, and is being stopped.
            JobApiError: SageMaker did not answer for too long; the job keeps running.
        """
        tried: list[str] = []

        def stop() -> None:
            if tried:
                self._stop(context, tried[-1])

        since = self.polling.clock()
        with (
            self._session(context, extras) as session,
            self._stopping_on_interruption(context, f"The SageMaker job of {job_name(1)}", stop),
        ):
            wanted = _Wanted(job_name, request, session.get_bootstrap_env_vars(), since)
            job = self._find_or_create(context, wanted, tried)
            description = self._wait_for_job(context, wanted, job.name)
            self._require_completed(job.name, description)
        return SageMakerInvocation(session, job, description, self._metadata(job, description))

    def _find_or_create(self, context: Context, wanted: _Wanted, tried: list[str]) -> SageMakerJob:
        """Return the job to wait for; each name is added to `tried` before its job may exist."""
        for attempt in range(1, _MAX_ATTEMPTS + 1):
            name = wanted.name(attempt)
            tried.append(name)
            if self._create(context, wanted, name, attempt):
                page = sagemaker_job_page(self._region, _TYPE, name)
                context.log.info("SageMaker processing job %s was created: %s", name, page)
                return SageMakerJob(name, attempt, adopted=False)
            found = self._describe(name)
            if found[_STATUS] == "Stopping":
                # It was cancelled: wait until it has stopped, then create the next attempt's job.
                found = self._wait_for_job(context, wanted, name)
            status = found[_STATUS]
            if status not in {"Failed", "Stopped"}:
                context.log.info("SageMaker processing job %s is already %s: adopting it", name, status)
                self._follow(found.get("Environment", {}))
                return SageMakerJob(name, attempt, adopted=True)
            context.log.info(
                "SageMaker processing job %s has %s: starting the next attempt", name, status.lower()
            )
        raise SageMakerJobError(
            f"{_MAX_ATTEMPTS} attempts of {wanted.name(1)} have ended without success. "
            "Find the cause in their logs, then start a new run."
        )

    def _create(self, context: Context, wanted: _Wanted, name: str, attempt: int) -> bool:
        """Create the job; return False if its name is taken."""
        request = wanted.request(name, attempt)
        environment = container_environment({**request.get("Environment", {}), **wanted.variables})
        whole = {**request, "ProcessingJobName": name, "Environment": environment}
        for elapsed in self.polling.pauses(f"The start of SageMaker job {name}", since=wanted.since):
            try:
                # If the answer is lost, the retry finds the name in use, and that job is adopted.
                self.polling.retry(
                    lambda: self._client.create_processing_job(**whole), f"Creating SageMaker job {name}"
                )
            except self._client.exceptions.ClientError as error:
                if error_code(error) == "ResourceInUse" or "already exists" in str(error):
                    return False
                if error_code(error) not in _NO_CAPACITY:
                    raise
                context.log.info("SageMaker has had no capacity for %s for %.0f s: %s", name, elapsed, error)
            else:
                return True
        raise AssertionError("pauses() ends by raising")

    def _wait_for_job(self, context: Context, wanted: _Wanted, name: str) -> Mapping[str, Any]:
        return self._wait_for_completion(
            context,
            f"SageMaker job {name}",
            look=lambda: self._client.describe_processing_job(ProcessingJobName=name),
            state=lambda job: job[_STATUS],
            has_ended=lambda job: job[_STATUS] in _ENDED,
            since=wanted.since,
        )

    def _stop(self, context: Context, name: str) -> None:
        try:
            self._client.stop_processing_job(ProcessingJobName=name)
        except self._client.exceptions.ClientError as error:
            # The job was not created yet, or has ended.
            if error_code(error) != "ValidationException":
                raise
            context.log.info("SageMaker job %s is not running: %s", name, error)

    def _require_completed(self, name: str, description: Mapping[str, Any]) -> None:
        status = description[_STATUS]
        if status == "Completed":
            return
        reason = description.get("FailureReason") or description.get("ExitMessage") or "no reason given"
        tail = self._log_tail(f"{name}/", PROCESSING_LOG_GROUP)
        page = sagemaker_job_page(self._region, _TYPE, name)
        raise SageMakerJobError(
            f"SageMaker job {name} ended as {status}: {reason}\nConsole page: {page}\nEnd of its log:\n{tail}"
        )

    def _metadata(self, job: SageMakerJob, description: Mapping[str, Any]) -> dict[str, Any]:
        """Return Dagster metadata of a completed job."""
        used = sagemaker_job_use(description, _TYPE, self._hour_usd)
        return {
            "SageMaker job": job.name,
            "attempt": job.attempt,
            "adopted": job.adopted,
            "job_page": dg.MetadataValue.url(sagemaker_job_page(self._region, _TYPE, job.name)),
            "log_page": dg.MetadataValue.url(log_page(self._region, PROCESSING_LOG_GROUP, f"{job.name}/")),
            **{name: value for name, value in used.items() if value is not None},
        }

    def _describe(self, name: str) -> Mapping[str, Any]:
        return self.polling.retry(
            lambda: self._client.describe_processing_job(ProcessingJobName=name),
            f"Describing SageMaker job {name}",
        )
