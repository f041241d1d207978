"""The partitions that an execution trains and judges on: its first run chooses them for all later runs."""

from __future__ import annotations

from datetime import datetime

from prediction_batches.object_store import ObjectStore
from prediction_contract.jobs.argument_parsing import refuse_argument
from prediction_contract.jobs.partition_schedule import PartitionSchedule
from prediction_contract.jobs.retraining_arguments import NEWEST, NONE, PlanRetrainingArguments
from prediction_contract.jobs.retraining_range import RetrainingRange, newest_known_partition
from prediction_contract.naming.batch import Partition
from prediction_contract.naming.s3_layout import RANGE_NAME, retraining_prefix
from prediction_contract.text.utc_time import parse_utc

_LARGEST_RANGE = 64 * 1024


def find_or_make_range(
    arguments: PlanRetrainingArguments, store: ObjectStore, *, is_judged: bool, now: datetime
) -> RetrainingRange:
    """Return the range of an execution; the first call chooses it, and later calls return the same.

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
        return newest_known_partition(store.client, store.bucket, arguments.model, schedule)
    if not schedule.has(named):
        end = "" if schedule.end is None else f" and end before {schedule.end}"
        refuse_argument(
            argument,
            f"{named} is not a partition of {arguments.model}: `partitions` in its defs.yaml begin with "
            f"{schedule.start}{end}",
        )
    if named.end > now:
        refuse_argument(argument, f"{named} has not ended yet by this job's clock")
    return named
