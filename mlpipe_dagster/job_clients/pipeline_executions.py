"""A client of SageMaker pipelines: starts an execution once, watches it to its end, or stops it."""

from __future__ import annotations

import re
from collections.abc import Mapping
from dataclasses import dataclass
from typing import Any

import dagster as dg

from mlpipe_dagster.job_clients.job_errors import SageMakerJobError
from mlpipe_dagster.job_clients.job_metadata import log_page, sagemaker_job_page
from mlpipe_dagster.job_clients.pipes_job_client import Context, log_tail
from mlpipe_dagster.job_clients.polling import Polling, error_code
from prediction_contract.naming.resource_names import PROCESSING_LOG_GROUP, TRAINING_LOG_GROUP
from prediction_contract.printable_text import escape_unprintable

SUCCEEDED, STOPPING = "Succeeded", "Stopping"
# The final states of an execution, unless it is retried.
ENDED = frozenset({SUCCEEDED, "Failed", "Stopped", "CompletedWithFailures"})
_JOB_TYPES = {"ProcessingJob": "Processing", "TrainingJob": "Training"}
_LOG_GROUPS = {"Processing": PROCESSING_LOG_GROUP, "Training": TRAINING_LOG_GROUP}
_NEWEST = 100
_ILLEGAL = re.compile("[^A-Za-z0-9]+")
_LONGEST_NAME = 82


@dataclass(frozen=True, slots=True, kw_only=True)
class ExecutionRequest:
    """The parameters of an execution to start.

    Attributes:
        pipeline: The pipeline's name.
        token: Identifies the execution; equal for all attempts to start it; at least 32 characters.
        display_name: A name for people; unique per token.
        description: The reason, for people.
        parameters: The pipeline's parameters, by name.
    """

    pipeline: str
    token: str
    display_name: str
    description: str
    parameters: Mapping[str, str]


@dataclass(frozen=True, slots=True, kw_only=True)
class ExecutionStep:
    """The present state of an execution's step.

    Attributes:
        name: The step's name.
        status: SageMaker's status.
        job_type: `Processing` or `Training`; None for a step that starts no job.
        job_name: The job's name; None before it has one.
        attempts: How often the step was attempted.
        outcome: A condition's result, the registered package, or the message of a failure.
    """

    name: str
    status: str
    job_type: str | None = None
    job_name: str | None = None
    attempts: int = 1
    outcome: str = ""

    @classmethod
    def of(cls, described: Mapping[str, Any]) -> ExecutionStep:
        """Return a step from the answer of `ListPipelineExecutionSteps`."""
        metadata = described.get("Metadata", {})
        kind = next((each for each in _JOB_TYPES if metadata.get(each, {}).get("Arn")), None)
        outcome = (
            described.get("FailureReason")
            or metadata.get("Fail", {}).get("ErrorMessage")
            or metadata.get("Condition", {}).get("Outcome")
            or metadata.get("RegisterModel", {}).get("Arn")
            or ""
        )
        return cls(
            name=described["StepName"],
            status=described["StepStatus"],
            job_type=_JOB_TYPES[kind] if kind else None,
            job_name=metadata[kind]["Arn"].rpartition("/")[2] if kind else None,
            attempts=max(1, described.get("AttemptCount", 1)),
            outcome=escape_unprintable(outcome),
        )

    @property
    def text(self) -> str:
        """The step in one line."""
        tries = f", attempt {self.attempts}" if self.attempts > 1 else ""
        return f"{self.name} is {self.status}{tries}" + (f": {self.outcome}" if self.outcome else "")


