"""A Dagster Pipes client for SageMaker processing and training jobs."""

from collections.abc import Callable, Mapping
from dataclasses import dataclass
from typing import Any, Literal

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
from prediction_contract.naming.resource_names import PROCESSING_LOG_GROUP, TRAINING_LOG_GROUP

JobType = Literal["Processing", "Training"]

_LOG_GROUPS: dict[str, str] = {"Processing": PROCESSING_LOG_GROUP, "Training": TRAINING_LOG_GROUP}
_ENDED = {"Completed", "Failed", "Stopped"}
_MAX_ATTEMPTS = 50
_QUEUED = {"ResourceLimitExceeded"}


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
        job_type: The job's type.
        name: Returns the job's name for an attempt.
        request: Returns the Create request for a name and an attempt.
        variables: Pipes' environment variables.
        since: When the deadline's time began, by the polling's clock.
    """

    job_type: JobType
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
    """Runs a SageMaker job to its end, and reads its Pipes messages.

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
        job_type: JobType,
        job_name: Callable[[int], str],
        request: Callable[[str, int], Mapping[str, Any]],
        extras: dict[str, Any] | None = None,
    ) -> SageMakerInvocation:
        """Run a job, or adopt the one that an earlier run with the same intent started.

        Names of failed or stopped jobs are skipped. If the next name belongs to a running or completed job,
        that job is adopted, so that no second job ever runs beside it.

        Args:
            context: The step's context.
            job_type: `Processing` or `Training`.
            job_name: Returns the name for an attempt, which counts from 1; equal for equal intents.
            request: Returns the Create request for a name and an attempt, without Pipes' variables.
            extras: Pipes extras for the job.

        Raises:
            SageMakerJobError: The job failed or was stopped.
            JobDeadlineError: It did not end in time, including its time in queues, and is being stopped.
            JobApiError: SageMaker did not answer for too long; the job goes on.
        """
        tried: list[str] = []

        def stop() -> None:
            if tried:
                self._stop(context, job_type, tried[-1])

        since = self.polling.clock()
        with (
            self._session(context, extras) as session,
            self._stopping_on_interruption(context, f"The SageMaker job of {job_name(1)}", stop),
        ):
            wanted = _Wanted(job_type, job_name, request, session.get_bootstrap_env_vars(), since)
            job = self._find_or_create(context, wanted, tried)
            description = self._job_at_its_end(context, wanted, job.name)
            self._require_completed(job_type, job.name, description)
        return SageMakerInvocation(session, job, description, self._metadata(job_type, job, description))

    def _find_or_create(self, context: Context, wanted: _Wanted, tried: list[str]) -> SageMakerJob:
        """Return the job to wait for; each name is added to `tried` before its job may exist."""
        job_type, what = wanted.job_type, f"SageMaker {wanted.job_type.lower()} job"
        for attempt in range(1, _MAX_ATTEMPTS + 1):
            name = wanted.name(attempt)
            tried.append(name)
            if self._create(context, wanted, name, attempt):
                page = sagemaker_job_page(self._region, job_type, name)
                context.log.info("%s %s was created: %s", what, name, page)
                return SageMakerJob(name, attempt, adopted=False)
            found = self._describe(job_type, name)
            if found[f"{job_type}JobStatus"] == "Stopping":
                # It was cancelled: wait until it has stopped, then create the next attempt's job.
                found = self._job_at_its_end(context, wanted, name)
            status = found[f"{job_type}JobStatus"]
            if status not in {"Failed", "Stopped"}:
                context.log.info("%s %s is %s: it is adopted", what, name, status)
                self._follow(found.get("Environment", {}))
                return SageMakerJob(name, attempt, adopted=True)
            context.log.info("%s %s has %s: the next attempt", what, name, status.lower())
        raise SageMakerJobError(
            f"{_MAX_ATTEMPTS} attempts of {wanted.name(1)} have ended without success. "
            "Find the cause in their logs, then start a new run."
        )

    def _create(self, context: Context, wanted: _Wanted, name: str, attempt: int) -> bool:
        """Create the job; return False if its name is taken."""
        job_type, request = wanted.job_type, wanted.request(name, attempt)
        environment = container_environment({**request.get("Environment", {}), **wanted.variables})
        create = getattr(self._client, f"create_{job_type.lower()}_job")
        whole = {**request, f"{job_type}JobName": name, "Environment": environment}
        for gone in self.polling.pauses(f"The start of SageMaker job {name}", since=wanted.since):
            try:
                # If the answer is lost, the retry finds the name in use, and that job is adopted.
                self.polling.insist(lambda: create(**whole), f"Creating SageMaker job {name}")
            except self._client.exceptions.ClientError as error:
                if error_code(error) == "ResourceInUse" or "already exists" in str(error):
                    return False
                if error_code(error) not in _QUEUED:
                    raise
                context.log.info("SageMaker has no room for %s after %.0f s: %s", name, gone, error)
            else:
                return True
        raise AssertionError("pauses() ends by raising")

    def _job_at_its_end(self, context: Context, wanted: _Wanted, name: str) -> Mapping[str, Any]:
        status = f"{wanted.job_type}JobStatus"
        return self._wait_for_completion(
            context,
            f"SageMaker job {name}",
            look=lambda: self._call(wanted.job_type, "describe", name),
            state=lambda job: job.get("SecondaryStatus", job[status]),
            has_ended=lambda job: job[status] in _ENDED,
            since=wanted.since,
        )

    def _stop(self, context: Context, job_type: JobType, name: str) -> None:
        try:
            self._call(job_type, "stop", name)
        except self._client.exceptions.ClientError as error:
            # The job was not created yet, or has ended.
            if error_code(error) != "ValidationException":
                raise
            context.log.info("SageMaker job %s needs no stop: %s", name, error)

    def _require_completed(self, job_type: JobType, name: str, description: Mapping[str, Any]) -> None:
        status = description[f"{job_type}JobStatus"]
        if status == "Completed":
            return
        reason = description.get("FailureReason") or description.get("ExitMessage") or "no reason given"
        tail = self._log_tail(f"{name}/", _LOG_GROUPS[job_type])
        page = sagemaker_job_page(self._region, job_type, name)
        raise SageMakerJobError(
            f"SageMaker job {name} ended as {status}: {reason}\nIts page: {page}\nIts log ends:\n{tail}"
        )

    def _metadata(
        self, job_type: JobType, job: SageMakerJob, description: Mapping[str, Any]
    ) -> dict[str, Any]:
        """Return Dagster metadata of a completed job."""
        used = sagemaker_job_use(description, job_type, self._hour_usd)
        return {
            "SageMaker job": job.name,
            "attempt": job.attempt,
            "adopted": job.adopted,
            "job_page": dg.MetadataValue.url(sagemaker_job_page(self._region, job_type, job.name)),
            "log_page": dg.MetadataValue.url(log_page(self._region, _LOG_GROUPS[job_type], f"{job.name}/")),
            **{name: value for name, value in used.items() if value is not None},
        }

    def _describe(self, job_type: JobType, name: str) -> Mapping[str, Any]:
        return self.polling.insist(
            lambda: self._call(job_type, "describe", name), f"Describing SageMaker job {name}"
        )

    def _call(self, job_type: JobType, verb: str, name: str) -> Any:
        return getattr(self._client, f"{verb}_{job_type.lower()}_job")(**{f"{job_type}JobName": name})
