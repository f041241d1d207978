"""The firewall in front of the load balancer: rates, sizes, methods and paths, and AWS's managed rules."""

from __future__ import annotations

import re
from typing import TYPE_CHECKING

import aws_cdk as cdk
from aws_cdk import aws_logs as logs
from aws_cdk import aws_wafv2 as wafv2

from infra.definitions.api_definitions import (
    DOCUMENTATION_PATHS,
    METHODS,
    PUBLIC_PATHS,
    VERSION_PREFIX,
)
from prediction_contract.limits import MAX_FUNCTION_REQUEST_BYTES
from prediction_contract.stores.serving_record import LONGEST_QUERY

if TYPE_CHECKING:
    from collections.abc import Callable

    from aws_cdk import aws_elasticloadbalancingv2 as balancing

    from infra.settings import StageSettings
    from prediction_contract.naming.resource_names import Deployment

_ACL = wafv2.CfnWebACL
# Legitimate requests have many entity ids in a body, an id of 2 KB in a path or field names in a query. Our
# own rules limit their sizes.
_COUNTED_ONLY = ("SizeRestrictions_BODY", "SizeRestrictions_QUERYSTRING", "SizeRestrictions_URIPATH")
_MANAGED = {
    "AWSManagedRulesCommonRuleSet": _COUNTED_ONLY,
    "AWSManagedRulesKnownBadInputsRuleSet": (),
    "AWSManagedRulesAmazonIpReputationList": (),
}


def known_methods() -> str:
    """Return a regular expression for the HTTP methods that the API answers."""
    return f"^({'|'.join(METHODS)})$"


def known_paths() -> str:
    """Return a regular expression for the paths that the API answers."""
    whole = "|".join(re.escape(path) for path in (*PUBLIC_PATHS, *DOCUMENTATION_PATHS))
    return f"^({whole})$|^{re.escape(VERSION_PREFIX)}"


def large_bodies() -> str:
    """Return a regular expression for a `Content-Length` that reaches the load balancer's limit."""
    return f"^[0-9]{{{len(str(MAX_FUNCTION_REQUEST_BYTES))},}}$"


def add_firewall(
    stack: cdk.Stack,
    settings: StageSettings,
    deployment: Deployment,
    balancer: balancing.CfnLoadBalancer,
) -> wafv2.CfnWebACL:
    """Add the firewall with its log, and attach it to the load balancer."""
    rules = [_rate(settings), *_own_rules(), *_managed_rules()]
    firewall = _ACL(
        stack,
        "Firewall",
        name=deployment.api_load_balancer,
        scope="REGIONAL",
        default_action=_ACL.DefaultActionProperty(allow={}),
        rules=[rule(priority) for priority, rule in enumerate(rules)],
        # The firewall's name in metrics, which the dashboard uses.
        visibility_config=_visibility(deployment.api_load_balancer),
    )
    wafv2.CfnWebACLAssociation(
        stack, "FirewallBeforeLoadBalancer", resource_arn=balancer.ref, web_acl_arn=firewall.attr_arn
    )
    group = logs.LogGroup(
        stack,
        "FirewallLogs",
        log_group_name=deployment.firewall_log_group,
        retention=logs.RetentionDays.ONE_MONTH,
        removal_policy=cdk.RemovalPolicy.DESTROY,
    )
    logging = wafv2.CfnLoggingConfiguration(
        stack,
        "FirewallLogging",
        resource_arn=firewall.attr_arn,
        # WAF takes the plain ARN, without the `:*` that CloudFormation appends.
        log_destination_configs=[deployment.log_group_arn(deployment.firewall_log_group)],
        redacted_fields=[
            wafv2.CfnLoggingConfiguration.FieldToMatchProperty(single_header={"Name": "authorization"})
        ],
        # The function logs the requests that came through, at a fraction of this log's price.
        logging_filter={
            "DefaultBehavior": "DROP",
            "Filters": [
                {
                    "Behavior": "KEEP",
                    "Requirement": "MEETS_ANY",
                    "Conditions": [
                        {"ActionCondition": {"Action": action}}
                        for action in ("BLOCK", "COUNT", "EXCLUDED_AS_COUNT")
                    ],
                }
            ],
        },
    )
    logging.node.add_dependency(group)
    return firewall


