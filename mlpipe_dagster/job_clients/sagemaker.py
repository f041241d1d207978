"""A Pipes client for SageMaker's processing and training jobs."""

import time
from collections.abc import Callable, Mapping
from dataclasses import dataclass
from typing import Any, Literal

from dagster._core.pipes.client import PipesClientCompletedInvocation

from mlpipe_dagster.job_clients.errors import SageMakerJobError
from mlpipe_dagster.job_clients.pipes_job_client import Context, PipesJobClient
from mlpipe_dagster.job_clients.polling import error_code
from prediction_contract.job_arguments import container_environment
from prediction_contract.resource_names import PROCESSING_LOG_GROUP, TRAINING_LOG_GROUP

JobType = Literal["Processing", "Training"]

_LOG_GROUPS: dict[str, str] = {"Processing": PROCESSING_LOG_GROUP, "Training": TRAINING_LOG_GROUP}
_ENDED = {"Completed", "Failed", "Stopped"}
_MOST_ATTEMPTS = 50
_QUEUED = {"ResourceLimitExceeded"}


@dataclass(frozen=True)
class SageMakerJob:
    """A job as found or created.

    Attributes:
        name: Its name.
        attempt: The attempt that the name carries.
        adopted: Whether an earlier run had created it.
    """

    name: str
    attempt: int
    adopted: bool


class SageMakerInvocation(PipesClientCompletedInvocation):
    """The results of a completed job.

    Attributes:
        job: Which one it was.
        description: SageMaker's own description of it.
    """

    def __init__(
        self, session: Any, job: SageMakerJob, description: Mapping[str, Any], seconds: float
    ) -> None:
        self.job = job
        self.description = description
        super().__init__(
            session,
            metadata={"SageMaker job": job.name, "attempt": job.attempt, "job_seconds": round(seconds, 1)},
        )


class PipesSageMakerClient(PipesJobClient):
    """Runs a SageMaker job to its end, and reads what it reports over Pipes."""

    def run(  # type: ignore[override]  # Pipes clients each have arguments of their own
        self,
        *,
        context: Context,
        job_type: JobType,
        job_name: Callable[[int], str],
        request: Callable[[str, int], Mapping[str, Any]],
        extras: dict[str, Any] | None = None,
    ) -> SageMakerInvocation:
        """Run a job, or go on with the one that an earlier run of the same intent has started.

        The first attempt's name that is not taken by an ended job is used: a job of that name that runs, or
        that has completed, is adopted, so that no second one ever runs beside it.

        Args:
            context: The step's.
            job_type: `Processing` or `Training`.
            job_name: Gives the name of an attempt, which counts from 1; the same for the same intent.
            request: Gives the Create request of a name and attempt, without Pipes' variables.
            extras: For the job, over Pipes.

        Raises:
            SageMakerJobError: The job failed or was stopped.
            JobDeadlineError: It did not end in time, and was told to stop.
            JobApiError: SageMaker did not answer for too long; the job is left alone.
        """
        with self._session(context, extras) as session:
            began = time.monotonic()
            job = self._find_or_create(context, job_type, job_name, request, session.get_bootstrap_env_vars())
            description = self._job_at_its_end(context, job_type, job.name)
            self._require_completed(job_type, job.name, description)
        return SageMakerInvocation(session, job, description, time.monotonic() - began)

    def _find_or_create(
        self,
        context: Context,
        job_type: JobType,
        job_name: Callable[[int], str],
        request: Callable[[str, int], Mapping[str, Any]],
        variables: Mapping[str, str],
    ) -> SageMakerJob:
        for attempt in range(1, _MOST_ATTEMPTS + 1):
            name = job_name(attempt)
            if self._create(context, job_type, name, request(name, attempt), variables):
                context.log.info("SageMaker %s job %s was created", job_type.lower(), name)
                return SageMakerJob(name, attempt, adopted=False)
            status = self._describe(job_type, name)[f"{job_type}JobStatus"]
            if status not in {"Failed", "Stopped"}:
                context.log.info("SageMaker %s job %s is %s: it is adopted", job_type.lower(), name, status)
                return SageMakerJob(name, attempt, adopted=True)
            context.log.info(
                "SageMaker %s job %s has %s: the next attempt", job_type.lower(), name, status.lower()
            )
        raise SageMakerJobError(
            f"{_MOST_ATTEMPTS} attempts of {job_name(1)} have ended without success. "
            "Find the cause in their logs, then start a new run."
        )

    def _create(
        self,
        context: Context,
        job_type: JobType,
        name: str,
        request: Mapping[str, Any],
        variables: Mapping[str, str],
    ) -> bool:
        """Create the job; return False if its name is taken."""
        environment = container_environment({**request.get("Environment", {}), **variables})
        create = getattr(self._client, f"create_{job_type.lower()}_job")
        whole = {**request, f"{job_type}JobName": name, "Environment": environment}
        for gone in self.polling.pauses(f"The start of SageMaker job {name}"):
            try:
                # An answer that was lost shows itself as a name in use: that job is then adopted.
                self.polling.insist(lambda: create(**whole), f"Creating SageMaker job {name}")
            except self._client.exceptions.ClientError as error:
                if error_code(error) == "ResourceInUse" or "already exists" in str(error):
                    return False
                if error_code(error) not in _QUEUED:
                    raise
                context.log.info("SageMaker has no room for %s after %.0f s: %s", name, gone, error)
            else:
                return True
        return False

    def _job_at_its_end(self, context: Context, job_type: JobType, name: str) -> Mapping[str, Any]:
        status = f"{job_type}JobStatus"
        return self._wait_for_completion(
            context,
            f"SageMaker job {name}",
            look=lambda: self._call(job_type, "describe", name),
            state=lambda job: job.get("SecondaryStatus", job[status]),
            has_ended=lambda job: job[status] in _ENDED,
            stop=lambda: self._call(job_type, "stop", name),
        )

    def _require_completed(self, job_type: JobType, name: str, description: Mapping[str, Any]) -> None:
        status = description[f"{job_type}JobStatus"]
        if status == "Completed":
            return
        reason = description.get("FailureReason") or description.get("ExitMessage") or "no reason given"
        tail = self._log_tail(f"{name}/", _LOG_GROUPS[job_type])
        raise SageMakerJobError(f"SageMaker job {name} ended as {status}: {reason}\nIts log ends:\n{tail}")

    def _describe(self, job_type: JobType, name: str) -> Mapping[str, Any]:
        return self.polling.insist(
            lambda: self._call(job_type, "describe", name), f"Describing SageMaker job {name}"
        )

    def _call(self, job_type: JobType, verb: str, name: str) -> Any:
        return getattr(self._client, f"{verb}_{job_type.lower()}_job")(**{f"{job_type}JobName": name})
