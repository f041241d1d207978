"""`mlpipe retrain`: shows the plan, asks, and starts an execution of the model's pipeline."""

from __future__ import annotations

import argparse
import getpass
import re
import sys
import time
from itertools import islice
from typing import TYPE_CHECKING, Any

from mlpipe_dagster.cli.command_output import CommandResult, Fields
from mlpipe_dagster.cli.deployment_access import DeploymentAccess
from mlpipe_dagster.cli.options import Commands, add_command, add_model, partition
from mlpipe_dagster.cli.versions.listed_executions import SUCCEEDED, ListedExecution, listed_executions
from mlpipe_dagster.costs import Prices
from mlpipe_dagster.versions.followed_packages import follow_packages
from mlpipe_dagster.versions.model_packages import ModelPackages
from prediction_contract.errors import ContractError
from prediction_contract.jobs.retraining_range import RetrainingRange, newest_known_partition
from prediction_contract.registry.version_records import ModelVersion

if TYPE_CHECKING:
    from mlpipe_dagster.job_clients.pipeline_executions import PipelineExecutions
    from mlpipe_dagster.versions.retraining_runs import RetrainingRequest
    from model_declaration.declaration import ModelDeclaration

_POLL_SECONDS = 3
_SEARCHED_EXECUTIONS = 500
# Jobs wait for machines, and steps for the steps before them.
_SLACK_SECONDS = 1800
_HOUR = 3600
_NOT_IN_NAMES = re.compile("[^A-Za-z0-9_.:/=+@-]")
_LONGEST_NAME = 128


class RetrainingNotStartedError(ContractError):
    """The retraining was not confirmed, or the model has none."""


def add_to(commands: Commands) -> None:
    """Add the command."""
    command = add_command(commands, "retrain", retrain)
    add_model(command)
    command.add_argument(
        "--last",
        type=partition,
        metavar="PARTITION",
        help="the last partition to judge on; by default the newest one whose next partition has features",
    )
    command.add_argument(
        "--again",
        action="store_true",
        help="train again on a range that this code has already been trained on",
    )
    command.add_argument("--yes", action="store_true", help="start without asking")
    command.add_argument("--wait", action="store_true", help="wait for the end and show the result")
    command.add_argument(
        "--actor", default=getpass.getuser(), help="who requests it; by default your user name"
    )


def retrain(options: argparse.Namespace, access: DeploymentAccess) -> CommandResult:
    """Show a retraining's plan, ask, and start the model's pipeline on SageMaker."""
    declaration = access.declaration(options.model)
    # Imported here, because they import Dagster, which few commands need.
    from mlpipe_dagster.job_clients.pipeline_executions import PipelineExecutions  # noqa: PLC0415
    from mlpipe_dagster.versions.retraining_runs import RetrainingRequest  # noqa: PLC0415

    span = _range(options, access, declaration)
    wanted = RetrainingRequest(
        model=options.model,
        cause="request",
        requested_by=_NOT_IN_NAMES.sub("-", options.actor).lstrip("./:=+@-")[:_LONGEST_NAME] or "somebody",
        code_version=access.settings.code_version,
        last_partition=span.last_held_out or span.last,
    )
    sagemaker = access.client("sagemaker")
    attempt, execution = _next_attempt(sagemaker, access, wanted, again=options.again)
    document = _plan(access, declaration, span, attempt)
    executions = PipelineExecutions(client=sagemaker, logs_client=access.client("logs"))
    is_new = execution is None
    if execution is None:
        if not options.yes:
            _ask(options.model, document)
        execution = _start(executions, access, wanted, attempt)
    version = None
    if options.wait:
        execution = _ended_execution(executions, execution, declaration)
        version = _registered_version(access, options.model, execution)
    document |= {
        "execution_arn": execution.arn,
        "is_new": is_new,
        "status": execution.status,
        "failure": execution.failure or None,
        "version": version.version if version else None,
        "state": version.state if version else None,
    }
    return CommandResult(
        document=document,
        sections=[Fields(members=_for_people(document))],
        ok=execution.status == SUCCEEDED if options.wait else execution.status != "Failed",
        notes=[] if is_new else [_existing_note(options.model, execution)],
    )


def _range(
    options: argparse.Namespace, access: DeploymentAccess, declaration: ModelDeclaration
) -> RetrainingRange:
    training, schedule = declaration.retraining, declaration.partition_schedule
    if training is None:
        raise RetrainingNotStartedError(
            "The model declares no training",
            remedy="Declare `training` in its defs.yaml, or register versions: `mlpipe models register`",
            model=options.model,
        )
    newest = options.last or newest_known_partition(
        access.client("s3"), access.settings.data_bucket, options.model, schedule
    )
    return RetrainingRange.up_to(
        newest,
        model=options.model,
        start=schedule.start,
        window=training.window,
        held_out=training.held_out,
        gap=training.gap,
        is_judged=bool(training.metrics),
    )


def _next_attempt(
    sagemaker: Any, access: DeploymentAccess, wanted: RetrainingRequest, *, again: bool
) -> tuple[int, ListedExecution | None]:
    """Return the number of the attempt, and its execution if it was already started."""
    deployment = access.settings.deployment
    pipeline = deployment.retraining_pipeline(wanted.model)
    newest = islice(listed_executions(sagemaker, pipeline), _SEARCHED_EXECUTIONS)
    known = {execution.name: execution for execution in newest}
    attempt = 1
    while True:
        execution = known.get(wanted.execution(deployment, attempt).display_name)
        if execution is None or not (again and execution.has_ended):
            return attempt, execution
        attempt += 1