class PipelineExecutions:
    """Executions of SageMaker pipelines.

    Args:
        client: A boto3 SageMaker client.
        logs_client: A boto3 CloudWatch Logs client.
        polling: The pauses, deadline and patience for watching an execution.
    """

    def __init__(self, *, client: Any, logs_client: Any, polling: Polling | None = None) -> None:
        self._client = client
        self._logs_client = logs_client
        self.polling = polling or Polling()

    @property
    def _region(self) -> str:
        return str(self._client.meta.region_name)

    def start(self, request: ExecutionRequest) -> str:
        """Start an execution, or find the one that has the same token; return its ARN.

        Raises:
            SageMakerJobError: SageMaker refused to start it.
            JobApiError: SageMaker did not answer for too long.
        """
        what = f"Starting pipeline {request.pipeline}"
        try:
            return str(self.polling.retry(lambda: self._start(request), what)["PipelineExecutionArn"])
        except self._client.exceptions.ClientError as error:
            # The execution may have been started for another reason: same token, other parameters.
            found = self._named(request) if error_code(error) == "ConflictException" else None
            if found is None:
                raise SageMakerJobError(
                    f"SageMaker refused to start pipeline {request.pipeline}: {error}"
                ) from error
            return found

    def _start(self, request: ExecutionRequest) -> Mapping[str, Any]:
        answer: Mapping[str, Any] = self._client.start_pipeline_execution(
            PipelineName=request.pipeline,
            PipelineExecutionDisplayName=request.display_name,
            PipelineExecutionDescription=request.description,
            PipelineParameters=[{"Name": name, "Value": value} for name, value in request.parameters.items()],
            ClientRequestToken=request.token,
        )
        return answer

    def _named(self, request: ExecutionRequest) -> str | None:
        answer = self._client.list_pipeline_executions(
            PipelineName=request.pipeline,
            SortBy="CreationTime",
            SortOrder="Descending",
            MaxResults=_NEWEST,
        )
        return next(
            (
                str(found["PipelineExecutionArn"])
                for found in answer["PipelineExecutionSummaries"]
                if found.get("PipelineExecutionDisplayName") == request.display_name
            ),
            None,
        )

    def describe(self, arn: str) -> Mapping[str, Any]:
        """Return SageMaker's description of an execution.

        Raises:
            JobApiError: SageMaker did not answer for too long.
        """
        answer: Mapping[str, Any] = self.polling.retry(
            lambda: self._client.describe_pipeline_execution(PipelineExecutionArn=arn),
            f"Querying execution {arn}",
        )
        return answer

    def steps(self, arn: str) -> list[ExecutionStep]:
        """Return the steps of an execution that have begun, in order.

        Raises:
            JobApiError: SageMaker did not answer for too long.
        """
        answer = self.polling.retry(
            lambda: self._client.list_pipeline_execution_steps(
                PipelineExecutionArn=arn, SortOrder="Ascending", MaxResults=_NEWEST
            ),
            f"Querying the steps of execution {arn}",
        )
        return [ExecutionStep.of(each) for each in answer["PipelineExecutionSteps"]]

    def watch(self, context: Context, arn: str, *, since: float | None = None) -> Mapping[str, Any]:
        """Wait for an execution's end, log the progress of its steps, and return its description.

        Args:
            context: The step's context. If its run is cancelled or the deadline passes, the execution is
                stopped.
            arn: The execution's ARN.
            since: The start of the deadline's time, by the polling's clock; by default now.

        Raises:
            JobDeadlineError: It did not end in time and is being stopped.
            JobApiError: SageMaker did not answer for too long; the execution keeps running.
        """

        def stop() -> None:
            context.log.warning("Execution %s is being stopped", arn)
            self.stop(arn)

        shown: dict[str, str] = {}
        with self.polling.stopping_on_interruption(stop, context.log.warning):
            for _ in self.polling.pauses(f"Execution {arn}", since=since):
                described = self.describe(arn)
                # Listed after the description, so that all steps of an ended execution are included.
                for step in self.steps(arn):
                    if shown.get(step.name) != step.text:
                        shown[step.name] = step.text
                        context.log.info("%s%s", step.text, self._page_of(step))
                if described["PipelineExecutionStatus"] in ENDED:
                    return described
        raise AssertionError("pauses() ends by raising")

    def _page_of(self, step: ExecutionStep) -> str:
        if step.job_type is None or step.job_name is None:
            return ""
        return f" ({sagemaker_job_page(self._region, step.job_type, step.job_name)})"

    def stop(self, arn: str) -> None:
        """Stop an execution; does nothing if it has ended."""
        try:
            self._client.stop_pipeline_execution(
                PipelineExecutionArn=arn, ClientRequestToken=f"stop-{arn.rpartition('/')[2]:0>32}"
            )
        except self._client.exceptions.ClientError as error:
            if error_code(error) not in {"ValidationException", "ConflictException"}:
                raise

    def failure(self, arn: str, described: Mapping[str, Any]) -> str:
        """Return why an execution did not succeed, with the last log lines of its failed job."""
        status = described["PipelineExecutionStatus"]
        reason = escape_unprintable(described.get("FailureReason", "")) or "no reason given"
        parts = [f"Execution {arn} ended as {status}: {reason}"]
        for step in self.steps(arn):
            if step.status != "Failed":
                continue
            parts.append(step.text)
            if step.job_type is not None and step.job_name is not None:
                parts.append(
                    f"Console page: {sagemaker_job_page(self._region, step.job_type, step.job_name)}"
                )
                tail = log_tail(self._logs_client, f"{step.job_name}/", _LOG_GROUPS[step.job_type])
                parts.append(f"End of its log:\n{tail}")
        return "\n".join(parts)

    def metadata(self, arn: str) -> dict[str, Any]:
        """Return Dagster metadata of an execution: its steps, with links to their jobs and logs."""
        shown: dict[str, Any] = {"execution": arn}
        for step in self.steps(arn):
            shown[step.name] = step.text
            if step.job_type is None or step.job_name is None:
                continue
            shown[f"{step.name}_job_page"] = dg.MetadataValue.url(
                sagemaker_job_page(self._region, step.job_type, step.job_name)
            )
            shown[f"{step.name}_log_page"] = dg.MetadataValue.url(
                log_page(self._region, _LOG_GROUPS[step.job_type], f"{step.job_name}/")
            )
        return shown


def display_name(*parts: str) -> str:
    """Return a valid display name of an execution, made of letters, digits and hyphens."""
    return _ILLEGAL.sub("-", "-".join(parts)).strip("-")[:_LONGEST_NAME].rstrip("-")
