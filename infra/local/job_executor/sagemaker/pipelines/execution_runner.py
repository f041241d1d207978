"""Runs every execution to its end, one thread per execution. A restart can continue from any step."""

from __future__ import annotations

import logging
import threading
import time
from typing import TYPE_CHECKING

from infra.local.job_executor.sagemaker.event_bus import EXECUTION_CHANGE, event_time
from infra.local.job_executor.sagemaker.pipelines.definition import read_definition
from infra.local.job_executor.sagemaker.pipelines.pipeline_records import (
    EXECUTION,
    LIVE,
    OPEN,
    VERSION,
    ExecutionState,
    StepState,
    version_name,
    without_nulls,
)
from infra.local.job_executor.sagemaker.pipelines.step_records import StepRecords
from infra.local.job_executor.sagemaker.pipelines.step_runner import SHUTDOWN_MESSAGE, StepRunner

if TYPE_CHECKING:
    from infra.local.job_executor.executor_settings import ExecutorSettings
    from infra.local.job_executor.jobs.job_store import Record, RecordStore
    from infra.local.job_executor.sagemaker.event_bus import EventBus
    from infra.local.job_executor.sagemaker.pipelines.definition import Definition, Step
    from infra.local.job_executor.sagemaker.pipelines.role_calls import RoleCalls

_LOG = logging.getLogger(__name__)
_POLL_SECONDS = 0.25
_DEFAULT_PARALLEL_STEPS = 50
_STEPS_FAILED = "Step failure: One or multiple steps failed."


class ExecutionRunner:
    """Runs executions, and continues those of a killed executor.

    Args:
        settings: The executor's settings, for the length of a minute.
        store: The durable records.
        calls: Makes calls under a pipeline's role.
        events: Receives an event for every change.
    """

    def __init__(
        self, settings: ExecutorSettings, store: RecordStore, calls: RoleCalls, events: EventBus
    ) -> None:
        self._store = store
        self._events = events
        self._records = StepRecords(store, events)
        self._steps = StepRunner(store, calls, self._records, settings.seconds_per_minute)
        self._shutdown = threading.Event()
        self._threads: list[threading.Thread] = []

    def start(self, execution_id: str) -> None:
        """Start or continue a recorded execution."""
        thread = threading.Thread(target=self._run, args=(execution_id,), name=execution_id, daemon=True)
        self._threads = [*(old for old in self._threads if old.is_alive()), thread]
        thread.start()

    def resume(self) -> int:
        """Continue every execution that has not ended, and return their number."""
        live = [record["name"] for record in self._store.all(EXECUTION) if record["state"] in LIVE]
        for execution_id in live:
            self.start(execution_id)
        return len(live)

    def stop_starting(self) -> None:
        """Start no more steps. Call this before ending the jobs."""
        self._shutdown.set()

    def shut_down(self, deadline_seconds: float) -> bool:
        """Wait until every execution is recorded as failed; return False if a thread did not end in time."""
        self._shutdown.set()
        deadline = time.monotonic() + deadline_seconds
        for thread in self._threads:
            thread.join(timeout=max(0.0, deadline - time.monotonic()))
        return not any(thread.is_alive() for thread in self._threads)

    def tell(self, execution: Record, before: str | None) -> None:
        """Send the event that an execution's status has changed; `before` is the earlier status."""
        detail = {
            "pipelineExecutionDisplayName": execution["display_name"],
            "currentPipelineExecutionStatus": execution["state"],
            "previousPipelineExecutionStatus": before,
            "executionStartTime": event_time(execution["created_at"]),
            "executionEndTime": event_time(execution["ended_at"]) if "ended_at" in execution else None,
            "pipelineExecutionDescription": execution.get("description"),
            "pipelineArn": execution["pipeline_arn"],
            "pipelineExecutionArn": execution["arn"],
        }
        resources = [execution["pipeline_arn"], execution["arn"]]
        self._events.send(EXECUTION_CHANGE, resources, without_nulls(detail))

    def _run(self, execution_id: str) -> None:
        try:
            self._drive(execution_id)
        except Exception as error:  # noqa: BLE001 - a boundary, see below
            # The boundary of a thread: after any error the client must see the execution end.
            _LOG.exception("the executor failed on execution %s", execution_id)
            failure = f"InternalServerError: job executor: {error!r}"
            for name, state in self._record(execution_id)["steps"].items():
                if state["status"] in OPEN:
                    self._records.end(execution_id, name, StepState.FAILED, failure=failure)
            self._end(execution_id, failure=failure)

    def _drive(self, execution_id: str) -> None:
        record = self._record(execution_id)
        version = self._store.get(VERSION, version_name(record["pipeline"], record["version"]))
        if version is None:
            raise LookupError(f"the definition of {execution_id} is missing")
        definition = read_definition(version["definition"])
        while record["state"] in LIVE:
            if self._advance(execution_id, definition):
                return
            if self._shutdown.is_set():
                # The event stays set, so waiting for it would not pause.
                time.sleep(_POLL_SECONDS)
            else:
                self._shutdown.wait(_POLL_SECONDS)
            record = self._record(execution_id)

    def _advance(self, execution_id: str, definition: Definition) -> bool:
        """Advance open steps and begin due ones. End the execution and return True if none is left."""
        for step in definition.steps.values():
            record = self._record(execution_id)
            state = record["steps"].get(step.name)
            if not self._shutdown.is_set() and self._is_due(record, step):
                self._records.begin(record, step)
                record = self._record(execution_id)
                state = record["steps"][step.name]
            if state is not None and state["status"] in OPEN:
                self._steps.look(record, definition, step, may_start=not self._shutdown.is_set())
        record = self._record(execution_id)
        if any(state["status"] in OPEN for state in record["steps"].values()):
            return False
        left = any(self._is_due(record, step) for step in definition.steps.values())
        if left and not self._shutdown.is_set():
            return False
        self._end(execution_id, failure=SHUTDOWN_MESSAGE if left else None)
        return True

    def _is_due(self, record: Record, step: Step) -> bool:
        """Return whether a step that has not begun may begin."""
        states = record["steps"]
        if step.name in states or record["state"] != ExecutionState.EXECUTING:
            return False
        if any(state["status"] in {StepState.FAILED, StepState.STOPPED} for state in states.values()):
            return False
        if any(states.get(name, {}).get("status") != StepState.SUCCEEDED for name in step.after):
            return False
        if step.branch is not None and states[step.branch[0]]["outcome"] != step.branch[1]:
            return False
        going_on = sum(state["status"] in OPEN for state in states.values())
        return going_on < record.get("parallel_steps", _DEFAULT_PARALLEL_STEPS)

    def _end(self, execution_id: str, failure: str | None = None) -> None:
        before: list[str] = []

        def change(record: Record) -> None:
            before.append(record["state"])
            statuses = {state["status"] for state in record["steps"].values()}
            is_failed = bool(statuses & {StepState.FAILED, StepState.STOPPED})
            reason = failure or (_STEPS_FAILED if is_failed else None)
            now = time.time()
            record.update(modified_at=now, ended_at=now)
            if record["state"] == ExecutionState.STOPPING:
                record["state"] = ExecutionState.STOPPED
            elif reason is not None:
                record.update(state=ExecutionState.FAILED, failure=reason)
            else:
                record["state"] = ExecutionState.SUCCEEDED

        record = self._store.update(EXECUTION, execution_id, change)
        self.tell(record, before[0])

    def _record(self, execution_id: str) -> Record:
        record = self._store.get(EXECUTION, execution_id)
        if record is None:
            raise LookupError(f"the record of execution {execution_id} is missing")
        return record
