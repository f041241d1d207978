"""SageMaker's operations that end a callback step by its token."""

from __future__ import annotations

from dataclasses import dataclass
from typing import TYPE_CHECKING, Any, ClassVar

from infra.local.job_executor.job_api import RecordApi
from infra.local.job_executor.json_protocol import ApiError
from infra.local.job_executor.sagemaker.pipelines.pipeline_records import (
    EXECUTION,
    StepState,
    without_nulls,
)

if TYPE_CHECKING:
    from infra.local.job_executor.job_api import Operation, Request
    from infra.local.job_executor.sagemaker.pipelines.step_records import StepRecords


@dataclass(frozen=True)
class CallbacksApi(RecordApi):
    """Operations of callback steps.

    Args:
        records: The records of steps.
    """

    records: StepRecords
    refusal: ClassVar = "ValidationException"

    @property
    def operations(self) -> dict[str, Operation]:
        """The supported operations by name."""
        return {
            "SendPipelineExecutionStepSuccess": self.send_success,
            "SendPipelineExecutionStepFailure": self.send_failure,
        }

    def send_success(self, request: Request) -> dict[str, Any]:
        """End a callback step as succeeded, with its outputs."""
        outputs = request.get("OutputParameters", [])
        answer = {"OutputParameters": {each["Name"]: each["Value"] for each in outputs}}
        return self._record_callback(request, StepState.SUCCEEDED, answer=answer)

    def send_failure(self, request: Request) -> dict[str, Any]:
        """End a callback step as failed, with a reason."""
        failure = request.get("FailureReason", "The callback failed.")
        return self._record_callback(request, StepState.FAILED, failure=failure)

    def _record_callback(self, request: Request, status: StepState, **found: Any) -> dict[str, Any]:
        """End a callback step once, even if the same request is repeated.

        Raises:
            ApiError: No step has the token, or the step has already ended.
        """
        token, found["answered"] = request["CallbackToken"], request["ClientRequestToken"]
        for record in self.store.all(EXECUTION):
            for name, step in record["steps"].items():
                if step.get("token") != token:
                    continue
                metadata = {
                    **step["metadata"]["Callback"],
                    "OutputParameters": request.get("OutputParameters"),
                }
                found["metadata"] = {"Callback": without_nulls(metadata)}
                is_new = self.records.end(record["name"], name, status, **found)
                if not is_new and step.get("answered") != found["answered"]:
                    raise ApiError("ValidationException", f"Step {name} is already in a terminal status.")
                return {"PipelineExecutionArn": record["arn"]}
        raise ApiError("ResourceNotFound", f"No callback step has the token {token}.")
