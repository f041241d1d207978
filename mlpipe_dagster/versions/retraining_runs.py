"""Runs one retraining: starts its execution once, waits for its end, and explains its outcome."""

from __future__ import annotations

import hashlib
import json
from dataclasses import dataclass
from datetime import datetime
from enum import StrEnum

from mlpipe_dagster.job_clients.job_errors import SageMakerJobError
from mlpipe_dagster.job_clients.pipeline_executions import (
    ENDED,
    STOPPING,
    SUCCEEDED,
    ExecutionRequest,
    PipelineExecutions,
    display_name,
)
from mlpipe_dagster.job_clients.pipes_job_client import Context
from mlpipe_dagster.resources.data_bucket import DataBucket
from mlpipe_dagster.resources.platform import Platform
from mlpipe_dagster.versions.followed_packages import FollowedPackages, follow_packages
from mlpipe_dagster.versions.model_packages import ModelPackages
from mlpipe_dagster.versions.promotion_by_rule import PromotionByRule, known_version, promote_by_rule
from prediction_contract.errors import ContractError
from prediction_contract.jobs.retraining_arguments import NEWEST
from prediction_contract.jobs.retraining_plan import RetrainingPlan
from prediction_contract.naming.resource_names import Deployment
from prediction_contract.naming.s3_layout import PLAN_NAME, VERDICT_NAME, retraining_prefix
from prediction_contract.registry.table import RegistryTable
from prediction_contract.registry.version_records import ModelVersion, VersionState

_MAX_ATTEMPTS = 20
# A listing of packages may lag behind the execution that registered one.
_REGISTERED_WITHIN_SECONDS = 120.0
_PLAN_BYTES = 16_000_000


class RetrainingError(ContractError):
    """An execution ended without the verdict or package that a retraining leaves."""


class RetrainingOutcome(StrEnum):
    """The outcome of a retraining."""

    PROMOTED = "promoted"
    WAITING = "waits for approval"
    NOT_PROMOTED = "approved, not promoted"
    REFUSED = "refused"
    NOTHING_NEW = "nothing new"


@dataclass(frozen=True, slots=True, kw_only=True)
class RetrainingRequest:
    """A requested retraining.

    Attributes:
        model: The model's name.
        cause: Why it starts, one of the causes of `PlanRetrainingArguments`.
        requested_by: The person or sensor that requests it.
        code_version: The version of the code that runs.
        last_partition: The last partition to judge on; `newest` for the newest whose outcomes are known.
        intent: Distinguishes retrainings on `newest`; all retries of one request share it.
    """

    model: str
    cause: str
    requested_by: str
    code_version: str
    last_partition: str = NEWEST
    intent: str = ""

    def execution(self, deployment: Deployment, attempt: int) -> ExecutionRequest:
        """Return the execution of an attempt; attempts count from 1.

        The token depends on model, range, code and attempt, so equal requests share one execution.
        """
        newest = self.intent if self.last_partition == NEWEST else ""
        what = [self.model, self.last_partition, newest, self.code_version, attempt]
        token = hashlib.sha256(json.dumps(what).encode()).hexdigest()
        return ExecutionRequest(
            pipeline=deployment.retraining_pipeline(self.model),
            token=token,
            display_name=display_name(self.last_partition, str(attempt), token[:12]),
            description=f"{self.cause}, requested by {self.requested_by}",
            parameters={
                "LastPartition": self.last_partition,
                "Attempt": str(attempt),
                "Cause": self.cause,
                "RequestedBy": self.requested_by,
            },
        )


@dataclass(frozen=True, slots=True, kw_only=True)
class RetrainingResult:
    """The outcome of a retraining, with its reason.

    Attributes:
        outcome: The outcome.
        reason: A sentence that says why, and what a person can do.
        execution_arn: The execution that did the work.
        version: The version that it registered; None if there is no new one.
    """

    outcome: RetrainingOutcome
    reason: str
    execution_arn: str
    version: int | None = None


