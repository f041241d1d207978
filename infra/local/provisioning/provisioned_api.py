"""The API on the local stack: its function from the built archive, behind a load balancer."""

from __future__ import annotations

import base64
import logging
from typing import TYPE_CHECKING, Any

from infra.local.provisioning.clients import none_on_error

if TYPE_CHECKING:
    from infra.definitions.api_definitions import (
        FunctionDefinition,
        LoadBalancerDefinition,
        TargetGroupDefinition,
    )
    from infra.packaging import Archive

_LOG = logging.getLogger(__name__)
_STATEMENT = "load-balancer"
# Subnets of the emulator's default network; nothing is routed through them.
_SUBNETS = ["subnet-00000001", "subnet-00000002"]
_WAIT = {"Delay": 1, "MaxAttempts": 60}


def ensure_function(functions: Any, definition: FunctionDefinition, archive: Archive) -> str:
    """Create the function or update its code and settings to the definition; return its ARN."""
    name, wanted = definition.name, definition.configuration()
    digest = base64.b64encode(bytes.fromhex(archive.sha256)).decode()
    current = none_on_error(
        "ResourceNotFoundException", functions.get_function_configuration, FunctionName=name
    )
    if current is None:
        code = {"ZipFile": archive.path.read_bytes()}
        current = functions.create_function(FunctionName=name, Code=code, **wanted)
        functions.get_waiter("function_active_v2").wait(FunctionName=name, WaiterConfig=_WAIT)
        _LOG.info("created function %s of %d bytes", name, archive.size)
    if current["CodeSha256"] != digest:
        functions.update_function_code(FunctionName=name, ZipFile=archive.path.read_bytes())
        functions.get_waiter("function_updated_v2").wait(FunctionName=name, WaiterConfig=_WAIT)
        _LOG.info("updated the code of function %s: %d bytes", name, archive.size)
    drifted = sorted(key for key, value in wanted.items() if current.get(key) != value)
    if drifted:
        functions.update_function_configuration(FunctionName=name, **wanted)
        functions.get_waiter("function_updated_v2").wait(FunctionName=name, WaiterConfig=_WAIT)
        _LOG.info("set %s of function %s", ", ".join(drifted), name)
    return str(current["FunctionArn"])


def ensure_load_balancer(
    balancing: Any,
    functions: Any,
    definition: LoadBalancerDefinition,
    group: TargetGroupDefinition,
    function_arn: str,
) -> None:
    """Create or repair the load balancer, its listener and rules, and the target group."""
    group_arn = _ensure_target_group(balancing, group)
    _ensure_permission(functions, function_arn, group_arn)
    _ensure_target(balancing, group, group_arn, function_arn)
    found = _find(balancing.describe_load_balancers, "LoadBalancers", "LoadBalancerNotFound", definition.name)
    if found is None:
        answer = balancing.create_load_balancer(
            Name=definition.name, Subnets=_SUBNETS, Scheme="internal", Type="application"
        )
        found = answer["LoadBalancers"][0]
        _LOG.info("created load balancer %s", definition.name)
    _ensure_listener(balancing, definition, found["LoadBalancerArn"], group_arn)


def _find(describe: Any, key: str, absent: str, name: str) -> dict[str, Any] | None:
    answer = none_on_error(absent, describe, Names=[name])
    return answer[key][0] if answer and answer[key] else None


def _ensure_target_group(balancing: Any, group: TargetGroupDefinition) -> str:
    health = {
        "HealthCheckEnabled": True,
        "HealthCheckPath": group.health_check_path,
        "HealthCheckIntervalSeconds": group.health_check_seconds,
    }
    found = _find(balancing.describe_target_groups, "TargetGroups", "TargetGroupNotFound", group.name)
    if found is None:
        answer = balancing.create_target_group(Name=group.name, TargetType="lambda", **health)
        found = answer["TargetGroups"][0]
        _LOG.info("created target group %s", group.name)
    elif any(found.get(key) != value for key, value in health.items()):
        balancing.modify_target_group(TargetGroupArn=found["TargetGroupArn"], **health)
        _LOG.info("restored the health check of target group %s", group.name)
    arn = str(found["TargetGroupArn"])
    attributes = balancing.describe_target_group_attributes(TargetGroupArn=arn)["Attributes"]
    current = {attribute["Key"]: attribute.get("Value") for attribute in attributes}
    wanted = group.attributes()
    if any(current.get(key) != value for key, value in wanted.items()):
        balancing.modify_target_group_attributes(
            TargetGroupArn=arn, Attributes=[{"Key": key, "Value": value} for key, value in wanted.items()]
        )
        _LOG.info("set %s of target group %s", ", ".join(wanted), group.name)
    return arn


