"""The records of an execution's steps, and the events about their changes."""

from __future__ import annotations

import time
from dataclasses import dataclass
from typing import TYPE_CHECKING, Any

from infra.local.job_executor.sagemaker.event_bus import STEP_CHANGE, event_time
from infra.local.job_executor.sagemaker.pipelines.pipeline_records import (
    EXECUTION,
    OPEN,
    StepState,
    event_members,
    new_callback_token,
    new_job_name,
    without_nulls,
)

if TYPE_CHECKING:
    from infra.local.job_executor.jobs.job_store import Record, RecordStore
    from infra.local.job_executor.sagemaker.event_bus import EventBus
    from infra.local.job_executor.sagemaker.pipelines.definition import Step

# The kind of job record for each step type that starts a job.
JOB_KINDS = {"Processing": "processing_job", "Training": "training_job"}
_REASON_CHARACTERS = 1024


@dataclass(frozen=True)
class StepRecords:
    """The steps in the execution records.

    Args:
        store: The durable records.
        events: Receives an event for every change.
    """

    store: RecordStore
    events: EventBus

    def begin(self, execution: Record, step: Step) -> None:
        """Record that a step begins."""
        begun = {
            "kind": step.kind,
            "labels": step.labels,
            "status": StepState.STARTING,
            "attempt": 1,
            "started_at": time.time(),
            **attempt_names(execution, step),
        }
        self.change(execution["name"], step.name, begun)

    def end(self, execution_id: str, step: str, status: StepState, **found: Any) -> bool:
        """End a step that has not ended; return False if it had already ended.

        Args:
            execution_id: The execution's id.
            step: The step's name.
            status: The step's final state.
            found: Further members of the step's record; None values are left out.
        """
        changes = {"status": status, "ended_at": time.time(), **without_nulls(found)}
        if "failure" in changes:
            changes["failure"] = changes["failure"][:_REASON_CHARACTERS]
        return self.change(execution_id, step, changes)

    def change(self, execution_id: str, step: str, changes: dict[str, Any]) -> bool:
        """Record changes of a step that has not ended, and send an event if its status changes."""
        before: list[str | None] = []

        def change(record: Record) -> None:
            state = record["steps"].setdefault(step, {})
            if state.get("status", StepState.STARTING) in OPEN:
                before.append(state.get("status"))
                state.update(changes)
                record["modified_at"] = time.time()

        record = self.store.update(EXECUTION, execution_id, change)
        state = record["steps"][step]
        if before and state["status"] != before[0]:
            self._tell(record, step, state, before[0])
        return bool(before)

    def _tell(self, execution: Record, step: str, state: Record, before: str | None) -> None:
        detail = {
            "metadata": event_members(state.get("metadata", {})),
            "stepStartTime": event_time(state["started_at"]),
            "stepEndTime": event_time(state["ended_at"]) if "ended_at" in state else None,
            "stepName": step,
            "stepType": state["kind"],
            "previousStepStatus": before,
            "currentStepStatus": state["status"],
            "failureReason": state.get("failure"),
            "pipelineArn": execution["pipeline_arn"],
            "pipelineExecutionArn": execution["arn"],
        }
        resources = [execution["pipeline_arn"], execution["arn"]]
        self.events.send(STEP_CHANGE, resources, without_nulls(detail))


def attempt_names(execution: Record, step: Step) -> dict[str, str]:
    """Return what identifies one attempt of a step: `job` for a job, `token` for a callback."""
    if step.kind in JOB_KINDS:
        return {"job": new_job_name(execution["name"], step.name)}
    return {"token": new_callback_token()} if step.kind == "Callback" else {}
