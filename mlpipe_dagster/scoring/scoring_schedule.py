"""A model's schedule: each tick scores the last partition that ended, or the current one."""

from __future__ import annotations

import dagster as dg

from mlpipe_dagster.pipeline.asset_names import MODEL_TAG, score_job_name
from mlpipe_dagster.pipeline.model_partitions import why_no_partition
from model_declaration.declaration import ModelDeclaration


def scoring_schedule(
    declaration: ModelDeclaration, partitions: dg.PartitionsDefinition[str]
) -> dg.ScheduleDefinition:
    """Return the schedule of a model's score job; it is stopped unless declared as running."""
    declared = declaration.schedule

    def newest_partition(context: dg.ScheduleEvaluationContext) -> dg.RunRequest | dg.SkipReason:
        partition = declaration.partition_schedule.due_partition(context.scheduled_execution_time)
        if not partitions.has_partition_key(partition.dagster_key):
            what, _ = why_no_partition(declaration.name, partition, partitions)
            return dg.SkipReason(what)
        return dg.RunRequest(partition_key=partition.dagster_key)

    return dg.ScheduleDefinition(
        name=score_job_name(declaration.name),
        job_name=score_job_name(declaration.name),
        cron_schedule=declared.cron_of(declaration.partitions),
        execution_timezone="UTC",
        execution_fn=newest_partition,
        default_status=dg.DefaultScheduleStatus.RUNNING
        if declared.running
        else dg.DefaultScheduleStatus.STOPPED,
        tags={MODEL_TAG: declaration.name},
        description=f"Scores the {declared.partition} partition of {declaration.name}.",
    )
