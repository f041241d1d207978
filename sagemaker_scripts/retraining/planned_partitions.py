"""Reads the features of a plan; features that were prepared again since are refused."""

from __future__ import annotations

from prediction_batches.object_store import ObjectStore
from prediction_contract.jobs.retraining_plan import PlannedFeatures, RetrainingPlan
from sagemaker_scripts.features.feature_store import FeatureSet, feature_set
from sagemaker_scripts.learning.prepared_partitions import PreparedPartitions
from sagemaker_scripts.retraining.retraining_planning import RetrainingPlanError


def partitions_to_learn_from(
    plan: RetrainingPlan, store: ObjectStore, *, has_outcomes: bool
) -> PreparedPartitions:
    """Return the training partitions, and the outcomes known when the first held-out partition begins.

    Raises:
        ContractError: Features were removed, or prepared again after planning.
    """
    until = plan.first_held_out or plan.features[-1].partition
    return _between(plan, store, plan.first_partition, plan.last_partition, until, has_outcomes=has_outcomes)


def partitions_to_judge_on(plan: RetrainingPlan, store: ObjectStore) -> PreparedPartitions:
    """Return the held-out partitions, and all their outcomes in the plan's features.

    Raises:
        ContractError: As in `partitions_to_learn_from`.
    """
    first, last = str(plan.first_held_out), str(plan.last_held_out)
    return _between(plan, store, first, last, plan.features[-1].partition, has_outcomes=True)


def _between(
    plan: RetrainingPlan, store: ObjectStore, first: str, last: str, until: str, *, has_outcomes: bool
) -> PreparedPartitions:
    sets = [_found(plan, store, each) for each in plan.features if first <= each.partition <= last]
    later = [_found(plan, store, each) for each in plan.features if last < each.partition <= until]
    return PreparedPartitions.of_sets(store, sets, later, has_outcomes=has_outcomes)


def _found(plan: RetrainingPlan, store: ObjectStore, planned: PlannedFeatures) -> FeatureSet:
    found = feature_set(store, plan.model, planned.partition, planned.prefix)
    if found.digest != planned.digest:
        raise RetrainingPlanError(
            f"The features of {planned.partition} below {planned.prefix} were prepared again after the "
            "retraining was planned",
            remedy="Start a new retraining",
            model=plan.model,
        )
    return found
