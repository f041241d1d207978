"""Alarms about the API in a region; the alarms about errors also roll a deployment back."""

from __future__ import annotations

from typing import TYPE_CHECKING

from infra.capabilities.monitoring.alarms import Alarm, add_alarm
from prediction_contract.naming.resource_names import model_name_stem

if TYPE_CHECKING:
    from collections.abc import Iterable

    import aws_cdk as cdk
    from aws_cdk import aws_elasticloadbalancingv2 as balancing

    from prediction_contract.naming.resource_names import Deployment

_BALANCER = "AWS/ApplicationELB"
_FUNCTION = "AWS/Lambda"
_SLOW_SECONDS = 2


def add_api_alarms(
    stack: cdk.Stack,
    deployment: Deployment,
    *,
    balancer: balancing.CfnLoadBalancer,
    target: balancing.CfnTargetGroup,
    models: Iterable[str],
    topic_arn: str,
) -> None:
    """Add the alarms."""
    at_balancer = {"LoadBalancer": balancer.attr_load_balancer_full_name}
    at_target = {**at_balancer, "TargetGroup": target.attr_target_group_full_name}
    at_alias = {
        "FunctionName": deployment.api_function,
        "Resource": f"{deployment.api_function}:{deployment.api_alias}",
    }
    tables = {"registry": deployment.registry_table} | {
        f"predictions-{model_name_stem(model)}": deployment.online_table(model) for model in models
    }
    for alarm in (
        *_causes_of_502(at_target),
        *_failing(at_balancer, at_alias),
        *_slow(at_balancer, at_alias),
        *(_throttled(what, table) for what, table in tables.items()),
    ):
        add_alarm(stack, deployment, alarm, topic_arn)


def _causes_of_502(at_target: dict[str, str]) -> tuple[Alarm, ...]:
    """Return alarms on the load balancer's metrics that tell the causes of a 502 apart."""
    return (
        Alarm(
            what="api-lambda-user-error",
            description="The function raised, timed out or returned a response that is invalid",
            namespace=_BALANCER,
            metric="LambdaUserError",
            dimensions=at_target,
        ),
        Alarm(
            what="api-lambda-internal-error",
            description="Lambda refused calls of the load balancer: throttling or no permission",
            namespace=_BALANCER,
            metric="LambdaInternalError",
            dimensions=at_target,
        ),
    )


def _failing(at_balancer: dict[str, str], at_alias: dict[str, str]) -> tuple[Alarm, ...]:
    return (
        Alarm(
            what="api-5xx",
            description="The API answers 5xx: the function's log has a line for each error",
            namespace=_BALANCER,
            metric="HTTPCode_Target_5XX_Count",
            dimensions=at_balancer,
            above=5,
        ),
        Alarm(
            what="api-balancer-5xx",
            description="The load balancer answers 5xx itself: it cannot reach or read the function",
            namespace=_BALANCER,
            metric="HTTPCode_ELB_5XX_Count",
            dimensions=at_balancer,
            above=5,
        ),
        Alarm(
            what="api-function-errors",
            description="Invocations of the function fail",
            namespace=_FUNCTION,
            metric="Errors",
            dimensions=at_alias,
        ),
    )


def _slow(at_balancer: dict[str, str], at_alias: dict[str, str]) -> tuple[Alarm, ...]:
    return (
        Alarm(
            what="api-latency",
            description="The slowest 1 % of responses take longer than two seconds",
            namespace=_BALANCER,
            metric="TargetResponseTime",
            dimensions=at_balancer,
            statistic="p99",
            above=_SLOW_SECONDS,
            points=3,
        ),
        Alarm(
            what="api-function-throttles",
            description="Lambda rejects requests above the account's concurrency limit: raise the limit",
            namespace=_FUNCTION,
            metric="Throttles",
            dimensions=at_alias,
        ),
        Alarm(
            what="api-cold-starts",
            description="Concurrent requests exceed the warm environments: raise most_warm_environments",
            namespace=_FUNCTION,
            metric="ProvisionedConcurrencySpilloverInvocations",
            dimensions=at_alias,
            points=3,
        ),
    )


def _throttled(what: str, table: str) -> Alarm:
    return Alarm(
        what=f"api-throttled-{what}",
        description=f"Reads of {table} are throttled in this region",
        namespace="AWS/DynamoDB",
        metric="ReadThrottleEvents",
        dimensions={"TableName": table},
        points=2,
    )
