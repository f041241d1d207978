"""The demo's model version steps fail when a version is not better or takes over unexpectedly."""

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
    """Return a version in a state, with a verdict on these metrics."""
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
class FakeVersions:
    """Model versions whose states a test decides, and which record what the demo requests.

    Attributes:
        retrained: The version that a retraining makes.
        crowned: The champion.
        before: The earlier champion, which a demotion restores.
        done: The requests in order.
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
        """Record the request."""
        self.done.append(f"retrain --last {last}{' --again' if again else ''}")
        return self

    line = "mlpipe retrain churn"

    def await_version(self, _retraining: Any) -> JudgedVersion | None:
        """Return the version that the retraining makes."""
        return self.retrained

    def promote(self, version: int) -> None:
        """Record the request."""
        self.done.append(f"promote {version}")

    def await_champion(self, version: int) -> None:
        """Record the wait."""
        self.done.append(f"await {version}")

    def demote(self) -> tuple[int, int | None]:
        """Make the earlier champion the champion again."""
        assert self.crowned is not None
        withdrawn, self.crowned = self.crowned, self.before
        return withdrawn.number, self.before and self.before.number


def steps(versions: Any, *, by_rule: bool = True) -> VersionSteps:
    """Return the version steps of a model with two planned versions."""
    return VersionSteps(versions, PlannedVersions(RANGES, True, by_rule), DemoProgress(io.StringIO()))


def test_first_version_is_trained_and_awaited() -> None:
    """On a new stack the rule makes the first version champion, so the demo promotes nothing."""
    versions = FakeVersions(retrained=judged(1, VersionState.APPROVED))
    shown = steps(versions)
    assert shown.await_first(shown.start_first()) == 1
    assert versions.done == ["retrain --last 2013-01-14 --again", "await 1"]


@pytest.mark.parametrize("is_better", [(), (True, False)])
def test_version_below_its_baselines_fails_the_demo(is_better: tuple[bool, ...]) -> None:
    """Each metric on the held-out days must beat the naive baselines, and there must be one."""
    metrics = tuple(replace(MAE, beats_baselines=each) for each in is_better)
    version = replace(
        judged(1, VersionState.APPROVED), verdict=replace(judged(1, "").verdict, metrics=metrics)
    )
    with pytest.raises(StackError, match="NOT better than 3 of train_mean" if metrics else "was not judged"):
        steps(FakeVersions(retrained=version)).await_first(None)  # type: ignore[arg-type]  # not used


def test_message_shows_metric_beside_baselines() -> None:
    """The step prints the metric's value beside the values of the baselines."""
    message = require_better_than_baselines(judged(1, VersionState.APPROVED))
    assert message == "mae:p 2, better than 3 of train_mean and 2.5 of train_median"


def test_refused_retraining_keeps_earlier_champion() -> None:
    """The demo requests a retraining without `--again` and continues with the earlier champion."""
    versions = FakeVersions(judged(3, VersionState.REFUSED), judged(1, VersionState.CHAMPION))
    shown = steps(versions)
    assert shown.await_first(shown.start_first()) == 1
    assert versions.done == ["retrain --last 2013-01-14", "await 1"]


def test_champion_trained_on_held_out_days_is_demoted_first() -> None:
    """An interrupted demo leaves the second version champion; the first cannot be judged against it."""
    first = judged(1, VersionState.CHAMPION)
    versions = FakeVersions(first, judged(2, VersionState.CHAMPION, trained_until="2013-01-21"), before=first)
    shown = steps(versions)
    assert shown.await_first(shown.start_first()) == 1
    assert versions.crowned is first


def test_candidate_is_promoted_only_without_automatic_approval() -> None:
    """With approval by rule, a version that still waits for a person fails the demo."""
    versions = FakeVersions(judged(1, VersionState.CANDIDATE))
    assert steps(versions, by_rule=False).await_first(None) == 1  # type: ignore[arg-type]  # not used
    assert versions.done == ["promote 1", "await 1"]
    with pytest.raises(StackError, match="waits for a person's approval: the reason of 1"):
        steps(versions).await_first(None)  # type: ignore[arg-type]  # not used


def test_second_version_is_judged_against_first() -> None:
    """It is trained again in each demo and becomes champion by rule."""
    versions = FakeVersions(judged(2, VersionState.APPROVED, judged_against=1))
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
def test_second_version_that_does_not_become_champion_fails(version: JudgedVersion, message: str) -> None:
    """It must be a new version that was judged against the champion and approved."""
    versions = FakeVersions(version, judged(1, VersionState.CHAMPION))
    shown = steps(versions)
    with pytest.raises(StackError, match=message):
        shown.await_second(shown.start_second(), 1)


@pytest.mark.parametrize(("withdrawn", "champion", "holds"), [(2, 1, True), (1, 1, False), (2, 3, False)])
def test_demotion_must_restore_first_version(withdrawn: int, champion: int, holds: bool) -> None:
    """A demotion that withdraws or restores an unexpected version fails the demo."""
    shown = steps(FakeVersions(None, judged(2, VersionState.CHAMPION), judged(1, VersionState.SUPERSEDED)))
    if holds:
        shown.demote(withdrawn, champion)
        return
    with pytest.raises(StackError, match="replaced version 2 by 1"):
        shown.demote(withdrawn, champion)


def test_failed_command_is_quoted_with_its_output() -> None:
    """The error contains the command line and the command's own message."""
    with pytest.raises(StackError, match=r"mlpipe retrain Churn! .* failed: .*Churn!"):
        MlpipeCommands(dict(os.environ)).run("retrain", "Churn!", "--yes")
