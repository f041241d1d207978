"""The package groups of models, and SageMaker pipelines with their schedules."""

from __future__ import annotations

import json
import logging
from typing import TYPE_CHECKING, Any

from infra.local.provisioning.clients import none_on_error

if TYPE_CHECKING:
    from collections.abc import Iterable

    from infra.definitions.pipeline_definitions import (
        PackageGroupDefinition,
        PipelineDefinition,
        ScheduleDefinition,
    )

_LOG = logging.getLogger(__name__)
# SageMaker has no specific error for a missing group.
_NO_GROUP = "ValidationException"


def ensure_package_group(sagemaker: Any, group: PackageGroupDefinition) -> None:
    """Create the group or update its policy to the definition; versions stay."""
    place = {"ModelPackageGroupName": group.name}
    if none_on_error(_NO_GROUP, sagemaker.describe_model_package_group, **place) is None:
        sagemaker.create_model_package_group(**place, ModelPackageGroupDescription=group.description)
        _LOG.info("created model package group %s", group.name)
    found = none_on_error(_NO_GROUP, sagemaker.get_model_package_group_policy, **place)
    if found is None or json.loads(found["ResourcePolicy"]) != group.policy:
        sagemaker.put_model_package_group_policy(**place, ResourcePolicy=json.dumps(group.policy))
        _LOG.info("set the policy of model package group %s", group.name)


def ensure_pipelines(
    sagemaker: Any, scheduler: Any, pipelines: Iterable[PipelineDefinition], *, prefix: str
) -> None:
    """Create or repair pipelines and their schedules. Running executions keep the definition they began with.

    Schedules of this kind that are no longer declared are deleted.

    Args:
        sagemaker: A client of SageMaker.
        scheduler: A client of EventBridge Scheduler.
        pipelines: All pipelines of one kind.
        prefix: The prefix of this kind's names.
    """
    scheduled = set()
    for pipeline in pipelines:
        _ensure_pipeline(sagemaker, pipeline)
        if pipeline.schedule is not None:
            _ensure_schedule(scheduler, pipeline.name, pipeline.schedule)
            scheduled.add(pipeline.name)
    for page in scheduler.get_paginator("list_schedules").paginate(NamePrefix=prefix):
        for name in {each["Name"] for each in page["Schedules"]} - scheduled:
            scheduler.delete_schedule(Name=name)
            _LOG.info("created no schedule for %s: it declares none", name)


def _ensure_pipeline(sagemaker: Any, pipeline: PipelineDefinition) -> None:
    wanted = {
        "PipelineDescription": pipeline.description,
        "RoleArn": pipeline.role_arn,
        "PipelineDefinition": pipeline.body,
    }
    current = none_on_error("ResourceNotFound", sagemaker.describe_pipeline, PipelineName=pipeline.name)
    if current is None:
        sagemaker.create_pipeline(PipelineName=pipeline.name, **wanted)
        _LOG.info("created pipeline %s", pipeline.name)
    elif drifted := sorted(name for name, value in wanted.items() if current.get(name) != value):
        sagemaker.update_pipeline(PipelineName=pipeline.name, **wanted)
        _LOG.info("set %s of pipeline %s", ", ".join(drifted), pipeline.name)


def _ensure_schedule(scheduler: Any, name: str, schedule: ScheduleDefinition) -> None:
    wanted = {
        "Description": schedule.description,
        "ScheduleExpression": schedule.expression,
        "ScheduleExpressionTimezone": "UTC",
        "FlexibleTimeWindow": {"Mode": "OFF"},
        "State": schedule.state,
        "Target": {
            "Arn": schedule.target_arn,
            "RoleArn": schedule.role_arn,
            "Input": schedule.input,
            "RetryPolicy": {
                "MaximumEventAgeInSeconds": schedule.max_event_age_seconds,
                "MaximumRetryAttempts": schedule.max_retries,
            },
            "DeadLetterConfig": {"Arn": schedule.dead_letter_arn},
        },
    }
    current = none_on_error("ResourceNotFoundException", scheduler.get_schedule, Name=name)
    if current is None:
        scheduler.create_schedule(Name=name, **wanted)
        _LOG.info("created schedule %s", name)
    elif drifted := sorted(setting for setting, value in wanted.items() if current.get(setting) != value):
        # The update replaces the whole schedule, so send all of it.
        scheduler.update_schedule(Name=name, **wanted)
        _LOG.info("set %s of schedule %s", ", ".join(drifted), name)
