"""All requests for the same retraining share one execution, and its outcome is explained."""

from __future__ import annotations

from dataclasses import replace
from datetime import UTC, datetime
from typing import TYPE_CHECKING, Any

import dagster as dg
import pytest

from mlpipe_dagster.job_clients.job_errors import SageMakerJobError
from mlpipe_dagster.job_clients.pipeline_executions import PipelineExecutions
from mlpipe_dagster.versions.followed_packages import follow_packages
from mlpipe_dagster.versions.promotion_by_rule import promote_by_rule
from mlpipe_dagster.versions.retraining_runs import RetrainingOutcome, RetrainingResult
from prediction_contract.jobs.verdict import PENDING, REJECTED
from prediction_contract.registry.version_records import ChampionPointer, VersionState
from tests.dagster.job_steps import QUICK, in_step, let_job_finish, log_lines
from tests.dagster.versions.small_retraining import SmallRetraining

if TYPE_CHECKING:
    from tests.dagster.versions.registered_packages import RegisteredPackages

pytestmark = [pytest.mark.stack, pytest.mark.timeout(300)]


@pytest.fixture
def small(registered: RegisteredPackages) -> SmallRetraining:
    """Return the retraining pipeline of a new model."""
    return SmallRetraining(registered)


def result(small: SmallRetraining, arn: str) -> RetrainingResult:
    """Return the result of an execution."""
    return small.retraining.result(small.registered.model, arn, actor="dagster run x", now=datetime.now(UTC))


def ended_execution(registered: RegisteredPackages) -> tuple[SmallRetraining, str]:
    """Return a pipeline with an ended execution that left no files."""
    small = SmallRetraining(registered, is_bare=True)
    arn = small.client.start(small.wanted().execution(registered.platform.settings.deployment, 1))
    in_step(lambda context: small.client.watch(context, arn))
    return small, arn


def retrain(
    small: SmallRetraining, instance: dg.DagsterInstance | None = None, **wanted: Any
) -> RetrainingResult:
    """Retrain in a Dagster step, and return the result."""
    retraining = small.retraining

    def run(context: dg.AssetExecutionContext) -> RetrainingResult:
        arn = retraining.run(context, small.wanted(**wanted))
        return retraining.result(small.registered.model, arn, actor="dagster run x", now=datetime.now(UTC))

    return in_step(run, instance)


def champion(registered: RegisteredPackages) -> ChampionPointer:
    """Follow the packages and promote by rule, as the sensor does; return the champion pointer."""
    model, registry = registered.model, registered.registry
    versions = follow_packages(registered.packages, registry, model).versions.values()
    promote_by_rule(registry, model, versions, actor="the sensor", now=datetime.now(UTC))
    pointer = registry.champion(model)
    assert pointer is not None
    return pointer


@pytest.fixture
def first_champion(registered: RegisteredPackages, small: SmallRetraining) -> ChampionPointer:
    """Promote a first champion, against which the pipeline judges candidates."""
    small.tell(champion_version=registered.register("earlier"))
    pointer = champion(registered)
    assert pointer.version == 1
    return pointer


def test_better_candidate_is_promoted_by_one_execution(
    small: SmallRetraining, instance: dg.DagsterInstance
) -> None:
    """A second request of another person or cause gets the same execution and version."""
    # A run that died has already started the execution.
    arn = small.client.start(small.wanted().execution(small.platform.settings.deployment, 1))
    first = retrain(small, instance)
    assert first.execution_arn == arn
    assert (first.outcome, first.version) == (RetrainingOutcome.PROMOTED, 1)
    assert first.reason == "mae 20 is better than all baselines"
    assert small.registered.record(1).execution_arn == first.execution_arn
    lines = log_lines(instance)
    assert any("PlanRetraining is Succeeded (https://" in line for line in lines)
    assert any("RegisterModel is Succeeded: arn:aws:sagemaker" in line for line in lines)
    assert retrain(small) == first
    assert retrain(small, cause="drift", requested_by="the sensor") == first
    assert len(small.executions()) == 1
    # Each new intent for the newest partitions starts an execution, but the first one does the work for both.
    newest = [retrain(small, last_partition="newest", intent=intent) for intent in ("a", "b")]
    assert [each.version for each in newest] == [2, 2]
    assert len(small.executions()) == 3
    pages = small.client.metadata(first.execution_arn)
    assert "/processing-jobs/pipelines-" in str(pages["PlanRetraining_job_page"].value)


