"""A Pipes client for SageMaker's processing and training jobs."""

import time
from collections.abc import Callable, Mapping
from dataclasses import dataclass
from typing import Any, Literal

import dagster as dg
from dagster._core.definitions.resource_annotation import TreatAsResourceParam
from dagster._core.pipes.client import PipesClientCompletedInvocation

from mlpipe_dagster.job_clients.job_logs import log_tail
from mlpipe_dagster.job_clients.polling import Polling, error_code, stopping_on_interruption
from prediction_contract.job_arguments import container_environment
from prediction_contract.resource_names import PROCESSING_LOG_GROUP, TRAINING_LOG_GROUP

Context = dg.OpExecutionContext | dg.AssetExecutionContext
JobType = Literal["Processing", "Training"]

_LOG_GROUPS: dict[str, str] = {"Processing": PROCESSING_LOG_GROUP, "Training": TRAINING_LOG_GROUP}
_ENDED = {"Completed", "Failed", "Stopped"}
_MOST_ATTEMPTS = 50
_QUEUED = {"ResourceLimitExceeded"}


class SageMakerJobError(Exception):
    """A SageMaker job ended otherwise than completed; the message ends with its own log's last lines."""


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


class PipesSageMakerClient(dg.PipesClient, TreatAsResourceParam):
    """Runs a SageMaker job to its end, and reads what it reports over Pipes.

    Args:
        client: A boto3 SageMaker client.
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
        self._polling = polling or Polling()

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
        """
        with dg.open_pipes_session(
            context=context,
            context_injector=self._context_injector,
            message_reader=self._message_reader,
            extras=extras,
        ) as session:
            began = time.monotonic()
            job = self._find_or_create(context, job_type, job_name, request, session.get_bootstrap_env_vars())
            with stopping_on_interruption(
                lambda: self._call(job_type, "stop", job.name), context.log.warning
            ):
                description = self._wait_for_completion(context, job_type, job.name)
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
        for gone in self._polling.pauses(f"The start of SageMaker job {name}"):
            try:
                # An answer that was lost shows itself as a name in use: that job is then adopted.
                self._polling.insist(lambda: create(**whole), f"Creating SageMaker job {name}")
            except self._client.exceptions.ClientError as error:
                if error_code(error) == "ResourceInUse" or "already exists" in str(error):
                    return False
                if error_code(error) not in _QUEUED:
                    raise
                context.log.info("SageMaker has no room for %s after %.0f s: %s", name, gone, error)
            else:
                return True
        return False

    def _wait_for_completion(self, context: Context, job_type: JobType, name: str) -> Mapping[str, Any]:
        seen = ""
        for gone in self._polling.pauses(f"SageMaker job {name}"):
            description = self._describe(job_type, name)
            status = description[f"{job_type}JobStatus"]
            shown = description.get("SecondaryStatus", status)
            if shown != seen:
                context.log.info("SageMaker job %s is %s after %.0f s", name, shown, gone)
                seen = shown
            if status in _ENDED:
                return description
        raise AssertionError("pauses() ends by raising")

    def _require_completed(self, job_type: JobType, name: str, description: Mapping[str, Any]) -> None:
        status = description[f"{job_type}JobStatus"]
        if status == "Completed":
            return
        reason = description.get("FailureReason") or description.get("ExitMessage") or "no reason given"
        tail = log_tail(self._logs_client, _LOG_GROUPS[job_type], f"{name}/")
        raise SageMakerJobError(f"SageMaker job {name} ended as {status}: {reason}\nIts log ends:\n{tail}")

    def _describe(self, job_type: JobType, name: str) -> Mapping[str, Any]:
        return self._polling.insist(
            lambda: self._call(job_type, "describe", name), f"Describing SageMaker job {name}"
        )

    def _call(self, job_type: JobType, verb: str, name: str) -> Any:
        return getattr(self._client, f"{verb}_{job_type.lower()}_job")(**{f"{job_type}JobName": name})