@dataclass(frozen=True, slots=True, kw_only=True)
class Retraining:
    """Retrains models of a deployment.

    Attributes:
        executions: SageMaker's pipelines.
        packages: SageMaker's model packages.
        registry: The registry.
        bucket: The data bucket, which holds plans and verdicts.
        deployment: The deployment.
    """

    executions: PipelineExecutions
    packages: ModelPackages
    registry: RegistryTable
    bucket: DataBucket
    deployment: Deployment

    def run(self, context: Context, wanted: RetrainingRequest) -> str:
        """Retrain, and return the ARN of the execution that did the work.

        Equal requests share an execution: it may be one that another request started on the same range and
        code. A failed execution is followed by another attempt.

        Args:
            context: The step's context. If its run is cancelled, the execution is stopped.
            wanted: The requested retraining.

        Raises:
            SageMakerJobError: The execution failed or was stopped, or SageMaker refused to start it.
            JobDeadlineError: It did not end in time and is being stopped.
            JobApiError: SageMaker did not answer for too long; the execution keeps running.
        """
        since = self.executions.polling.clock()
        for attempt in range(1, _MAX_ATTEMPTS + 1):
            arn = self.executions.start(wanted.execution(self.deployment, attempt))
            if self._status(arn) == STOPPING:
                # It was cancelled: wait until it has stopped, then start the next attempt.
                self.executions.watch(context, arn, since=since)
            if self._has_failed(arn):
                context.log.info(
                    "Attempt %d, execution %s, has failed: starting the next attempt", attempt, arn
                )
                continue
            context.log.info("Attempt %d is execution %s", attempt, arn)
            described = self.executions.watch(context, arn, since=since)
            if described["PipelineExecutionStatus"] != SUCCEEDED:
                raise SageMakerJobError(self.executions.failure(arn, described))
            first = self.packages.execution_arn(wanted.model, self.plan(wanted.model, arn).claimed_by)
            if first == arn:
                return arn
            if not self._has_failed(first):
                context.log.info(
                    "Execution %s already retrains, or has retrained, on the same range and code", first
                )
                return first
            context.log.info("Execution %s, which came first, has failed: starting the next attempt", first)
        raise SageMakerJobError(
            f"{_MAX_ATTEMPTS} attempts at retraining {wanted.model} have failed. Find the cause in the logs "
            "of their jobs, correct the code, and upload it: new code starts again with attempt 1."
        )

    def _has_failed(self, arn: str) -> bool:
        status = self._status(arn)
        return status in ENDED and status != SUCCEEDED

    def _status(self, arn: str) -> str:
        return str(self.executions.describe(arn)["PipelineExecutionStatus"])

    def plan(self, model: str, arn: str) -> RetrainingPlan:
        """Return the plan of an execution.

        Raises:
            ObjectMissingError: The execution has made no plan.
            InvalidRetrainingPlanError: The plan has another format.
        """
        key = f"{retraining_prefix(model, arn.rpartition('/')[2])}{PLAN_NAME}"
        return RetrainingPlan.parse(self.bucket.read(key, most_bytes=_PLAN_BYTES))

    def result(self, model: str, arn: str, *, actor: str, now: datetime) -> RetrainingResult:
        """Record the package that an execution registered, promote by rule, and return the outcome.

        Args:
            model: The model's name.
            arn: The execution.
            actor: The sensor or run that promotes.
            now: The current time.

        Raises:
            RetrainingError: The execution left no verdict, or has a new candidate but registered no package.
            RegistryUnavailableError: The registry did not take a change in time.
        """
        status = self._status(arn)
        if status != SUCCEEDED:
            return RetrainingResult(
                outcome=RetrainingOutcome.NOTHING_NEW,
                reason=f"Execution {arn} has the same range and code: it is {status}",
                execution_arn=arn,
            )
        execution_id = arn.rpartition("/")[2]
        verdict = self.packages.verdict(f"{retraining_prefix(model, execution_id)}{VERDICT_NAME}")
        if verdict is None:
            raise RetrainingError(f"Execution {arn} left no verdict", remedy="Retrain again", model=model)
        if not verdict.is_new:
            return RetrainingResult(
                outcome=RetrainingOutcome.NOTHING_NEW, reason=verdict.reason, execution_arn=arn
            )
        version, followed = self._registered(model, arn)
        promotion = promote_by_rule(self.registry, model, followed.versions.values(), actor=actor, now=now)
        # By now it may be promoted or superseded.
        version = known_version(self.registry, model, version.version)
        outcome, reason = _outcome(model, version, promotion, verdict.reason)
        return RetrainingResult(outcome=outcome, reason=reason, execution_arn=arn, version=version.version)

    def _registered(self, model: str, arn: str) -> tuple[ModelVersion, FollowedPackages]:
        """Return the version that an execution registered, once SageMaker lists it."""
        waits = self.executions.polling.with_deadline(_REGISTERED_WITHIN_SECONDS)
        followed = FollowedPackages()
        for _ in waits.pauses(f"The model package of execution {arn}"):
            followed = follow_packages(self.packages, self.registry, model)
            found = [each for each in followed.versions.values() if each.execution_arn == arn]
            if found:
                return found[0], followed
            if followed.unusable:
                break
        raise RetrainingError(
            "; ".join(followed.unusable.values()) or f"Execution {arn} registered no model package",
            remedy=f"Check the execution's steps, then retrain {model} again",
            model=model,
        )


def _outcome(
    model: str, version: ModelVersion, promotion: PromotionByRule, reason: str
) -> tuple[RetrainingOutcome, str]:
    number = version.version
    if version.state == VersionState.CHAMPION:
        return RetrainingOutcome.PROMOTED, reason
    if version.state == VersionState.CANDIDATE:
        return (
            RetrainingOutcome.WAITING,
            f"{reason}. To approve and promote it, run `mlpipe promote {model} {number}`",
        )
    if version.state == VersionState.APPROVED:
        why = promotion.waiting.get(number, "a newer version is the champion")
        return (
            RetrainingOutcome.NOT_PROMOTED,
            f"{why}. To promote it anyway, run `mlpipe promote {model} {number}`",
        )
    if version.state == VersionState.REFUSED:
        return RetrainingOutcome.REFUSED, version.reason or reason
    return RetrainingOutcome.NOTHING_NEW, f"Version {number} is already {version.state}"


def platform_retraining(platform: Platform, executions: PipelineExecutions) -> Retraining:
    """Return the retraining of a platform's models."""
    settings, bucket = platform.settings, platform.bucket
    return Retraining(
        executions=executions,
        packages=ModelPackages(platform.client("sagemaker"), settings.deployment, bucket),
        registry=platform.registry,
        bucket=bucket,
        deployment=settings.deployment,
    )
