"""The plan of a retraining: an execution claims its range of partitions, then plans all later steps."""

from __future__ import annotations

import json
import logging
from collections.abc import Iterator
from datetime import datetime
from typing import Protocol

from prediction_batches.object_store import ObjectStore
from prediction_contract.errors import ContractError
from prediction_contract.jobs.model_inputs import ModelInputs
from prediction_contract.jobs.partition_schedule import PartitionSchedule
from prediction_contract.jobs.retraining_arguments import PlanRetrainingArguments, RetrainingStepArguments
from prediction_contract.jobs.retraining_plan import PlannedFeatures, RetrainingPlan
from prediction_contract.jobs.retraining_range import RetrainingRange
from prediction_contract.jobs.verdict import InvalidVerdictError, Verdict
from prediction_contract.naming.batch import Partition
from prediction_contract.naming.s3_layout import PLAN_NAME, retraining_claim_key, retraining_prefix
from prediction_contract.registry.version_records import ModelVersion
from sagemaker_scripts.features.feature_store import FeatureSet, newest_features, partitions_between
from sagemaker_scripts.features.preparation import write_partitions
from sagemaker_scripts.learning.registered_models import VersionRegistry, as_pinned_model, champion_of
from sagemaker_scripts.retraining.range_planning import find_or_make_range

_LOG = logging.getLogger(__name__)
# A plan of ten thousand partitions has about two million bytes.
_LARGEST_PLAN = 64 * 1024 * 1024
_LARGEST_CLAIM = 64 * 1024
LARGEST_VERDICT = 16 * 1024 * 1024
# After this number of consecutive candidates no better than naive, including this one, a person must look.
MAX_BELOW_BASELINES = 3


class RetrainingPlanError(ContractError):
    """A retraining cannot be planned, or a step's data differs from the plan."""


class PlanningRegistry(VersionRegistry, Protocol):
    """The part of the registry that a plan reads."""

    def model_versions(self, model: str, *, page_size: int | None = None) -> Iterator[ModelVersion]:
        """Yield the records of a model's versions, newest first."""
        ...


def find_or_make_plan(
    arguments: PlanRetrainingArguments,
    store: ObjectStore,
    registry: PlanningRegistry,
    inputs: ModelInputs,
    *,
    now: datetime,
) -> RetrainingPlan:
    """Return the plan of an execution; the first call makes it, and later calls return the same.

    The plan has no features if another execution has claimed the same range of partitions.

    Args:
        arguments: The job's arguments.
        store: The data bucket.
        registry: The registry, read for the champion and the newest versions.
        inputs: The model's inputs.
        now: The current time, with a time zone.

    Raises:
        ContractError: There are too few partitions to learn from, features cannot be prepared, or the
            champion was trained on held-out partitions.
    """
    key = _plan_key(arguments)
    if store.find(key, largest=_LARGEST_PLAN) is None:
        store.put_new(key, _made(arguments, store, registry, inputs, now).to_bytes())
    # Another run of the same execution may have written the plan first.
    return found_plan(arguments, store)


def found_plan(arguments: RetrainingStepArguments, store: ObjectStore) -> RetrainingPlan:
    """Return the existing plan of an execution.

    Raises:
        InputMissingError: There is no plan.
        RetrainingPlanError: The plan is for another model, code or declaration.
    """
    plan = RetrainingPlan.parse(store.get(_plan_key(arguments), largest=_LARGEST_PLAN))
    for name in ("model", "execution_id", "code_version", "inputs_key", "schema_key"):
        planned, wanted = getattr(plan, name), getattr(arguments, name)
        if planned != wanted:
            raise RetrainingPlanError(
                f"The retraining was planned with {name} {planned}, but this job has {wanted}",
                remedy="Start a new retraining",
                model=arguments.model,
            )
    return plan


def _plan_key(arguments: RetrainingStepArguments) -> str:
    return f"{retraining_prefix(arguments.model, arguments.execution_id)}{PLAN_NAME}"