def _visibility(name: str) -> wafv2.CfnWebACL.VisibilityConfigProperty:
    return _ACL.VisibilityConfigProperty(
        cloud_watch_metrics_enabled=True, metric_name=name, sampled_requests_enabled=False
    )


def _rate(settings: StageSettings) -> Callable[[int], wafv2.CfnWebACL.RuleProperty]:
    statement = _ACL.StatementProperty(
        rate_based_statement=_ACL.RateBasedStatementProperty(
            aggregate_key_type="IP", limit=settings.api.requests_per_address
        )
    )
    return _blocking("too-many-requests", statement)


def _own_rules() -> list[Callable[[int], wafv2.CfnWebACL.RuleProperty]]:
    field = _ACL.FieldToMatchProperty
    length = field(single_header={"Name": "content-length"})
    return [
        _blocking("unknown-method", _not(_matches(known_methods(), field(method={})))),
        _blocking("unknown-path", _not(_matches(known_paths(), field(uri_path={})))),
        _blocking(
            "long-query",
            _ACL.StatementProperty(
                size_constraint_statement=_ACL.SizeConstraintStatementProperty(
                    comparison_operator="GT",
                    size=LONGEST_QUERY,
                    field_to_match=field(query_string={}),
                    text_transformations=_NO_TRANSFORMATION,
                )
            ),
        ),
        _blocking("large-body", _matches(large_bodies(), length)),
    ]


_NO_TRANSFORMATION = [_ACL.TextTransformationProperty(priority=0, type="NONE")]


def _matches(pattern: str, part: wafv2.CfnWebACL.FieldToMatchProperty) -> wafv2.CfnWebACL.StatementProperty:
    return _ACL.StatementProperty(
        regex_match_statement=_ACL.RegexMatchStatementProperty(
            regex_string=pattern, field_to_match=part, text_transformations=_NO_TRANSFORMATION
        )
    )


def _not(statement: wafv2.CfnWebACL.StatementProperty) -> wafv2.CfnWebACL.StatementProperty:
    return _ACL.StatementProperty(not_statement=_ACL.NotStatementProperty(statement=statement))


def _blocking(
    name: str, statement: wafv2.CfnWebACL.StatementProperty
) -> Callable[[int], wafv2.CfnWebACL.RuleProperty]:
    def rule(priority: int) -> wafv2.CfnWebACL.RuleProperty:
        return _ACL.RuleProperty(
            name=name,
            priority=priority,
            statement=statement,
            action=_ACL.RuleActionProperty(block={}),
            visibility_config=_visibility(name),
        )

    return rule


def _managed_rules() -> list[Callable[[int], wafv2.CfnWebACL.RuleProperty]]:
    return [_managed(group, counted) for group, counted in _MANAGED.items()]


def _managed(group: str, counted: tuple[str, ...]) -> Callable[[int], wafv2.CfnWebACL.RuleProperty]:
    def rule(priority: int) -> wafv2.CfnWebACL.RuleProperty:
        return _ACL.RuleProperty(
            name=group,
            priority=priority,
            statement=_ACL.StatementProperty(
                managed_rule_group_statement=_ACL.ManagedRuleGroupStatementProperty(
                    vendor_name="AWS",
                    name=group,
                    rule_action_overrides=[
                        _ACL.RuleActionOverrideProperty(
                            name=name, action_to_use=_ACL.RuleActionProperty(count={})
                        )
                        for name in counted
                    ],
                )
            ),
            override_action=_ACL.OverrideActionProperty(none={}),
            visibility_config=_visibility(group),
        )

    return rule
