"""Alarms about done files and loads in the home region, and about live batches in each serving region."""

from __future__ import annotations

from typing import TYPE_CHECKING

from aws_cdk import aws_events as events

from infra.capabilities.monitoring.alarms import Alarm, add_alarm
from prediction_contract.naming.resource_names import model_name_stem

if TYPE_CHECKING:
    from collections.abc import Iterable

    import aws_cdk as cdk

    from infra.provisioned_models import ProvisionedModel
    from infra.settings import StageSettings
    from prediction_contract.naming.resource_names import Deployment

_QUEUE = "AWS/SQS"
# The namespace of metrics in the API's log; see api_lambda/request_log.py.
_API_METRICS = "mlpipe"
_OLDEST_SECONDS = 900
FAILED_STATES = ("FAILED", "TIMEOUT", "ERROR", "EXPIRED")


def add_pipeline_alarms(
    stack: cdk.Stack, settings: StageSettings, models: Iterable[ProvisionedModel], topic_arn: str
) -> None:
    """Add the alarms, and the rules that report failed loads, SageMaker scorings and retrainings."""
    deployment = settings.deployment()
    declared = list(models)
    failed_loads = _failed_loads(stack, deployment, topic_arn)
    rules = [deployment.done_file_rule, deployment.model_events_rule, failed_loads]
    if scored := [model.name for model in declared if model.scheduled is not None]:
        rules.append(_failed_scorings(stack, deployment, scored, topic_arn))
    if retrained := [model.name for model in declared if model.retrained is not None]:
        rules.append(_failed_retrainings(stack, deployment, retrained, topic_arn))
    for alarm in (
        *_queue_alarms(deployment),
        _loads(failed_loads),
        *(_undelivered_events(deployment, rule) for rule in rules),
        *(_pointer(settings, deployment, model.name) for model in declared),
    ):
        add_alarm(stack, deployment, alarm, topic_arn)


def _failed_loads(stack: cdk.Stack, deployment: Deployment, topic_arn: str) -> str:
    """Add a rule that reports each failed run of the load job; return the rule's name."""
    name = deployment.alarm("failed-loads")
    events.CfnRule(
        stack,
        "FailedLoads",
        name=name,
        description="Reports failed load jobs",
        event_pattern={
            "source": ["aws.glue"],
            "detail-type": ["Glue Job State Change"],
            "detail": {"jobName": [deployment.load_job], "state": list(FAILED_STATES)},
        },
        targets=[events.CfnRule.TargetProperty(id="alarm-topic", arn=topic_arn)],
    )
    return name


def _failed_scorings(stack: cdk.Stack, deployment: Deployment, models: list[str], topic_arn: str) -> str:
    """Add a rule that reports failed scoring executions; return the rule's name.

    Dagster does not notice an execution that fails before it writes a done file.
    """
    arns = [deployment.scoring_pipeline_arn(model) for model in models]
    description = "Reports failed SageMaker scoring pipelines"
    return _failed_executions(stack, deployment.alarm("failed-scorings"), arns, description, topic_arn)


def _failed_retrainings(stack: cdk.Stack, deployment: Deployment, models: list[str], topic_arn: str) -> str:
    """Add a rule that reports failed retrainings, but not refused candidates; return the rule's name."""
    arns = [deployment.retraining_pipeline_arn(model) for model in models]
    description = "Reports failed retraining pipelines; the champion does not change"
    return _failed_executions(stack, deployment.alarm("failed-retrainings"), arns, description, topic_arn)


def _failed_executions(stack: cdk.Stack, name: str, arns: list[str], description: str, topic_arn: str) -> str:
    events.CfnRule(
        stack,
        f"Failed{name.rpartition('-')[2].capitalize()}",
        name=name,
        description=description,
        event_pattern={
            "source": ["aws.sagemaker"],
            "detail-type": ["SageMaker Model Building Pipeline Execution Status Change"],
            "detail": {"pipelineArn": arns, "currentPipelineExecutionStatus": ["Failed"]},
        },
        targets=[events.CfnRule.TargetProperty(id="alarm-topic", arn=topic_arn)],
    )
    return name


def _queue_alarms(deployment: Deployment) -> tuple[Alarm, ...]:
    return (
        Alarm(
            what="done-file-age",
            description="A done file has waited for 15 minutes: check that Dagster's daemon and sensor run",
            namespace=_QUEUE,
            metric="ApproximateAgeOfOldestMessage",
            dimensions={"QueueName": deployment.done_file_queue},
            statistic="Maximum",
            above=_OLDEST_SECONDS,
        ),
        Alarm(
            what="dead-letters",
            description="Messages wait in the dead-letter queue; docs/operations.md describes what to do",
            namespace=_QUEUE,
            metric="ApproximateNumberOfMessagesVisible",
            dimensions={"QueueName": deployment.dead_letter_queue},
            statistic="Maximum",
        ),
    )


def _loads(rule: str) -> Alarm:
    return Alarm(
        what="load-failures",
        description="A load job failed: mlpipe doctor names the batch",
        namespace="AWS/Events",
        metric="MatchedEvents",
        dimensions={"RuleName": rule},
    )


def _undelivered_events(deployment: Deployment, rule: str) -> Alarm:
    return Alarm(
        what=f"undelivered-{rule.removeprefix(deployment.alarm(''))}",
        description=f"The target of rule {rule} refuses its events: check the target's resource policy",
        namespace="AWS/Events",
        metric="FailedInvocations",
        dimensions={"RuleName": rule},
    )


def add_pointer_age_alarms(
    stack: cdk.Stack, settings: StageSettings, deployment: Deployment, models: Iterable[str], topic_arn: str
) -> None:
    """Add one alarm per model on the age of the live batch that the region's API serves."""
    for model in models:
        add_alarm(stack, deployment, _pointer(settings, deployment, model), topic_arn)


def _pointer(settings: StageSettings, deployment: Deployment, model: str) -> Alarm:
    return Alarm(
        what=f"pointer-age-{model_name_stem(model).replace('_', '-')}",
        description=f"The live batch of {model} is too old: mlpipe doctor shows why no newer one is live",
        namespace=_API_METRICS,
        metric="pointer_age",
        dimensions={"stage": deployment.stage, "model": model},
        statistic="Maximum",
        above=settings.pointer_hours * 3600,
        minutes=60,
        # Without requests nobody was served an old batch.
        silence="ignore",
    )
