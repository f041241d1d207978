"""The states, names and ARNs in records of pipelines and executions."""

from __future__ import annotations

import datetime as dt
import secrets
import string
from enum import StrEnum
from typing import TYPE_CHECKING, Any

from infra.local.job_executor.executor_settings import ACCOUNT_ID

if TYPE_CHECKING:
    from infra.local.job_executor.jobs.job_store import Record

PIPELINE, VERSION, EXECUTION = "pipeline", "pipeline_version", "pipeline_execution"
_ALPHABET = string.ascii_lowercase + string.digits
_ID_CHARACTERS, _SUFFIX_CHARACTERS, _JOB_NAME_CHARACTERS = 12, 10, 63


class ExecutionState(StrEnum):
    """SageMaker's states of an execution."""

    EXECUTING = "Executing"
    STOPPING = "Stopping"
    STOPPED = "Stopped"
    FAILED = "Failed"
    SUCCEEDED = "Succeeded"


class StepState(StrEnum):
    """SageMaker's states of a step."""

    STARTING = "Starting"
    EXECUTING = "Executing"
    STOPPING = "Stopping"
    STOPPED = "Stopped"
    FAILED = "Failed"
    SUCCEEDED = "Succeeded"


LIVE = {ExecutionState.EXECUTING, ExecutionState.STOPPING}
OPEN = {StepState.STARTING, StepState.EXECUTING, StepState.STOPPING}


def pipeline_arn(region: str, name: str) -> str:
    """Return a pipeline's ARN."""
    return f"arn:aws:sagemaker:{region}:{ACCOUNT_ID}:pipeline/{name}"


def version_name(pipeline: str, number: int) -> str:
    """Return the name of a definition's record."""
    return f"{pipeline}/{number}"


def new_execution_id() -> str:
    """Return an id of 12 letters and digits."""
    return _random(_ID_CHARACTERS)


def new_callback_token() -> str:
    """Return a token of 10 letters and digits."""
    return _random(_SUFFIX_CHARACTERS)


def new_job_name(execution_id: str, step: str) -> str:
    """Return a job name for one attempt of a step; long step names are cut."""
    suffix = _random(_SUFFIX_CHARACTERS)
    left = _JOB_NAME_CHARACTERS - len(f"pipelines-{execution_id}--{suffix}")
    plain = step.replace("_", "-").strip("-")[:left].strip("-")
    return "-".join(filter(None, ("pipelines", execution_id, plain, suffix)))


def _random(characters: int) -> str:
    return "".join(secrets.choice(_ALPHABET) for _ in range(characters))


def execution_variables(execution: Record, now: float) -> dict[str, str]:
    """Return the values of `Execution.<name>` in an execution, by name."""
    return {
        "PipelineExecutionId": execution["name"],
        "PipelineExecutionArn": execution["arn"],
        "PipelineName": execution["pipeline"],
        "PipelineArn": execution["pipeline_arn"],
        "StartDateTime": _utc_text(execution["created_at"]),
        "CurrentDateTime": _utc_text(now),
    }


def _utc_text(seconds: float) -> str:
    """Return a time in the format of variables."""
    moment = dt.datetime.fromtimestamp(seconds, tz=dt.UTC)
    return moment.isoformat(timespec="milliseconds").replace("+00:00", "Z")


def without_nulls(document: dict[str, Any]) -> dict[str, Any]:
    """Return the members that are not None."""
    return {name: value for name, value in document.items() if value is not None}


def event_members(document: Any) -> Any:
    """Return a document of the API with the member names of events, which begin with a small letter."""
    if isinstance(document, dict):
        return {name[:1].lower() + name[1:]: event_members(value) for name, value in document.items()}
    return [event_members(item) for item in document] if isinstance(document, list) else document
