"""Glue's job operations: definitions, runs, their limits and their errors."""

from __future__ import annotations

import math
import time
import uuid
from typing import TYPE_CHECKING, Any, ClassVar

from infra.local.job_executor.call_faults import ENDS_AS
from infra.local.job_executor.glue.glue_job import GlueJobKind, log_group_prefix
from infra.local.job_executor.job_api import JobApi
from infra.local.job_executor.jobs.job_records import Ending, Phase
from infra.local.job_executor.json_protocol import ApiError
from prediction_contract.limits import MAX_GLUE_ARGUMENT_BYTES

if TYPE_CHECKING:
    from infra.local.job_executor.job_api import Operation, Request
    from infra.local.job_executor.jobs.job_store import Record

_JOB = "glue_job"
_RUN = GlueJobKind.record_kind
_ENDINGS = {
    "EXPIRED": Ending.EXPIRY,
    "ERROR": Ending.ERROR,
    "TIMEOUT": Ending.TIMEOUT,
    "STOPPED": Ending.STOP,
}
_LIVE = {"STARTING", "RUNNING", "STOPPING", "WAITING"}
_MAX_TIMEOUT_MINUTES = 10_080
_DEFAULT_TIMEOUT_MINUTES = 480
_OLD_DEFAULT_TIMEOUT_MINUTES = 2_880
_FIRST_SHORT_VERSION = 5
# Members of a definition that also appear in job runs.
_SHOWN_BY_RUNS = ("GlueVersion", "WorkerType", "NumberOfWorkers", "MaxCapacity", "ExecutionClass")
_OVERRIDES = ("WorkerType", "NumberOfWorkers", "MaxCapacity", "ExecutionClass")


def _refusal(message: str) -> ApiError:
    return ApiError("InvalidInputException", message)


