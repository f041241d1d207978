"""What the demo shows of versions: one that is not better, or scores unasked, fails it."""

from __future__ import annotations

import io
import os
from dataclasses import dataclass, field, replace
from typing import Any

import pytest

from infra.local.demo.demo_plan import PlannedVersions
from infra.local.demo.mlpipe_commands import MlpipeCommands
from infra.local.demo.model_versions import JudgedVersion, require_better_than_baselines
from infra.local.demo.progress import DemoProgress
from infra.local.demo.version_steps import VersionSteps
from infra.local.supervision.stack_state import StackError
from prediction_contract.jobs.retraining_range import RetrainingRange
from prediction_contract.jobs.verdict import APPROVED, MetricComparison, Verdict
from prediction_contract.registry.version_records import ModelVersion, VersionState

MAE = MetricComparison(
    name="mae:p",
    better="lower",
    rows=10,
    candidate=2,
    champion=None,
    gain=None,
    gain_low=None,
    baselines={"train_mean": 3, "train_median": 2.5},
    beats_baselines=True,
)
RANGES = tuple(
    RetrainingRange(first="2013-01-01", last=last, first_held_out=first_held_out, last_held_out=last_held_out)
    for last, first_held_out, last_held_out in (
        ("2013-01-06", "2013-01-08", "2013-01-14"),
        ("2013-01-21", "2013-01-23", "2013-01-29"),
    )
)


def judged(number: int, state: str, *metrics: MetricComparison, **facts: Any) -> JudgedVersion:
    """Return a version in a state, judged by metrics."""
    record = ModelVersion(
        model="churn",
        version=number,
        state=state,
        digest=f"d{number}",
        artifact_key="a",
        artifact_sha256="s",
        package_arn=f"arn:aws:sagemaker:us-east-1:000000000000:model-package/churn/{number}",
        approval=APPROVED,
        created_at="2013-02-01T00:00:00Z",
        **{"trained_until": "2013-01-06", **facts},
    )
    verdict = Verdict(
        model="churn",
        execution_id="e",
        candidate_digest=record.digest,
        candidate_key="a",
        candidate_sha256="s",
        champion_version=record.judged_against,
        champion_digest="",
        trained_until=str(record.trained_until),
        first_held_out="2013-01-08",
        last_held_out="2013-01-14",
        is_new=1,
        better=1,
        worse_slices=0,
        needs_person=0,
        approval=APPROVED,
        reason=f"the reason of {number}",
        metrics=metrics or (MAE,),
    )
    return JudgedVersion(record, verdict)


@dataclass
class ToldVersions:
    """Versions of which a test says what becomes of them.

    Attributes:
        retrained: What the retraining makes.
        crowned: The champion.
        before: The champion after a demotion.
        done: What was asked for, in order.
    """

    retrained: JudgedVersion | None = None
    crowned: JudgedVersion | None = None
    before: JudgedVersion | None = None
    done: list[str] = field(default_factory=list)
    model: str = "churn"

    def champion(self) -> JudgedVersion | None:
        """Return the champion."""
        return self.crowned

    def start_retraining(self, last: str, *, again: bool = False) -> Any:
        """Note that it was asked for."""
        self.done.append(f"retrain --last {last}{' --again' if again else ''}")
        return self

    line = "mlpipe retrain churn"

    def await_version(self, _retraining: Any) -> JudgedVersion | None:
        """Return what the retraining makes."""
        return self.retrained

    def promote(self, version: int) -> None:
        """Note that it was asked for."""
        self.done.append(f"promote {version}")

    def await_champion(self, version: int) -> None:
        """Note that it was waited for."""
        self.done.append(f"await {version}")

    def demote(self) -> tuple[int, int | None]:
        """Go back to the champion before."""
        assert self.crowned is not None
        withdrawn, self.crowned = self.crowned, self.before
        return withdrawn.number, self.before and self.before.number


def steps(versions: Any, *, by_rule: bool = True) -> VersionSteps:
    """Return the steps of a model whose second version takes the first one's place."""
    return VersionSteps(versions, PlannedVersions(RANGES, True, by_rule), DemoProgress(io.StringIO()))


def test_the_first_version_is_trained_and_awaited() -> None:
    """On a new stack it becomes the champion by rule: the demo promotes nothing."""
    versions = ToldVersions(retrained=judged(1, VersionState.APPROVED))
    shown = steps(versions)
    assert shown.await_first(shown.start_first()) == 1
    assert versions.done == ["retrain --last 2013-01-14 --again", "await 1"]