@pytest.mark.parametrize(
    ("judged", "outcome", "words", "state"),
    [
        (
            {"approval": PENDING},
            RetrainingOutcome.WAITING,
            "mlpipe promote {model} 1",
            VersionState.CANDIDATE,
        ),
        (
            {"approval": REJECTED, "better": 0, "reason": "mae 23 is worse"},
            RetrainingOutcome.REFUSED,
            "mae 23 is worse",
            VersionState.REFUSED,
        ),
        (
            {"champion_version": 7},
            RetrainingOutcome.NOT_PROMOTED,
            "champion has changed since the plan",
            VersionState.APPROVED,
        ),
    ],
)
def test_unpromoted_version_explains_why(
    registered: RegisteredPackages,
    judged: dict[str, Any],
    outcome: RetrainingOutcome,
    words: str,
    state: VersionState,
) -> None:
    """It waits for a person, was refused, or was judged against a former champion."""
    small, arn = ended_execution(registered)
    registered.register(arn.rpartition("/")[2], **judged)
    done = result(small, arn)
    assert (done.outcome, done.version, done.execution_arn) == (outcome, 1, arn)
    assert words.format(model=registered.model) in done.reason
    assert registered.record(1).state == state
    assert registered.registry.champion(registered.model) is None


def test_equal_candidate_is_nothing_new(registered: RegisteredPackages) -> None:
    """No package is expected, and the reason is the verdict's."""
    small, arn = ended_execution(registered)
    verdict = registered.verdict(arn.rpartition("/")[2], is_new=0, reason="It equals the champion")
    key = f"models/{registered.model}/retraining/{verdict.execution_id}/verdict.json"
    registered.platform.bucket.put(key, verdict.to_bytes())
    done = result(small, arn)
    assert (done.outcome, done.version) == (RetrainingOutcome.NOTHING_NEW, None)
    assert done.reason == "It equals the champion"


def test_superseded_version_is_nothing_new(registered: RegisteredPackages) -> None:
    """Requesting the same work after its version was superseded gives no new version."""
    small, arn = ended_execution(registered)
    first = registered.register(arn.rpartition("/")[2])
    assert result(small, arn).outcome is RetrainingOutcome.PROMOTED
    registered.register("exec2", champion_version=first)
    follow_packages(registered.packages, registered.registry, registered.model)
    again = result(small, arn)
    assert (again.outcome, again.version) == (RetrainingOutcome.NOTHING_NEW, first)
    assert "superseded" in again.reason


def test_failed_execution_shows_its_log_and_is_retried(
    small: SmallRetraining, first_champion: ChampionPointer
) -> None:
    """The error holds the job's last lines, and the retry starts the next attempt."""
    small.tell(failing_attempts=1, champion_version=1)
    with pytest.raises(SageMakerJobError, match=r"(?s)Failed.*the job is at work.*failed as told"):
        retrain(small)
    assert champion(small.registered) == first_champion
    done = retrain(small)
    assert (done.outcome, done.version) == (RetrainingOutcome.PROMOTED, 2)
    assert sorted(small.executions().values()) == ["Failed", "Succeeded"]
    # A request for the newest partitions finds the failed execution's claim, too.
    small.tell(failing_attempts=1, champion_version=2)
    with pytest.raises(SageMakerJobError, match="failed as told"):
        retrain(small, last_partition="newest", intent="a")
    assert champion(small.registered).version == 2
    assert retrain(small, last_partition="newest", intent="b").version == 3


def test_verdict_that_needs_a_person_fails_the_run(
    small: SmallRetraining, first_champion: ChampionPointer
) -> None:
    """The error holds the verdict's reason, and the champion stays."""
    small.tell(needs_person=1, reason="No baseline was beaten for the third time", champion_version=1)
    with pytest.raises(SageMakerJobError, match="A person must look: No baseline was beaten"):
        retrain(small)
    assert champion(small.registered) == first_champion


def test_cancelled_run_stops_its_execution(small: SmallRetraining, first_champion: ChampionPointer) -> None:
    """Its jobs would cost money; the champion stays, and the next run makes a new attempt."""
    small.tell(waits=True, champion_version=1)

    class Cancelled(BaseException):
        pass

    def cancel(_seconds: float) -> None:
        if "Executing" in small.executions().values():
            raise Cancelled

    executions = PipelineExecutions(
        client=small.sagemaker,
        logs_client=small.platform.client("logs"),
        polling=replace(QUICK, sleep=cancel),
    )
    with pytest.raises(Cancelled):
        in_step(
            lambda context: executions.watch(
                context, executions.start(small.wanted().execution(small.platform.settings.deployment, 1))
            )
        )
    let_job_finish(small.platform)
    (status,) = small.executions().values()
    assert status in {"Stopping", "Stopped"}
    assert champion(small.registered) == first_champion
    done = retrain(small)
    assert (done.outcome, done.version) == (RetrainingOutcome.PROMOTED, 2)