class GlueApi(JobApi):
    """Glue's operations."""

    refusal: ClassVar = "InvalidInputException"

    @property
    def operations(self) -> dict[str, Operation]:
        """The supported operations by name."""
        return {
            "CreateJob": self.create_job,
            "UpdateJob": self.update_job,
            "GetJob": self.get_job,
            "GetJobs": self.get_jobs,
            "DeleteJob": self.delete_job,
            "StartJobRun": self.start_job_run,
            "GetJobRun": self.get_job_run,
            "GetJobRuns": self.get_job_runs,
            "BatchStopJobRun": self.batch_stop_job_run,
        }

    def create_job(self, request: Request) -> dict[str, Any]:
        """Define a job."""
        self._check_definition(request)
        now = time.time()
        definition = {key: value for key, value in request.items() if key != "Tags"}
        if not self.store.insert(
            _JOB, request["Name"], definition | {"CreatedOn": now, "LastModifiedOn": now}
        ):
            raise ApiError("AlreadyExistsException", f"Job with name: {request['Name']} already exists.")
        return {"Name": request["Name"]}

    def update_job(self, request: Request) -> dict[str, Any]:
        """Replace the whole definition, as Glue does."""
        name, update = request["JobName"], request["JobUpdate"]
        created = self._definition(name)["CreatedOn"]
        for needed in ("Role", "Command"):
            if needed not in update:
                raise _refusal(f"JobUpdate must have {needed}: an update replaces the whole definition.")
        self._check_definition(update)

        def change(record: Record) -> None:
            record.clear()
            record.update(update, Name=name, CreatedOn=created, LastModifiedOn=time.time())

        self.store.update(_JOB, name, change)
        return {"JobName": name}

    def get_job(self, request: Request) -> dict[str, Any]:
        """Return a definition."""
        return {"Job": _job_answer(self._definition(request["JobName"]))}

    def get_jobs(self, request: Request) -> dict[str, Any]:
        """Return all definitions, page by page."""
        return self.answer_page(
            self.store.all(_JOB), request, key="Name", size=1000, member="Jobs", show=_job_answer
        )

    def delete_job(self, request: Request) -> dict[str, Any]:
        """Delete a definition; as on Glue, a missing one is not an error."""
        self.store.delete(_JOB, request["JobName"])
        return {"JobName": request["JobName"]}

    def start_job_run(self, request: Request) -> dict[str, Any]:
        """Start a run, or another attempt of the ended run that `JobRunId` names."""
        job = self.store.get(_JOB, request["JobName"])
        if job is None:
            raise ApiError("EntityNotFoundException", "Failed to start job run due to missing metadata")
        previous = self._run(job["Name"], request["JobRunId"]) if "JobRunId" in request else None
        if previous is not None and previous["state"] in _LIVE:
            raise _refusal(f"Job run {previous['id']} has not ended: it cannot be retried.")
        self._check_arguments(request.get("Arguments", {}))
        role_arn = self._usable_role(job["Role"])
        record = self._new_run(job, request, previous, role_arn)
        with self.store.exclusively():
            limit = job.get("ExecutionProperty", {}).get("MaxConcurrentRuns", 1)
            if sum(run["state"] in _LIVE for run in self._runs(job["Name"])) >= limit:
                raise ApiError(
                    "ConcurrentRunsExceededException", f"Concurrent runs exceeded for {job['Name']}"
                )
            if not self.store.insert(_RUN, record["id"], record):
                raise _refusal(f"Job run {record['previous_id']} was already retried.")
        self.start(_RUN, record["id"])
        return {"JobRunId": record["id"]}

    def get_job_run(self, request: Request) -> dict[str, Any]:
        """Return one run."""
        self._definition(request["JobName"])
        return {"JobRun": _run_answer(self._run(request["JobName"], request["RunId"]))}

    def get_job_runs(self, request: Request) -> dict[str, Any]:
        """Return a job's runs, newest first, page by page."""
        self._definition(request["JobName"])
        newest_first = self._runs(request["JobName"])[::-1]
        return self.answer_page(newest_first, request, key="id", size=200, member="JobRuns", show=_run_answer)

    def batch_stop_job_run(self, request: Request) -> dict[str, Any]:
        """Ask runs to stop; runs that cannot be stopped are listed in the answer."""
        submitted, errors = [], []
        for run_id in request["JobRunIds"]:
            named = {"JobName": request["JobName"], "JobRunId": run_id}
            try:
                self._run(request["JobName"], run_id)
                self.store.update(_RUN, run_id, _stop)
                submitted.append(named)
            except ApiError as error:
                errors.append(
                    named | {"ErrorDetail": {"ErrorCode": error.code, "ErrorMessage": error.message}}
                )
        return {"SuccessfulSubmissions": submitted, "Errors": errors}

    def _check_definition(self, definition: Request) -> None:
        command = definition["Command"]
        if not command.get("ScriptLocation", "").startswith("s3://"):
            raise _refusal("Command.ScriptLocation must be an s3:// address.")
        if command.get("Name") not in {"glueetl", "pythonshell"}:
            raise _refusal("Command.Name must be glueetl or pythonshell here.")
        if definition.get("MaxRetries", 0) > 0:
            raise _refusal("MaxRetries above 0 is not supported here: let Dagster retry.")
        if "MaxCapacity" in definition and ("WorkerType" in definition or "NumberOfWorkers" in definition):
            raise _refusal("Please set only Max Capacity or Worker Type and Number of Workers")
        if definition.get("Timeout", 1) > _MAX_TIMEOUT_MINUTES:
            raise _refusal(f"Timeout must be at most {_MAX_TIMEOUT_MINUTES} minutes.")
        for arguments in ("DefaultArguments", "NonOverridableArguments"):
            self._check_arguments(definition.get(arguments, {}))
        self._usable_role(definition["Role"])

    def _check_arguments(self, arguments: dict[str, str]) -> None:
        for key in arguments:
            if not key.startswith("--"):
                raise _refusal(f"Job argument {key} must begin with --.")
        size = sum(len(name.encode()) + len(value.encode()) for name, value in arguments.items())
        if size > MAX_GLUE_ARGUMENT_BYTES:
            raise _refusal(f"Job arguments have {size} bytes; at most {MAX_GLUE_ARGUMENT_BYTES} are allowed.")

    def _usable_role(self, role: str) -> str:
        arn = self.access.role_arn(role)
        message = "Service is unable to assume provided role. Please verify role's TrustPolicy"
        self.require_role(arn, GlueJobKind.principal, message)
        return arn

    def _new_run(self, job: Record, request: Request, previous: Record | None, role_arn: str) -> Record:
        timeout = request.get("Timeout") or job.get("Timeout") or _default_timeout(job)
        if timeout > _MAX_TIMEOUT_MINUTES:
            raise _refusal(f"Timeout must be at most {_MAX_TIMEOUT_MINUTES} minutes.")
        attempt = previous["attempt"] + 1 if previous else 0
        first_id = (
            previous["id"].split("_attempt_")[0] if previous else f"jr_{uuid.uuid4().hex}{uuid.uuid4().hex}"
        )
        run_id = f"{first_id}_attempt_{attempt}" if previous else first_id
        now = time.time()
        fate = request.get(ENDS_AS)
        return {
            "id": run_id,
            "name": run_id,
            "job_name": job["Name"],
            "attempt": attempt,
            "previous_id": previous["id"] if previous else None,
            "role_arn": role_arn,
            "script": job["Command"]["ScriptLocation"],
            "arguments": request.get("Arguments", previous["arguments"] if previous else {}),
            "default_arguments": job.get("DefaultArguments", {}),
            "fixed_arguments": job.get("NonOverridableArguments", {}),
            "shown": {key: job[key] for key in _SHOWN_BY_RUNS if key in job}
            | {key: request[key] for key in _OVERRIDES if key in request},
            "timeout_minutes": timeout,
            "limit_seconds": timeout * self.settings.seconds_per_minute,
            "host_count": 1,
            # A job run expires only while it waits in a queue.
            "state": "WAITING" if fate == "EXPIRED" else "STARTING",
            "phase": Phase.PREPARING,
            "ending": None if fate is None else _ENDINGS[fate],
            "created_at": now,
            "modified_at": now,
        }

    def _definition(self, name: str) -> Record:
        record = self.store.get(_JOB, name)
        if record is None:
            raise ApiError("EntityNotFoundException", f"Job with name: {name} not found.")
        return record

    def _runs(self, job_name: str) -> list[Record]:
        return [run for run in self.store.all(_RUN) if run["job_name"] == job_name]

    def _run(self, job_name: str, run_id: str) -> Record:
        run = self.store.get(_RUN, run_id)
        if run is None or run["job_name"] != job_name:
            raise ApiError("EntityNotFoundException", f"Job run {run_id} of job {job_name} not found.")
        return run