def _ensure_permission(functions: Any, function_arn: str, group_arn: str) -> None:
    none_on_error(
        "ResourceConflictException",
        functions.add_permission,
        FunctionName=function_arn,
        StatementId=_STATEMENT,
        Action="lambda:InvokeFunction",
        Principal="elasticloadbalancing.amazonaws.com",
        SourceArn=group_arn,
    )


def _ensure_target(balancing: Any, group: TargetGroupDefinition, group_arn: str, function_arn: str) -> None:
    health = balancing.describe_target_health(TargetGroupArn=group_arn)["TargetHealthDescriptions"]
    registered = [entry["Target"]["Id"] for entry in health]
    if registered == [function_arn]:
        return
    # A target group can have only one function.
    foreign = [{"Id": name} for name in registered if name != function_arn]
    if foreign:
        balancing.deregister_targets(TargetGroupArn=group_arn, Targets=foreign)
    balancing.register_targets(TargetGroupArn=group_arn, Targets=[{"Id": function_arn}])
    _LOG.info("set the target of target group %s", group.name)


def _ensure_listener(
    balancing: Any, definition: LoadBalancerDefinition, balancer_arn: str, group_arn: str
) -> None:
    # The emulator forwards by `TargetGroupArn` only; a `ForwardConfig` alone gives 502.
    forward = [{"Type": "forward", "TargetGroupArn": group_arn}]
    listeners = balancing.describe_listeners(LoadBalancerArn=balancer_arn)["Listeners"]
    if listeners:
        listener = listeners[0]
        if not _forwards_to(listener.get("DefaultActions", []), group_arn):
            balancing.modify_listener(ListenerArn=listener["ListenerArn"], DefaultActions=forward)
            _LOG.info("restored the default action of load balancer %s", definition.name)
    else:
        answer = balancing.create_listener(
            LoadBalancerArn=balancer_arn, Protocol="HTTP", Port=80, DefaultActions=forward
        )
        listener = answer["Listeners"][0]
        _LOG.info("created the listener of load balancer %s", definition.name)
    _ensure_rule(balancing, definition, listener["ListenerArn"], forward)


def _ensure_rule(
    balancing: Any, definition: LoadBalancerDefinition, listener_arn: str, forward: list[dict[str, Any]]
) -> None:
    priority, paths = str(definition.public_priority), list(definition.public_paths)
    conditions = [{"Field": "path-pattern", "Values": paths}]
    rules = balancing.describe_rules(ListenerArn=listener_arn)["Rules"]
    found = next((rule for rule in rules if rule["Priority"] == priority), None)
    if found is None:
        balancing.create_rule(
            ListenerArn=listener_arn,
            Priority=definition.public_priority,
            Conditions=conditions,
            Actions=forward,
        )
        _LOG.info("created the rule for public paths of load balancer %s", definition.name)
    elif _paths(found) != paths or not _forwards_to(found["Actions"], forward[0]["TargetGroupArn"]):
        balancing.modify_rule(RuleArn=found["RuleArn"], Conditions=conditions, Actions=forward)
        _LOG.info("restored the rule for public paths of load balancer %s", definition.name)


def _paths(rule: dict[str, Any]) -> list[str]:
    return [
        path
        for condition in rule["Conditions"]
        for path in condition.get("Values") or condition.get("PathPatternConfig", {}).get("Values", [])
    ]


def _forwards_to(actions: list[dict[str, Any]], group_arn: str) -> bool:
    return [(action.get("Type"), action.get("TargetGroupArn")) for action in actions] == [
        ("forward", group_arn)
    ]
