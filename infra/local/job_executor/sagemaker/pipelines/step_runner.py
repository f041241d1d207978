"""Runs one step to its end; each change is on disk before the next call.

A step's call is recorded with a unique job name before it is made. After a kill, the next executor repeats
the call, and accepts the answer that the job already exists.
"""

from __future__ import annotations

import hashlib
import logging
import time
from dataclasses import dataclass
from typing import TYPE_CHECKING, Any

from infra.local.job_executor.jobs.job_records import JobExecutionError
from infra.local.job_executor.json_protocol import ApiError
from infra.local.job_executor.sagemaker.pipelines.conditions import ConditionError, holds
from infra.local.job_executor.sagemaker.pipelines.definition import CREATED_BY
from infra.local.job_executor.sagemaker.pipelines.parameters import to_text
from infra.local.job_executor.sagemaker.pipelines.pipeline_records import (
    ExecutionState,
    StepState,
    execution_variables,
)
from infra.local.job_executor.sagemaker.pipelines.references import BadReferenceError
from infra.local.job_executor.sagemaker.pipelines.retry_policies import (
    CAPACITY_ERROR,
    DEFAULT_POLICY,
    INTERNAL_ERROR,
    RESOURCE_LIMIT,
    SERVICE_FAULT,
    THROTTLING,
)
from infra.local.job_executor.sagemaker.pipelines.step_records import JOB_KINDS, attempt_names
from infra.local.job_executor.sagemaker.pipelines.values import Values

if TYPE_CHECKING:
    from infra.local.job_executor.jobs.job_store import Record, RecordStore
    from infra.local.job_executor.sagemaker.pipelines.definition import Definition, Step
    from infra.local.job_executor.sagemaker.pipelines.role_calls import RoleCalls
    from infra.local.job_executor.sagemaker.pipelines.step_records import StepRecords

_LOG = logging.getLogger(__name__)
_METADATA = {"Processing": "ProcessingJob", "Training": "TrainingJob", "RegisterModel": "RegisterModel"}
_ENDED = {"Completed": StepState.SUCCEEDED, "Failed": StepState.FAILED, "Stopped": StepState.STOPPED}
_MESSAGE_CHARACTERS = 3072
_TOKEN_CHARACTERS = 36
_INTERNAL_STATUS = 500


SHUTDOWN_MESSAGE = (
    "The execution was stopped because the local job executor was shut down. Retry the execution."
)


class StepFailedError(Exception):
    """A step cannot continue.

    Args:
        reason: The step's failure reason.
        kind: The failure's name in retry policies, or None if it is never retried.
        in_place: Whether a retry continues the same attempt, because only a call about it failed.
    """

    def __init__(self, reason: str, kind: str | None = None, *, in_place: bool = False) -> None:
        self.reason = reason
        self.kind = kind
        self.in_place = in_place
        super().__init__(reason)


