"""SageMaker's operations on pipeline executions: start, stop, retry, describe, list."""

from __future__ import annotations

import time
from dataclasses import dataclass
from typing import TYPE_CHECKING, Any, ClassVar

from infra.local.job_executor.job_api import RecordApi
from infra.local.job_executor.json_protocol import ApiError
from infra.local.job_executor.sagemaker.pipelines.definition import read_definition
from infra.local.job_executor.sagemaker.pipelines.parameters import ParameterError, to_text, values_of
from infra.local.job_executor.sagemaker.pipelines.pipeline_records import (
    EXECUTION,
    PIPELINE,
    VERSION,
    ExecutionState,
    StepState,
    new_execution_id,
    version_name,
    without_nulls,
)
from infra.local.job_executor.sagemaker.pipelines.pipelines_api import (
    content_of,
    created_between,
    found_pipeline,
    reused_token,
    unsupported,
)

if TYPE_CHECKING:
    from infra.local.job_executor.job_api import Operation, Request
    from infra.local.job_executor.jobs.job_store import Record
    from infra.local.job_executor.sagemaker.pipelines.execution_runner import ExecutionRunner

_UNSUPPORTED_MEMBERS = ("SelectiveExecutionConfig", "PipelineVersionAlias", "MlflowExperimentName")
_RETRIED = {ExecutionState.FAILED, ExecutionState.STOPPED}