def _plan(
    access: DeploymentAccess, declaration: ModelDeclaration, span: RetrainingRange, attempt: int
) -> dict[str, Any]:
    """Return the plan of a retraining as a document."""
    model, settings = declaration.name, access.settings
    champion = access.registry.champion(model)
    by_rule = declaration.retraining is not None and declaration.retraining.is_approved_by_rule
    return {
        "model": model,
        "pipeline": settings.deployment.retraining_pipeline(model),
        "learns_from": [span.first, span.last],
        "judged_on": [span.first_held_out, span.last_held_out] if span.first_held_out else None,
        "champion": champion.version if champion else None,
        "approval": "by rule" if by_rule else "by a person",
        "code_version": settings.code_version,
        "attempt": attempt,
        "cost": _cost(declaration, settings.prices),
    }


def _start(
    executions: PipelineExecutions, access: DeploymentAccess, wanted: RetrainingRequest, attempt: int
) -> ListedExecution:
    from mlpipe_dagster.job_clients.job_errors import JobApiError, SageMakerJobError  # noqa: PLC0415

    try:
        arn = executions.start(wanted.execution(access.settings.deployment, attempt))
        return _described(executions, arn)
    except (SageMakerJobError, JobApiError) as error:
        raise RetrainingNotStartedError(
            str(error),
            remedy="Check that the pipeline is provisioned, then run the command again",
            model=wanted.model,
        ) from error


def _cost(declaration: ModelDeclaration, prices: Prices) -> dict[str, Any]:
    """Return the highest cost of the jobs, which are stopped at their time limits."""
    jobs = {
        "PlanRetraining": declaration.processing,
        "TrainModel": declaration.training_compute,
        "JudgeModels": declaration.processing,
    }
    hourly = {name: prices.machine(compute.instance_type) for name, compute in jobs.items()}
    most = [
        price * compute.max_runtime_seconds / _HOUR
        for name, compute in jobs.items()
        if (price := hourly[name]) is not None
    ]
    return {
        "currency": "USD",
        "at_most": round(sum(most), 2) if len(most) == len(jobs) else None,
        "steps": [
            {
                "step": name,
                "instance_type": compute.instance_type,
                "usd_per_hour": hourly[name],
                "longest_hours": round(compute.max_runtime_seconds / _HOUR, 2),
            }
            for name, compute in jobs.items()
        ],
    }


def _for_people(document: dict[str, Any]) -> dict[str, Any]:
    """Return a plan and its result for people."""
    cost = document["cost"]
    steps = "; ".join(
        f"{step['step']} on {step['instance_type']} for up to {step['longest_hours']:g} h"
        for step in cost["steps"]
    )
    most = (
        "not known" if cost["at_most"] is None else f"at most {cost['at_most']:.2f} {cost['currency']} on AWS"
    )
    return {
        **{name: value for name, value in document.items() if value is not None},
        "learns_from": " to ".join(document["learns_from"]),
        "judged_on": " to ".join(document["judged_on"] or []) or "nothing: the model declares no metrics",
        "champion": f"version {document['champion']}" if document["champion"] else "none",
        "cost": f"{most}: {steps}",
    }


def _ask(model: str, plan: dict[str, Any]) -> None:
    """Show the plan and ask whether to start.

    Raises:
        RetrainingNotStartedError: The answer is no, or there is no terminal to ask on.
    """
    if not sys.stdin.isatty():
        raise RetrainingNotStartedError(
            "There is no terminal to ask on", remedy="Pass --yes to start without asking", model=model
        )
    shown = CommandResult(document=plan, sections=[Fields(members=_for_people(plan))])
    sys.stderr.write(f"{shown.to_text(None)}\nStart the retraining? [y/N] ")
    sys.stderr.flush()
    if sys.stdin.readline().strip().lower() not in {"y", "yes"}:
        raise RetrainingNotStartedError("Nothing was started", remedy="Answer y to start", model=model)


def _existing_note(model: str, execution: ListedExecution) -> str:
    words = (
        f"Execution {execution.execution_id} already uses this range and this code: it is {execution.status}"
    )
    return f"{words}. `mlpipe retrain {model} --again` trains again" if execution.has_ended else words


def _described(executions: PipelineExecutions, arn: str) -> ListedExecution:
    found = executions.describe(arn)
    return ListedExecution(
        arn=arn,
        name=found.get("PipelineExecutionDisplayName", ""),
        status=found["PipelineExecutionStatus"],
        started_at=found["CreationTime"],
        failure=found.get("FailureReason", ""),
    )


def _ended_execution(
    executions: PipelineExecutions, execution: ListedExecution, declaration: ModelDeclaration
) -> ListedExecution:
    """Wait until an execution ends, at most as long as its jobs may take; print each change of its steps."""
    longest = (
        2 * declaration.processing.max_runtime_seconds + declaration.training_compute.max_runtime_seconds
    )
    deadline = time.monotonic() + longest + _SLACK_SECONDS
    printed: dict[str, str] = {}
    while True:
        found = _described(executions, execution.arn)
        # Listed after the description, so that the list is complete once the execution has ended.
        for step in executions.steps(execution.arn):
            if printed.get(step.name) != step.text:
                printed[step.name] = step.text
                sys.stderr.write(f"mlpipe retrain: {step.text}\n")
                sys.stderr.flush()
        if found.has_ended or time.monotonic() > deadline:
            return found
        time.sleep(_POLL_SECONDS)


def _registered_version(
    access: DeploymentAccess, model: str, execution: ListedExecution
) -> ModelVersion | None:
    """Return the version that an execution registered, or None."""
    packages = ModelPackages(access.client("sagemaker"), access.settings.deployment, access.bucket)
    versions = follow_packages(packages, access.registry, model).versions
    return next((each for each in versions.values() if each.execution_arn == execution.arn), None)
