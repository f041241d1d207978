"""What follows from the comparison of candidate and champion: better or not, and whose approval it takes."""

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
from sagemaker_scripts.retraining.retraining_planning import MOST_UNBEATEN


class Judgement(NamedTuple):
    """What a verdict says beside its figures; flags are 0 or 1.

    Attributes:
        better: Whether the candidate may become the champion as far as the metrics tell.
        worse_slices: In how many slices it is worse.
        needs_person: Whether the pipeline's execution fails, so that a person looks.
        approval: The approval status that the candidate's package is born with.
        reason: Why, in one sentence.
    """

    better: int
    worse_slices: int
    needs_person: int
    approval: str
    reason: str


def refused(reason: str) -> Judgement:
    """Return the judgement on a candidate that cannot be taken, whatever its metrics."""
    return Judgement(0, 0, 0, REJECTED, reason)


def left_to_a_person(reason: str) -> Judgement:
    """Return the judgement on a candidate that nothing can be compared with."""
    return Judgement(1, 0, 0, PENDING, reason)


def judged(
    deciding: MetricComparison,
    slices: Sequence[SliceComparison],
    judging: Judging,
    *,
    doubts: Sequence[str],
    unbeaten: int,
) -> Judgement:
    """Return the judgement that figures give.

    Args:
        deciding: The first metric.
        slices: The slices, by the first metric.
        judging: What is declared.
        doubts: Why a person must decide even on a better candidate, each to go on after "because".
        unbeaten: How many candidates before this one, one after another, were no better than naive.
    """
    worse = [each for each in slices if each.is_worse]
    is_better, reason = _compared(deciding, judging.margin)
    if worse:
        largest = max(worse, key=lambda each: each.rows)
        slices_text = "1 slice," if len(worse) == 1 else f"{len(worse)} slices, the largest of them"
        reason += f"; it is worse in {slices_text} {largest.column} = {largest.value}"
    if not deciding.beats_baselines and unbeaten + 1 >= MOST_UNBEATEN:
        reason += f"; none of the last {MOST_UNBEATEN} candidates was better than naive predictions"
        return Judgement(int(is_better), len(worse), 1, REJECTED, reason)
    if not is_better or worse:
        return Judgement(int(is_better), len(worse), 0, REJECTED, reason)
    if doubts:
        return Judgement(1, 0, 0, PENDING, f"{reason}; a person decides, because {' and '.join(doubts)}")
    if not judging.is_approved_by_rule:
        return Judgement(1, 0, 0, PENDING, f"{reason}; a person decides, as the model declares it")
    return Judgement(1, 0, 0, APPROVED, reason)


def _compared(metric: MetricComparison, margin: float) -> tuple[bool, str]:
    """Return whether the candidate is better by a metric, and the beginning of the reason."""
    if metric.gain is None:
        naive = f"than every naive baseline in {metric.name}, without a champion to compare it with"
        return metric.beats_baselines, f"{'Better' if metric.beats_baselines else 'Not better'} {naive}"
    # Without noise to compare it with, the gain itself has to do.
    least = metric.gain if metric.gain_low is None else metric.gain_low
    is_better = metric.gain > 0 and least >= margin
    noise = "" if metric.gain_low is None else f" (at least {_percent(metric.gain_low)}, noise considered)"
    return is_better, (
        f"{'Better' if is_better else 'Not better'} than the champion by the margin of {_percent(margin)}: "
        f"the gain in {metric.name} is {_percent(metric.gain)}{noise}"
    )


def _percent(share: float) -> str:
    return f"{100 * share:.3g} %"
