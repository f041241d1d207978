"""The range of an execution: its first run decides it, and all later runs use it."""

from __future__ import annotations

from collections.abc import Iterator
from datetime import datetime

from prediction_batches.object_store import ObjectStore
from prediction_contract.errors import InvalidNameError
from prediction_contract.jobs.argument_parsing import refuse_argument
from prediction_contract.jobs.partition_schedule import PartitionSchedule
from prediction_contract.jobs.retraining_arguments import NEWEST, NONE, PlanRetrainingArguments
from prediction_contract.jobs.retraining_range import RetrainingRange, RetrainingRangeError
from prediction_contract.naming.batch import Partition
from prediction_contract.naming.partition_kind import HOURLY, PartitionKind
from prediction_contract.naming.s3_layout import RANGE_NAME, model_features_prefix, retraining_prefix
from prediction_contract.text.utc_time import parse_utc
from sagemaker_scripts.features.feature_store import has_features

_LARGEST_RANGE = 64 * 1024


def settled_range(
    arguments: PlanRetrainingArguments, store: ObjectStore, *, is_judged: bool, now: datetime
) -> RetrainingRange:
    """Return the range of an execution; its first run decides it, and later runs return the same.

    Args:
        arguments: The job's arguments.
        store: The data bucket.
        is_judged: Whether partitions are held out.
        now: The current time, with a time zone.

    Raises:
        JobArgumentsError: The named partition is not one of the model's, or has not ended.
        RetrainingRangeError: No features are prepared, or too few partitions are left to learn from.
    """
    key = f"{retraining_prefix(arguments.model, arguments.execution_id)}{RANGE_NAME}"
    content = store.find(key, largest=_LARGEST_RANGE)
    if content is None:
        decided = RetrainingRange.up_to(
            _newest(arguments, store, now),
            model=arguments.model,
            start=PartitionSchedule.parse(arguments.schedule).start,
            window=arguments.window,
            held_out=arguments.held_out,
            gap=arguments.gap,
            is_judged=is_judged,
        ).to_bytes()
        content = decided if store.put_new(key, decided) else store.get(key, largest=_LARGEST_RANGE)
    return RetrainingRange.parse(content)


def _newest(arguments: PlanRetrainingArguments, store: ObjectStore, now: datetime) -> Partition:
    """Return the newest partition that the retraining may use."""
    schedule = PartitionSchedule.parse(arguments.schedule)
    if arguments.last_partition != NEWEST:
        named, argument = Partition(arguments.last_partition), "last_partition"
    elif arguments.scheduled_at != NONE:
        # The outcomes of a partition are in the features of the next partition.
        due = schedule.due_partition(parse_utc(arguments.scheduled_at))
        named, argument = due.earlier(1), "scheduled_at"
    else:
        return _newest_known(arguments.model, schedule, store)
    if not schedule.has(named):
        end = "" if schedule.end is None else f" and end before {schedule.end}"
        refuse_argument(
            argument,
            f"{named} is no partition of {arguments.model}: `partitions` in its defs.yaml begin with "
            f"{schedule.start}{end}",
        )
    if named.end > now:
        refuse_argument(argument, f"{named} has not ended by the clock of this job")
    return named


def _newest_known(model: str, schedule: PartitionSchedule, store: ObjectStore) -> Partition:
    """Return the newest partition with features whose next partition also has them, with its outcomes."""
    for partition in _prepared(model, schedule.start.kind, store):
        if (
            schedule.has(partition)
            and has_features(store, model, partition)
            and has_features(store, model, partition.later(1))
        ):
            return partition
    raise RetrainingRangeError(
        "No two consecutive partitions have features, so there is none whose outcomes are known",
        remedy=f"Prepare features, or name the last partition to use: `mlpipe retrain {model} --last "
        f"{schedule.start.kind.example}`",
        model=model,
    )


def _prepared(model: str, kind: PartitionKind, store: ObjectStore) -> Iterator[Partition]:
    """Yield the partitions of a kind for which features were written, newest first."""
    prefix = model_features_prefix(model)
    for folder in reversed(store.folders(prefix)):
        folders = [folder]
        if kind is HOURLY:
            folders = [f"{folder}/{hour}" for hour in reversed(store.folders(f"{prefix}{folder}/"))]
        for path in folders:
            try:
                partition = Partition.from_path(path)
            except InvalidNameError:
                continue
            if partition.kind is kind:
                yield partition
