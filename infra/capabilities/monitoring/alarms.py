"""Alarms and the topics that receive them."""

from __future__ import annotations

from dataclasses import dataclass, field
from typing import TYPE_CHECKING, Any, Literal

from aws_cdk import aws_cloudwatch as cloudwatch
from aws_cdk import aws_sns as sns

from infra.permissions.policy_statements import POLICY_VERSION

if TYPE_CHECKING:
    from collections.abc import Mapping

    import aws_cdk as cdk

    from infra.settings import StageSettings
    from prediction_contract.naming.resource_names import Deployment


@dataclass(frozen=True, slots=True, kw_only=True)
class Alarm:
    """A watched metric and the threshold of its alarm.

    Attributes:
        what: The suffix of the alarm's name, such as `api-errors`.
        description: What the alarm means and what to do first.
        namespace: The metric's namespace.
        metric: The metric's name.
        dimensions: The metric's dimensions by name.
        statistic: `Sum`, `Maximum`, or a percentile such as `p99`.
        above: The threshold; the alarm goes off above it.
        minutes: The period of one data point.
        points: The number of successive data points that must all be above the threshold.
        silence: How CloudWatch treats missing data.
    """

    what: str
    description: str
    namespace: str
    metric: str
    dimensions: Mapping[str, str] = field(default_factory=dict)
    statistic: str = "Sum"
    above: float = 0
    minutes: int = 5
    points: int = 1
    silence: Literal["notBreaching", "breaching", "ignore"] = "notBreaching"


def add_alarm(stack: cdk.Stack, deployment: Deployment, alarm: Alarm, topic_arn: str) -> cloudwatch.CfnAlarm:
    """Add an alarm that also notifies when it ends."""
    percentile = alarm.statistic.startswith("p")
    return cloudwatch.CfnAlarm(
        stack,
        f"Alarm-{alarm.what}",
        alarm_name=deployment.alarm(alarm.what),
        alarm_description=alarm.description,
        namespace=alarm.namespace,
        metric_name=alarm.metric,
        dimensions=[
            cloudwatch.CfnAlarm.DimensionProperty(name=name, value=value)
            for name, value in alarm.dimensions.items()
        ],
        statistic=None if percentile else alarm.statistic,
        extended_statistic=alarm.statistic if percentile else None,
        comparison_operator="GreaterThanThreshold",
        threshold=alarm.above,
        period=alarm.minutes * 60,
        evaluation_periods=alarm.points,
        datapoints_to_alarm=alarm.points,
        treat_missing_data=alarm.silence,
        alarm_actions=[topic_arn],
        ok_actions=[topic_arn],
    )


def add_topic(
    stack: cdk.Stack,
    settings: StageSettings,
    name: str,
    arn: str,
    *services: str,
    takes_events: bool = False,
) -> sns.CfnTopicPolicy:
    """Add a topic on which services of this account publish; its subscriber is the stage's alarm address.

    Returns the topic's policy: services can publish only once the policy exists.

    Args:
        stack: The stack to add to.
        settings: The stage's settings.
        name: The topic's name.
        arn: The topic's ARN.
        services: Services that send `aws:SourceAccount`, such as `cloudwatch.amazonaws.com`.
        takes_events: Whether EventBridge rules also publish to it.
    """
    topic = sns.CfnTopic(stack, "AlarmTopic", topic_name=name, display_name=name)
    statements: list[dict[str, Any]] = [
        {
            "Sid": "ServicesOfThisAccountSend",
            "Effect": "Allow",
            "Principal": {"Service": list(services)},
            "Action": "sns:Publish",
            "Resource": arn,
            "Condition": {"StringEquals": {"aws:SourceAccount": settings.account_id}},
        },
        {
            "Sid": "TlsOnly",
            "Effect": "Deny",
            "Principal": "*",
            "Action": "sns:Publish",
            "Resource": arn,
            "Condition": {"Bool": {"aws:SecureTransport": "false"}},
        },
    ]
    if takes_events:
        # EventBridge sends no condition keys, so its statement in an SNS topic's policy has no condition.
        # https://docs.aws.amazon.com/eventbridge/latest/userguide/eb-use-resource-based.html#eb-sns-permissions
        statements.append(
            {
                "Sid": "EventRulesSend",
                "Effect": "Allow",
                "Principal": {"Service": "events.amazonaws.com"},
                "Action": "sns:Publish",
                "Resource": arn,
            }
        )
    document = {"Version": POLICY_VERSION, "Statement": statements}
    policy = sns.CfnTopicPolicy(stack, "AlarmTopicPolicy", topics=[topic.ref], policy_document=document)
    sns.CfnSubscription(
        stack, "AlarmAddress", topic_arn=topic.ref, protocol="email", endpoint=settings.alarm_address
    )
    return policy
