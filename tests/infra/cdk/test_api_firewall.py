"""Tests of the firewall's rules and log in the templates, because the emulator has no firewall."""

from __future__ import annotations

import re
from typing import TYPE_CHECKING, Any

import pytest

from prediction_contract.limits import MAX_FUNCTION_REQUEST_BYTES
from prediction_contract.stores.serving_record import LONGEST_QUERY
from tests.infra.cdk.templates import AWAY, HOME, STAGES
from tests.infra.example_stages import STAGES as SETTINGS

if TYPE_CHECKING:
    from tests.infra.cdk.templates import Templates

REGIONS = [(stage, region) for stage in STAGES for region in (HOME, AWAY)]
OWN = ("too-many-requests", "unknown-method", "unknown-path", "long-query", "large-body")
GROUPS = (
    "AWSManagedRulesCommonRuleSet",
    "AWSManagedRulesKnownBadInputsRuleSet",
    "AWSManagedRulesAmazonIpReputationList",
)


def rules(templates: Templates, stage: str, region: str) -> dict[str, dict[str, Any]]:
    """Return the rules by name, in order of evaluation."""
    found = templates.one(stage, f"api-{region}", "AWS::WAFv2::WebACL")["Rules"]
    return {each["Name"]: each for each in sorted(found, key=lambda each: each["Priority"])}


@pytest.mark.parametrize(("stage", "region"), REGIONS)
def test_own_rules_block_and_aws_groups_decide_themselves(
    templates: Templates, stage: str, region: str
) -> None:
    """Requests that no rule refuses pass; every rule has a metric and keeps no sample of a request."""
    firewall = templates.one(stage, f"api-{region}", "AWS::WAFv2::WebACL")
    assert (firewall["Scope"], firewall["DefaultAction"]) == ("REGIONAL", {"Allow": {}})
    found = rules(templates, stage, region)
    assert tuple(found) == (*OWN, *GROUPS)
    assert [found[name]["Action"] for name in OWN] == [{"Block": {}}] * len(OWN)
    assert [found[name]["OverrideAction"] for name in GROUPS] == [{"None": {}}] * len(GROUPS)
    for each in (firewall, *found.values()):
        assert each["VisibilityConfig"] == {
            "CloudWatchMetricsEnabled": True,
            "MetricName": each["Name"],
            "SampledRequestsEnabled": False,
        }


@pytest.mark.parametrize(("stage", "region"), REGIONS)
def test_own_size_limits_replace_smaller_aws_limits(templates: Templates, stage: str, region: str) -> None:
    """AWS's size rules only count, because valid requests exceed them, and our own limits block."""
    found = rules(templates, stage, region)
    groups = [found[name]["Statement"]["ManagedRuleGroupStatement"] for name in GROUPS]
    assert [(each["VendorName"], each["Name"]) for each in groups] == [("AWS", name) for name in GROUPS]
    common, *others = groups
    assert common["RuleActionOverrides"] == [
        {"Name": f"SizeRestrictions_{part}", "ActionToUse": {"Count": {}}}
        for part in ("BODY", "QUERYSTRING", "URIPATH")
    ]
    assert [each["RuleActionOverrides"] for each in others] == [[], []]
    query = found["long-query"]["Statement"]["SizeConstraintStatement"]
    assert (query["ComparisonOperator"], query["Size"]) == ("GT", LONGEST_QUERY)
    assert query["FieldToMatch"] == {"QueryString": {}}
    body = found["large-body"]["Statement"]["RegexMatchStatement"]
    assert body["FieldToMatch"] == {"SingleHeader": {"Name": "content-length"}}
    assert not re.search(body["RegexString"], str(MAX_FUNCTION_REQUEST_BYTES - 1))
    assert re.search(body["RegexString"], str(MAX_FUNCTION_REQUEST_BYTES))


@pytest.mark.parametrize(("stage", "region"), REGIONS)
def test_methods_and_paths_are_matched_untransformed(templates: Templates, stage: str, region: str) -> None:
    """Methods and paths are not decoded, because an entity id may look like an encoding."""
    found = rules(templates, stage, region)
    for name, part in (("unknown-method", "Method"), ("unknown-path", "UriPath")):
        statement = found[name]["Statement"]["NotStatement"]["Statement"]["RegexMatchStatement"]
        assert statement["FieldToMatch"] == {part: {}}
        assert statement["TextTransformations"] == [{"Priority": 0, "Type": "NONE"}]


@pytest.mark.parametrize(("stage", "region"), REGIONS)
def test_firewall_log_group_is_created_before_logging(templates: Templates, stage: str, region: str) -> None:
    """The log group is named as WAF requires, kept 30 days, and gets only blocked or counted requests."""
    stack, name = f"api-{region}", SETTINGS[stage].deployment(region).firewall_log_group
    groups = templates.found(stage, stack, "AWS::Logs::LogGroup")
    (group,) = [key for key, each in groups.items() if each["Properties"]["LogGroupName"] == name]
    assert name.startswith("aws-waf-logs-")
    assert groups[group]["Properties"]["RetentionInDays"] == 30
    (logging,) = templates.found(stage, stack, "AWS::WAFv2::LoggingConfiguration").values()
    assert logging["DependsOn"] == [group]
    assert [each.rpartition(":")[2] for each in logging["Properties"]["LogDestinationConfigs"]] == [name]
    kept = logging["Properties"]["LoggingFilter"]
    assert kept["DefaultBehavior"] == "DROP"
    (what,) = kept["Filters"]
    assert (what["Behavior"], what["Requirement"]) == ("KEEP", "MEETS_ANY")
    actions = {condition["ActionCondition"]["Action"] for condition in what["Conditions"]}
    assert actions == {"BLOCK", "COUNT", "EXCLUDED_AS_COUNT"}
    firewall = {"Fn::GetAtt": ["Firewall", "Arn"]}
    assert logging["Properties"]["ResourceArn"] == firewall
    association = templates.one(stage, stack, "AWS::WAFv2::WebACLAssociation")
    assert association == {"ResourceArn": {"Ref": "LoadBalancer"}, "WebACLArn": firewall}