def _stop(record: Record) -> None:
    if record["state"] not in {"STARTING", "RUNNING"}:
        raise _refusal(
            f"Job run {record['id']} is in state {record['state']} and cannot be stopped.",
        )
    record.update(state="STOPPING", ending=record["ending"] or Ending.STOP, modified_at=time.time())


def _default_timeout(job: Record) -> int:
    major = str(job.get("GlueVersion", "0")).split(".")[0]
    recent = major.isdigit() and int(major) >= _FIRST_SHORT_VERSION
    return _DEFAULT_TIMEOUT_MINUTES if recent else _OLD_DEFAULT_TIMEOUT_MINUTES


def _job_answer(job: Record) -> dict[str, Any]:
    defaults = {
        "ExecutionProperty": {"MaxConcurrentRuns": 1},
        "MaxRetries": 0,
        "Timeout": _default_timeout(job),
    }
    return defaults | job


def _run_answer(run: Record) -> dict[str, Any]:
    began = run.get("running_at")
    ended = run.get("script_ended_at") or run.get("completed_at") or time.time()
    shown = {
        "Id": run["id"],
        "Attempt": run["attempt"],
        "JobName": run["job_name"],
        "StartedOn": run["created_at"],
        "LastModifiedOn": run["modified_at"],
        "JobRunState": run["state"],
        "Arguments": run["arguments"],
        "PredecessorRuns": [],
        "ExecutionTime": math.ceil(ended - began) if began else 0,
        "Timeout": run["timeout_minutes"],
        "LogGroupName": log_group_prefix(run),
        **run["shown"],
    }
    optional = {
        "CompletedOn": run.get("completed_at"),
        "ErrorMessage": run.get("failure"),
        "PreviousRunId": run["previous_id"],
    }
    return shown | {key: value for key, value in optional.items() if value is not None}
