"""The rules that turn a comparison of candidate and champion into a judgement and an approval status."""

from __future__ import annotations

from collections.abc import Sequence
from typing import NamedTuple

from prediction_contract.jobs.model_inputs import Judging
from prediction_contract.jobs.verdict import (
    APPROVED,
    PENDING,
    REJECTED,
    MetricComparison,
    SliceComparison,
)
from sagemaker_scripts.retraining.retraining_planning import MAX_BELOW_BASELINES


class Judgement(NamedTuple):
    """The conclusion of a verdict; flags are 0 or 1.

    Attributes:
        better: Whether the candidate is better by its metrics.
        worse_slices: The number of slices in which it is worse.
        needs_person: Whether the pipeline's execution fails, so that a person looks at it.
        approval: The approval status with which the candidate's package is registered.
        reason: The reason, in one sentence.
    """

    better: int
    worse_slices: int
    needs_person: int
    approval: str
    reason: str


def refused(reason: str) -> Judgement:
    """Return the judgement on a candidate that is rejected regardless of its metrics."""
    return Judgement(0, 0, 0, REJECTED, reason)


def pending(reason: str) -> Judgement:
    """Return the judgement on a candidate that cannot be compared, so that a person decides."""
    return Judgement(1, 0, 0, PENDING, reason)


def judge_candidate(
    deciding: MetricComparison,
    slices: Sequence[SliceComparison],
    judging: Judging,
    *,
    doubts: Sequence[str],
    candidates_below_baselines: int,
) -> Judgement:
    """Return the judgement that follows from the figures.

    Args:
        deciding: The comparison by the first metric.
        slices: The comparisons of the slices by the first metric.
        judging: The declared rules.
        doubts: Why a person must decide even on a better candidate, as clauses that follow "because".
        candidates_below_baselines: How many candidates in a row before this one were no better than naive
            predictions.
    """
    worse = [each for each in slices if each.is_worse]
    is_better, reason = _compared(deciding, judging.margin)
    if worse:
        largest = max(worse, key=lambda each: each.rows)
        slices_text = "1 slice," if len(worse) == 1 else f"{len(worse)} slices, the largest of them"
        reason += f"; it is worse in {slices_text} {largest.column} = {largest.value}"
    if not deciding.beats_baselines and candidates_below_baselines + 1 >= MAX_BELOW_BASELINES:
        reason += f"; none of the last {MAX_BELOW_BASELINES} candidates was better than naive predictions"
        return Judgement(int(is_better), len(worse), 1, REJECTED, reason)
    if not is_better or worse:
        return Judgement(int(is_better), len(worse), 0, REJECTED, reason)
    if doubts:
        return Judgement(1, 0, 0, PENDING, f"{reason}; a person decides, because {' and '.join(doubts)}")
    if not judging.is_approved_by_rule:
        return Judgement(1, 0, 0, PENDING, f"{reason}; a person decides, as the model declares")
    return Judgement(1, 0, 0, APPROVED, reason)


def _compared(metric: MetricComparison, margin: float) -> tuple[bool, str]:
    """Return whether the candidate is better by a metric, and the beginning of the reason."""
    if metric.gain is None:
        naive = f"than every naive baseline in {metric.name}; there is no champion to compare with"
        return metric.beats_baselines, f"{'Better' if metric.beats_baselines else 'Not better'} {naive}"
    # Without a confidence interval, use the gain itself.
    least = metric.gain if metric.gain_low is None else metric.gain_low
    is_better = metric.gain > 0 and least >= margin
    noise = "" if metric.gain_low is None else f" (at least {_percent(metric.gain_low)}, noise considered)"
    return is_better, (
        f"{'Better' if is_better else 'Not better'} than the champion by the margin of {_percent(margin)}: "
        f"the gain in {metric.name} is {_percent(metric.gain)}{noise}"
    )


def _percent(share: float) -> str:
    return f"{100 * share:.3g} %"
