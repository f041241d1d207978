"""Tests of the verdict rules: whether a candidate is better, who approves it, and the reason."""

from __future__ import annotations

from typing import Any

import pytest

from prediction_contract.jobs.model_inputs import Judging
from prediction_contract.jobs.verdict import MetricComparison, SliceComparison
from sagemaker_scripts.retraining.verdict_rules import Judgement, judge_candidate

AUTO = Judging(margin=0.01, is_approved_by_rule=True)


def metric(gain: float | None, gain_low: float | None, *, beats_baselines: bool = True) -> MetricComparison:
    """Return a comparison on the deciding metric."""
    return MetricComparison(
        name="mae:spending",
        better="lower",
        rows=1000,
        candidate=1.0,
        champion=None if gain is None else 1.1,
        gain=gain,
        gain_low=gain_low,
        baselines={"train_mean": 3.0},
        beats_baselines=beats_baselines,
    )


def worse(value: str, rows: int, *, is_worse: bool = True) -> SliceComparison:
    """Return a slice comparison in which the candidate is worse, or not if `is_worse` is false."""
    return SliceComparison(
        column="region", value=value, rows=rows, candidate=2.0, champion=1.0, is_worse=is_worse
    )


def outcome(found: Judgement) -> tuple[int, int, int, str]:
    """Return everything of a judgement but its reason."""
    return found.better, found.worse_slices, found.needs_person, found.approval


def judge(figures: MetricComparison, *slices: SliceComparison, **changes: Any) -> Judgement:
    """Return the judgement by the automatic rules, or by changed ones."""
    given = {"judging": AUTO, "doubts": (), "candidates_below_baselines": 0} | changes
    return judge_candidate(
        figures,
        slices,
        given["judging"],
        doubts=given["doubts"],
        candidates_below_baselines=given["candidates_below_baselines"],
    )


@pytest.mark.parametrize(
    ("gain", "gain_low", "margin", "better"),
    [
        (0.03, 0.01, 0.01, 1),
        (0.03, 0.0099, 0.01, 0),
        (0.5, -0.1, 0.01, 0),
        (-0.02, -0.04, 0.01, 0),
        (0.001, 0.0, 0.0, 1),
        # Equally good is not better, even without a margin.
        (0.0, 0.0, 0.0, 0),
    ],
)
def test_lower_end_of_gain_must_reach_margin(
    gain: float, gain_low: float, margin: float, better: int
) -> None:
    """A gain that may be noise does not get a candidate approved."""
    found = judge(metric(gain, gain_low), judging=Judging(margin=margin, is_approved_by_rule=True))
    assert outcome(found) == (better, 0, 0, "Approved" if better else "Rejected")


def test_worse_slice_rejects_better_candidate() -> None:
    """A candidate that is worse in a slice is rejected, and the reason names the largest such slice."""
    found = judge(
        metric(0.2, 0.1), worse("south", 300), worse("north", 500), worse("west", 900, is_worse=False)
    )
    assert outcome(found) == (1, 2, 0, "Rejected")
    assert found.reason == (
        "Better than the champion by the margin of 1 %: the gain in mae:spending is 20 % (at least 10 %, "
        "noise considered); it is worse in 2 slices, the largest of them region = north"
    )


def test_baselines_decide_without_champion() -> None:
    """A first candidate is approved if it beats the naive baselines, and rejected otherwise."""
    assert outcome(judge(metric(None, None))) == (1, 0, 0, "Approved")
    assert outcome(judge(metric(None, None, beats_baselines=False))) == (0, 0, 0, "Rejected")


def test_person_approves_if_declared_or_in_doubt() -> None:
    """A better candidate waits for a person if the model declares it or if the comparison is doubtful."""
    manual = judge(metric(0.2, 0.1), judging=Judging())
    assert outcome(manual) == (1, 0, 0, "PendingManualApproval")
    assert manual.reason.endswith("; a person decides, as the model declares")
    doubted = judge(metric(0.2, None), doubts=["of this", "of that"])
    assert outcome(doubted) == (1, 0, 0, "PendingManualApproval")
    assert doubted.reason == (
        "Better than the champion by the margin of 1 %: the gain in mae:spending is 20 %; a person decides, "
        "because of this and of that"
    )
    assert outcome(judge(metric(0.005, None), doubts=["of this"])) == (0, 0, 0, "Rejected")


def test_third_candidate_below_baselines_needs_person() -> None:
    """A person is alerted when three candidates in a row are no better than naive predictions."""
    useless = metric(-0.2, -0.3, beats_baselines=False)
    assert outcome(judge(useless, candidates_below_baselines=1)) == (0, 0, 0, "Rejected")
    found = judge(useless, candidates_below_baselines=2)
    assert outcome(found) == (0, 0, 1, "Rejected")
    assert "none of the last 3 candidates was better than naive predictions" in found.reason
    assert outcome(judge(metric(0.2, 0.1), candidates_below_baselines=2)) == (1, 0, 0, "Approved")