def _made(
    arguments: PlanRetrainingArguments,
    store: ObjectStore,
    registry: PlanningRegistry,
    inputs: ModelInputs,
    now: datetime,
) -> RetrainingPlan:
    model = arguments.model
    span = find_or_make_range(arguments, store, is_judged=bool(inputs.metrics), now=now)
    pointer = registry.champion(model)
    # After a demotion there may be no champion. Then the candidate is judged like the first one.
    champion = None if pointer is None or pointer.version is None else champion_of(registry, model)
    trained_until = None if champion is None else champion.trained_until
    require_unseen_outcomes(trained_until, span.first_held_out, model)
    claimed_by = _claimed_by(arguments, span, store)
    features: tuple[PlannedFeatures, ...] = ()
    if claimed_by == arguments.execution_id:
        features = tuple(
            PlannedFeatures(partition=each.partition, prefix=each.prefix, digest=each.digest)
            for each in _prepared(arguments, span, store, inputs)
        )
    else:
        _LOG.info("execution %s already works on this range", claimed_by)
    return RetrainingPlan(
        model=str(model),
        execution_id=arguments.execution_id,
        attempt=arguments.attempt,
        claimed_by=claimed_by,
        cause=arguments.cause,
        requested_by=arguments.requested_by,
        code_version=arguments.code_version,
        inputs_key=arguments.inputs_key,
        schema_key=arguments.schema_key,
        first_partition=span.first,
        last_partition=span.last,
        first_held_out=span.first_held_out,
        last_held_out=span.last_held_out,
        features=features,
        champion=None if champion is None else as_pinned_model(champion),
        champion_sequence=0 if pointer is None else pointer.sequence,
        champion_trained_until=trained_until,
        candidates_below_baselines=_candidates_below_baselines(registry, store, model),
    )


def require_unseen_outcomes(trained_until: str | None, first_held_out: str | None, model: str) -> None:
    """Refuse to judge a champion on partitions that it was trained on.

    Raises:
        RetrainingPlanError: The champion was trained on a held-out partition.
    """
    if trained_until is None or first_held_out is None:
        return
    if Partition(trained_until).end > Partition(first_held_out).start:
        raise RetrainingPlanError(
            f"The champion was trained on partitions up to {trained_until}, so it knows outcomes of the "
            f"held-out partitions, which begin with {first_held_out}",
            remedy="Retrain up to a later partition, so that all held-out partitions come after "
            f"{trained_until}, or declare a smaller `held_out`",
            model=model,
        )


def _claimed_by(arguments: PlanRetrainingArguments, span: RetrainingRange, store: ObjectStore) -> str:
    """Return the execution that first claimed this range, code and attempt."""
    key = retraining_claim_key(arguments.model, span.digest(arguments.code_version, arguments.attempt))
    own = json.dumps({"execution_id": arguments.execution_id}).encode()
    content = own if store.put_new(key, own) else store.get(key, largest=_LARGEST_CLAIM)
    try:
        return str(json.loads(content)["execution_id"])
    except (KeyError, TypeError, ValueError, RecursionError) as error:
        raise RetrainingPlanError(
            f"The claim s3://{store.bucket}/{key} cannot be read",
            remedy="Start the next attempt at this range",
            model=arguments.model,
        ) from error


def _prepared(
    arguments: PlanRetrainingArguments,
    span: RetrainingRange,
    store: ObjectStore,
    inputs: ModelInputs,
) -> list[FeatureSet]:
    """Return the features of all partitions and the two after them; missing features are prepared."""
    model, newest = arguments.model, span.newest
    after, second = newest.later(1), newest.later(2)
    wanted: list[str] = [*partitions_between(span.first, newest), after, second]
    found = {each: _usable(inputs, newest_features(store, model, each)) for each in wanted}
    # It has begun, because the one before has ended. Features prepared before a partition begins could later
    # be mistaken for complete ones.
    can_be_prepared = PartitionSchedule.parse(arguments.schedule).has(after)
    kept_missing = {second} if inputs.outcomes and can_be_prepared else {after, second}
    missing = [each for each, features in found.items() if features is None and each not in kept_missing]
    if missing:
        written = write_partitions(
            inputs,
            store,
            missing,
            run_id=arguments.execution_id,
            code_version=arguments.code_version,
            optional={after},
        )
        found |= {each.partition: each for each in written}
    return [features for each in wanted if (features := found[each]) is not None]


def _usable(inputs: ModelInputs, found: FeatureSet | None) -> FeatureSet | None:
    """Return the features; None if they were prepared when the model had no outcomes."""
    return None if found is not None and inputs.outcomes and found.outcomes is None else found


def _candidates_below_baselines(registry: PlanningRegistry, store: ObjectStore, model: str) -> int:
    """Return the number of consecutive newest versions that were no better than naive."""
    count = 0
    for version in registry.model_versions(model, page_size=MAX_BELOW_BASELINES - 1):
        if count == MAX_BELOW_BASELINES - 1 or version.verdict_key is None:
            break
        if _beats_baselines(store, version.verdict_key):
            break
        count += 1
    return count


def _beats_baselines(store: ObjectStore, verdict_key: str) -> bool:
    """Return whether a version beat the baselines; also true if its verdict does not tell."""
    content = store.find(verdict_key, largest=LARGEST_VERDICT)
    try:
        metrics = () if content is None else Verdict.parse(content).metrics
    except InvalidVerdictError:
        return True
    return not metrics or metrics[0].beats_baselines