@dataclass(frozen=True)
class StepRunner:
    """Advances steps that have begun, and ends them.

    Args:
        store: The durable records, including those of jobs.
        calls: Makes calls under the pipeline's role.
        records: The records of steps.
        seconds_per_minute: The length of a minute of `ExpireAfterMin`.
    """

    store: RecordStore
    calls: RoleCalls
    records: StepRecords
    seconds_per_minute: float

    def look(self, execution: Record, definition: Definition, step: Step, *, may_start: bool) -> None:
        """Advance a step as far as possible without waiting.

        Args:
            execution: The execution's record.
            definition: The pipeline's definition.
            step: A step that has begun and not ended.
            may_start: False while the executor shuts down. Steps without a job then fail.
        """
        state = execution["steps"][step.name]
        stopping = execution["state"] == ExecutionState.STOPPING
        if not may_start and not self._job_exists(step, state):
            self.records.end(execution["name"], step.name, StepState.FAILED, failure=SHUTDOWN_MESSAGE)
            return
        try:
            if stopping and state["status"] == StepState.STARTING and not self._job_exists(step, state):
                self.records.end(execution["name"], step.name, StepState.STOPPED)
            elif state.get("retry_at", 0) > time.time():
                return
            elif state["status"] == StepState.STARTING:
                self._start(execution, definition, step, state)
            elif step.kind in JOB_KINDS:
                self._look_at_job(execution, step, state, stopping=stopping)
            elif stopping and state["status"] == StepState.EXECUTING:
                # It still waits for its token.
                self._stop_callback(execution, step, state)
        except StepFailedError as failure:
            self._fail(execution, step, state, failure)
        except ApiError as error:
            # The role could not be assumed.
            reason = f"ClientError: {error.message}"
            self._fail(execution, step, state, StepFailedError(reason, _kind_of_error(error), in_place=True))
        except (BadReferenceError, ConditionError, JobExecutionError) as error:
            text = str(error)
            reason = text if text.startswith("ClientError") else f"ClientError: {text}"
            self._fail(execution, step, state, StepFailedError(reason))

    def _start(self, execution: Record, definition: Definition, step: Step, state: Record) -> None:
        values = Values(
            steps=definition.steps,
            parameters=execution["values"],
            variables=execution_variables(execution, time.time()),
            answers={name: each["answer"] for name, each in execution["steps"].items() if "answer" in each},
            read=lambda uri: self.calls.read(execution["role_arn"], uri),
        )
        if step.kind in JOB_KINDS:
            self._create_job(execution, step, state, values)
        elif step.kind == "RegisterModel":
            self._register(execution, step, values)
        elif step.kind == "Condition":
            self._decide(execution, step, values)
        elif step.kind == "Fail":
            message = to_text(values.filled(step.arguments["ErrorMessage"]))
            metadata = {"Fail": {"ErrorMessage": message[:_MESSAGE_CHARACTERS]}}
            self.records.end(
                execution["name"], step.name, StepState.FAILED, failure=message, metadata=metadata
            )
        else:
            self._call_back(execution, step, state, values)

    def _decide(self, execution: Record, step: Step, values: Values) -> None:
        # Evaluate all, so that a wrong one is always found.
        held = [holds(each, values.filled) for each in step.arguments["Conditions"]]
        metadata = {"Condition": {"Outcome": str(all(held))}}
        self.records.end(
            execution["name"], step.name, StepState.SUCCEEDED, outcome=all(held), metadata=metadata
        )

    def _create_job(self, execution: Record, step: Step, state: Record, values: Values) -> None:
        operation, member = CREATED_BY[step.kind]
        request = {**values.filled(step.arguments), member: state["job"]}
        try:
            self._called(execution, operation, request)
        except StepFailedError:
            # The answer to an earlier call was lost, or the executor was killed right after the call.
            if not self._job_exists(step, state):
                raise
        job = self._job(step, state)
        metadata = {_METADATA[step.kind]: {"Arn": job["arn"]}}
        self.records.change(
            execution["name"], step.name, {"status": StepState.EXECUTING, "metadata": metadata}
        )

    def _look_at_job(self, execution: Record, step: Step, state: Record, *, stopping: bool) -> None:
        job = self._job(step, state)
        ended = _ENDED.get(job["state"])
        request = {CREATED_BY[step.kind][1]: state["job"]}
        if ended is None:
            if stopping and state["status"] == StepState.EXECUTING:
                if job["state"] == "InProgress":
                    self._called(execution, f"Stop{step.kind}Job", request, in_place=True)
                self.records.change(execution["name"], step.name, {"status": StepState.STOPPING})
            return
        if ended is StepState.FAILED:
            reason = str(job.get("failure") or "The job failed.")
            raise StepFailedError(f"ClientError: {reason}", _kind_of(reason))
        answer = None
        if ended is StepState.SUCCEEDED:
            answer = self._called(execution, f"Describe{step.kind}Job", request, in_place=True)
        failure = "The job was stopped." if ended is StepState.STOPPED and not stopping else None
        self.records.end(execution["name"], step.name, ended, answer=answer, failure=failure)

    def _register(self, execution: Record, step: Step, values: Values) -> None:
        request = values.filled(step.arguments)
        # The same for every call of this step, so that a repeated call does not register twice.
        token = hashlib.sha256(f"{execution['arn']} {step.name}".encode()).hexdigest()[:_TOKEN_CHARACTERS]
        generated = {"GeneratedBy": execution["arn"]} | request.get("MetadataProperties", {})
        request |= {"MetadataProperties": generated, "ClientToken": token}
        arn = self._called(execution, "CreateModelPackage", request)["ModelPackageArn"]
        answer = self._called(execution, "DescribeModelPackage", {"ModelPackageName": arn})
        metadata = {"RegisterModel": {"Arn": arn}}
        self.records.end(execution["name"], step.name, StepState.SUCCEEDED, answer=answer, metadata=metadata)

    def _call_back(self, execution: Record, step: Step, state: Record, values: Values) -> None:
        queue_url = str(values.filled(step.queue_url))
        message = {
            "token": state["token"],
            "pipelineExecutionArn": execution["arn"],
            "arguments": values.filled(step.arguments),
        }
        metadata = {"Callback": {"CallbackToken": state["token"], "SqsQueueUrl": queue_url}}
        # Before the message is sent, because its receiver may answer at once.
        self.records.change(execution["name"], step.name, {"metadata": metadata, "message": message})
        self.calls.send(execution["role_arn"], queue_url, message)
        self.records.change(execution["name"], step.name, {"status": StepState.EXECUTING})

    def _stop_callback(self, execution: Record, step: Step, state: Record) -> None:
        queue_url = state["metadata"]["Callback"]["SqsQueueUrl"]
        self.calls.send(execution["role_arn"], queue_url, {**state["message"], "Status": "Stopping"})
        self.records.change(execution["name"], step.name, {"status": StepState.STOPPING})

    def _called(
        self, execution: Record, operation: str, request: dict[str, Any], *, in_place: bool = False
    ) -> dict[str, Any]:
        """Call an operation under the pipeline's role.

        Raises:
            StepFailedError: The answer is an error.
        """
        try:
            return self.calls.call(execution["role_arn"], operation, request)
        except ApiError as error:
            reason = (
                f"ClientError: Failed to invoke sagemaker:{operation}. Error Details: {error.message} "
                f"({error.code})"
            )
            raise StepFailedError(reason, _kind_of_error(error), in_place=in_place) from error

    def _fail(self, execution: Record, step: Step, state: Record, failure: StepFailedError) -> None:
        """End a failed step, or let it begin again according to its retry policies."""
        policies = [DEFAULT_POLICY] if failure.in_place else [*step.retries, DEFAULT_POLICY]
        fitting = [(number, policy) for number, policy in enumerate(policies) if failure.kind in policy.kinds]
        pause = None
        counts = dict(state.get("repetitions", {}))
        if fitting and (failure.in_place or execution["state"] == ExecutionState.EXECUTING):
            number, policy = fitting[0]
            counted = f"{failure.in_place} {number}"
            age = (time.time() - state["started_at"]) / self.seconds_per_minute
            pause = policy.pause(counts.get(counted, 0), age)
            counts[counted] = counts.get(counted, 0) + 1
        if pause is None:
            self.records.end(execution["name"], step.name, StepState.FAILED, failure=failure.reason)
            return
        _LOG.info("retrying step %s of %s in %.1f s: %s", step.name, execution["name"], pause, failure.reason)
        again: dict[str, Any] = {"retry_at": time.time() + pause, "repetitions": counts}
        if not failure.in_place and self._job_exists(step, state):
            # An existing job keeps its name, so the next attempt needs another.
            again |= {
                "attempt": state["attempt"] + 1,
                "status": StepState.STARTING,
                **attempt_names(execution, step),
            }
        self.records.change(execution["name"], step.name, again)

    def _job_exists(self, step: Step, state: Record) -> bool:
        return step.kind in JOB_KINDS and self.store.get(JOB_KINDS[step.kind], state["job"]) is not None

    def _job(self, step: Step, state: Record) -> Record:
        job = self.store.get(JOB_KINDS[step.kind], state["job"])
        if job is None:
            raise StepFailedError(f"InternalServerError: the record of job {state['job']} is missing.")
        return job


def _kind_of(reason: str) -> str | None:
    """Return a job failure's name in retry policies; None for the script's faults, which are not retried."""
    words = {"InternalServerError": INTERNAL_ERROR, "CapacityError": CAPACITY_ERROR}
    return words.get(reason.partition(":")[0])


def _kind_of_error(error: ApiError) -> str | None:
    if error.code == "ThrottlingException":
        return THROTTLING
    if error.code == "ResourceLimitExceeded":
        return RESOURCE_LIMIT
    return SERVICE_FAULT if error.status >= _INTERNAL_STATUS else None