@dataclass(frozen=True)
class ExecutionsApi(RecordApi):
    """The operations on executions.

    Args:
        runner: Runs executions.
    """

    runner: ExecutionRunner
    refusal: ClassVar = "ValidationException"

    @property
    def operations(self) -> dict[str, Operation]:
        """The supported operations by name."""
        return {
            "StartPipelineExecution": self.start_execution,
            "StopPipelineExecution": self.stop_execution,
            "RetryPipelineExecution": self.retry_execution,
            "DescribePipelineExecution": self.describe_execution,
            "DescribePipelineDefinitionForExecution": self.describe_definition,
            "ListPipelineExecutions": self.list_executions,
            "ListPipelineExecutionSteps": self.list_steps,
            "ListPipelineParametersForExecution": self.list_parameters,
        }

    def start_execution(self, request: Request) -> dict[str, Any]:
        """Start an execution; a repeated token returns the same execution."""
        for member in _UNSUPPORTED_MEMBERS:
            if member in request:
                raise unsupported(member)
        token, content = request["ClientRequestToken"], content_of(request)
        with self.store.exclusively():
            pipeline = found_pipeline(self, request["PipelineName"])
            for known in self._executions(pipeline):
                if known["started_by"]["token"] == token:
                    if known["started_by"]["content"] != content:
                        raise reused_token(token)
                    return {"PipelineExecutionArn": known["arn"]}
            record = self._new_execution(pipeline, request)
            record["started_by"] = {"token": token, "content": content}
            self.store.insert(EXECUTION, record["name"], record)
            self.store.update(
                PIPELINE, pipeline["name"], lambda each: each.update(last_run_at=record["created_at"])
            )
        self.runner.tell(record, None)
        self.runner.start(record["name"])
        return {"PipelineExecutionArn": record["arn"]}

    def _new_execution(self, pipeline: Record, request: Request) -> Record:
        number = request.get("PipelineVersionId", pipeline["version"])
        version = self.store.get(VERSION, version_name(pipeline["name"], number))
        if version is None:
            raise ApiError("ResourceNotFound", f"Pipeline {pipeline['arn']} has no version {number}.")
        definition = read_definition(version["definition"])
        try:
            values = values_of(definition.parameters, request.get("PipelineParameters", []))
        except ParameterError as error:
            raise ApiError("ValidationException", f"{error}.") from error
        execution_id, now = new_execution_id(), time.time()
        parallelism = (
            request.get("ParallelismConfiguration") or pipeline.get("ParallelismConfiguration") or {}
        )
        return without_nulls(
            {
                "name": execution_id,
                "arn": f"{pipeline['arn']}/execution/{execution_id}",
                "pipeline": pipeline["name"],
                "pipeline_arn": pipeline["arn"],
                "version": number,
                "role_arn": request.get("RoleArn", pipeline["RoleArn"]),
                "display_name": request.get("PipelineExecutionDisplayName", f"execution-{int(now * 1000)}"),
                "description": request.get("PipelineExecutionDescription"),
                "parallel_steps": parallelism.get("MaxParallelExecutionSteps"),
                "values": values,
                "state": ExecutionState.EXECUTING,
                "steps": {},
                "tokens": [],
                "created_at": now,
                "modified_at": now,
            }
        )

    def stop_execution(self, request: Request) -> dict[str, Any]:
        """Ask an execution to stop: running steps are stopped, and no step begins."""
        return self._changed(request, "stop", {ExecutionState.EXECUTING}, _stop)

    def retry_execution(self, request: Request) -> dict[str, Any]:
        """Continue a failed or stopped execution; steps that succeeded are not repeated."""
        parallelism = request.get("ParallelismConfiguration", {})

        def change(record: Record) -> None:
            kept = StepState.SUCCEEDED
            record["steps"] = {name: step for name, step in record["steps"].items() if step["status"] == kept}
            record["state"] = ExecutionState.EXECUTING
            for member in ("failure", "ended_at"):
                record.pop(member, None)
            if "MaxParallelExecutionSteps" in parallelism:
                record["parallel_steps"] = parallelism["MaxParallelExecutionSteps"]

        return self._changed(request, "retry", _RETRIED, change)

    def _changed(
        self, request: Request, verb: str, states: set[ExecutionState], change: Any
    ) -> dict[str, Any]:
        """Change an execution's state once, even if the request is repeated.

        Raises:
            ApiError: There is no such execution, or it is in another state.
        """
        token = f"{verb} {request['ClientRequestToken']}"
        before: list[str] = []

        def changed(record: Record) -> None:
            if token in record["tokens"]:
                return
            if record["state"] not in states:
                allowed = " or ".join(f"'{state}'" for state in sorted(states))
                raise ApiError(
                    "ValidationException",
                    f"Pipeline execution with ARN {record['arn']} status '{record['state']}'. Only pipelines "
                    f"with {allowed} status can be {'stopped' if verb == 'stop' else 'retried'}.",
                )
            before.append(record["state"])
            record["tokens"].append(token)
            record["modified_at"] = time.time()
            change(record)

        record = self.store.update(EXECUTION, self._execution(request)["name"], changed)
        if before:
            self.runner.tell(record, before[0])
            if record["state"] == ExecutionState.EXECUTING:
                self.runner.start(record["name"])
        return {"PipelineExecutionArn": record["arn"]}

    def describe_execution(self, request: Request) -> dict[str, Any]:
        """Describe an execution."""
        record = self._execution(request)
        parallel_steps = record.get("parallel_steps")
        return without_nulls(
            {
                "PipelineArn": record["pipeline_arn"],
                "PipelineExecutionArn": record["arn"],
                "PipelineExecutionDisplayName": record["display_name"],
                "PipelineExecutionDescription": record.get("description"),
                "PipelineExecutionStatus": record["state"],
                "FailureReason": record.get("failure"),
                "CreationTime": record["created_at"],
                "LastModifiedTime": record["modified_at"],
                "ParallelismConfiguration": (
                    {"MaxParallelExecutionSteps": parallel_steps} if parallel_steps else None
                ),
                "PipelineVersionId": record["version"],
                "RoleArn": record["role_arn"],
            }
        )

    def describe_definition(self, request: Request) -> dict[str, Any]:
        """Return the definition that an execution follows."""
        record = self._execution(request)
        version = self.store.get(VERSION, version_name(record["pipeline"], record["version"]))
        if version is None:
            raise ApiError("ResourceNotFound", f"The definition of {record['arn']} is missing.")
        return {"PipelineDefinition": version["definition"], "CreationTime": version["created_at"]}

    def list_executions(self, request: Request) -> dict[str, Any]:
        """List a pipeline's executions, by default newest first."""
        if "PipelineVersionAlias" in request:
            raise unsupported("PipelineVersionAlias")
        pipeline = found_pipeline(self, request["PipelineName"])
        field = "arn" if request.get("SortBy") == "PipelineExecutionArn" else "created_at"
        descending = request.get("SortOrder", "Descending") == "Descending"
        found = [each for each in self._executions(pipeline) if created_between(each, request)]
        return self.answer_page(
            sorted(found, key=lambda record: record[field], reverse=descending),
            request,
            key="name",
            size=100,
            member="PipelineExecutionSummaries",
            show=_summary,
        )

    def list_steps(self, request: Request) -> dict[str, Any]:
        """List the steps that have begun, by default the last one first."""
        if "PipelineExecutionArn" not in request:
            raise ApiError("ValidationException", "PipelineExecutionArn is required.")
        steps = [{"name": name, **step} for name, step in self._execution(request)["steps"].items()]
        steps.sort(key=lambda step: step["started_at"])
        if request.get("SortOrder", "Descending") == "Descending":
            steps.reverse()
        return self.answer_page(
            steps, request, key="name", size=100, member="PipelineExecutionSteps", show=_step_answer
        )

    def list_parameters(self, request: Request) -> dict[str, Any]:
        """List an execution's parameters as text, including defaults."""
        values = self._execution(request)["values"]
        return self.answer_page(
            [{"name": name, "value": value} for name, value in values.items()],
            request,
            key="name",
            size=100,
            member="PipelineParameters",
            show=lambda each: {"Name": each["name"], "Value": to_text(each["value"])},
        )

    def _executions(self, pipeline: Record) -> list[Record]:
        return [each for each in self.store.all(EXECUTION) if each["pipeline"] == pipeline["name"]]

    def _execution(self, request: Request) -> Record:
        arn = request["PipelineExecutionArn"]
        record = self.store.get(EXECUTION, arn.rsplit("/", 1)[-1])
        if record is None or record["arn"] != arn:
            raise ApiError("ResourceNotFound", f"Pipeline execution '{arn}' does not exist.")
        return record


def _stop(record: Record) -> None:
    record["state"] = ExecutionState.STOPPING


def _summary(record: Record) -> dict[str, Any]:
    return without_nulls(
        {
            "PipelineExecutionArn": record["arn"],
            "StartTime": record["created_at"],
            "PipelineExecutionStatus": record["state"],
            "PipelineExecutionDescription": record.get("description"),
            "PipelineExecutionDisplayName": record["display_name"],
            "PipelineExecutionFailureReason": record.get("failure"),
        }
    )


def _step_answer(step: Record) -> dict[str, Any]:
    return without_nulls(
        {
            "StepName": step["name"],
            "StepDisplayName": step["labels"].get("DisplayName"),
            "StepDescription": step["labels"].get("Description"),
            "StartTime": step["started_at"],
            "EndTime": step.get("ended_at"),
            "StepStatus": step["status"],
            "FailureReason": step.get("failure"),
            "Metadata": step.get("metadata"),
            "AttemptCount": step["attempt"],
        }
    )