@pytest.mark.parametrize("is_better", [(), (True, False)])
def test_a_version_that_is_not_better_than_its_baselines_fails_the_demo(is_better: tuple[bool, ...]) -> None:
    """Each metric on the held-out days must beat the naive baselines, and there must be one."""
    metrics = tuple(replace(MAE, beats_baselines=each) for each in is_better)
    version = replace(
        judged(1, VersionState.APPROVED), verdict=replace(judged(1, "").verdict, metrics=metrics)
    )
    with pytest.raises(StackError, match="NOT better than 3 of train_mean" if metrics else "was not judged"):
        steps(ToldVersions(retrained=version)).await_first(None)  # type: ignore[arg-type]  # the fake needs none


def test_a_better_version_is_told_with_its_report() -> None:
    """The step shows the figures beside the baselines."""
    message = require_better_than_baselines(judged(1, VersionState.APPROVED))
    assert message == "mae:p 2, better than 3 of train_mean and 2.5 of train_median"


def test_the_champion_of_an_earlier_demo_stays_if_training_gives_nothing_better() -> None:
    """The demo goes on by the champion, whose training it does not repeat."""
    versions = ToldVersions(judged(3, VersionState.REFUSED), judged(1, VersionState.CHAMPION))
    shown = steps(versions)
    assert shown.await_first(shown.start_first()) == 1
    assert versions.done == ["retrain --last 2013-01-14", "await 1"]


def test_a_champion_that_knows_the_days_to_judge_on_is_demoted_first() -> None:
    """A demo that was interrupted leaves the second version, beside which the first one cannot be judged."""
    first = judged(1, VersionState.CHAMPION)
    versions = ToldVersions(first, judged(2, VersionState.CHAMPION, trained_until="2013-01-21"), before=first)
    shown = steps(versions)
    assert shown.await_first(shown.start_first()) == 1
    assert versions.crowned is first


def test_a_version_that_waits_for_a_person_is_promoted_where_that_is_declared() -> None:
    """And where it is not declared, a doubt of the verdict fails the demo."""
    versions = ToldVersions(judged(1, VersionState.CANDIDATE))
    assert steps(versions, by_rule=False).await_first(None) == 1  # type: ignore[arg-type]  # the fake needs none
    assert versions.done == ["promote 1", "await 1"]
    with pytest.raises(StackError, match="waits for a person's approval: the reason of 1"):
        steps(versions).await_first(None)  # type: ignore[arg-type]  # as above


def test_the_second_version_is_judged_against_the_first() -> None:
    """It is trained again in each demo, and the rule promotes it."""
    versions = ToldVersions(judged(2, VersionState.APPROVED, judged_against=1))
    shown = steps(versions)
    assert shown.await_second(shown.start_second(), 1) == 2
    assert versions.done == ["retrain --last 2013-01-29 --again", "await 2"]


@pytest.mark.parametrize(
    ("version", "message"),
    [
        (judged(2, VersionState.REFUSED, judged_against=1), "Version 2 is refused: the reason of 2"),
        (judged(2, VersionState.APPROVED, judged_against=0), "compared with version 0; .* version 1"),
        (judged(1, VersionState.CHAMPION, judged_against=0), "made version 1"),
    ],
    ids=["refused", "against nothing", "the champion once more"],
)
def test_a_second_version_that_takes_no_place_fails_the_demo(version: JudgedVersion, message: str) -> None:
    """It must be another version than the champion, judged against it, and better."""
    versions = ToldVersions(version, judged(1, VersionState.CHAMPION))
    shown = steps(versions)
    with pytest.raises(StackError, match=message):
        shown.await_second(shown.start_second(), 1)


@pytest.mark.parametrize(("withdrawn", "champion", "holds"), [(2, 1, True), (1, 1, False), (2, 3, False)])
def test_a_demotion_must_bring_the_first_version_back(withdrawn: int, champion: int, holds: bool) -> None:
    """Of the version that replaced it, and no other."""
    shown = steps(ToldVersions(None, judged(2, VersionState.CHAMPION), judged(1, VersionState.SUPERSEDED)))
    if holds:
        shown.demote(withdrawn, champion)
        return
    with pytest.raises(StackError, match="replaced version 2 by 1"):
        shown.demote(withdrawn, champion)


def test_a_command_that_fails_is_told_in_its_own_words() -> None:
    """The command line and what it wrote are in the error."""
    with pytest.raises(StackError, match=r"mlpipe retrain Churn! .* failed: .*Churn!"):
        MlpipeCommands(dict(os.environ)).run("retrain", "Churn!", "--yes")
