"""Tests that docs/costs.md counts the resources that the templates of `prod` hold."""

from __future__ import annotations

from typing import TYPE_CHECKING

import pytest

from infra.cost_estimate import PAGE, Sheet, recomputed
from tests.infra.cdk.templates import AWAY, EXAMPLES, HOME, STACKS, belongs_to_added_model

if TYPE_CHECKING:
    from tests.infra.cdk.templates import Templates

STAGE = "prod"
APIS = (f"api-{HOME}", f"api-{AWAY}")


@pytest.fixture(scope="module")
def quantities() -> dict[str, float]:
    """Return the page's quantities for a million predictions a day, by name."""
    sheet = Sheet()
    recomputed(PAGE.read_text(encoding="utf-8"), sheet)
    return {name: figures[1] for name, figures in sheet.values.items()}


def count(templates: Templates, kind: str, *stacks: str) -> int:
    """Return how many resources of a type there are."""
    return sum(len(templates.found(STAGE, stack, kind)) for stack in stacks or STACKS)


def test_fixed_resources_are_counted(templates: Templates, quantities: dict[str, float]) -> None:
    """The page counts services, NAT gateways, endpoints, secrets and alarms as the templates do."""
    endpoints = [
        each
        for each in templates.properties(STAGE, "orchestration", "AWS::EC2::VPCEndpoint")
        if each["VpcEndpointType"] == "Interface"
    ]
    assert len(endpoints) == quantities["endpoints"]
    assert {len(each["SubnetIds"]) for each in endpoints} == {quantities["zones"]}
    assert count(templates, "AWS::EC2::NatGateway") == quantities["nat_gateways"]
    assert count(templates, "AWS::ECS::Service") == quantities["services"]
    assert count(templates, "AWS::SecretsManager::Secret") == quantities["secrets"] - quantities["regions"]
    assert quantities["models"] == len(EXAMPLES)
    alarms = [
        each for stack in STACKS for each in templates.found(STAGE, stack, "AWS::CloudWatch::Alarm").values()
    ]
    assert len([each for each in alarms if not belongs_to_added_model(STAGE, each)]) == quantities["alarms"]
    assert count(templates, "AWS::CloudWatch::Dashboard") == 1
    assert count(templates, "AWS::KMS::Key") == 1
    balancers = "AWS::ElasticLoadBalancingV2::LoadBalancer"
    assert [count(templates, balancers, stack) for stack in ("orchestration", *APIS)] == [1, 1, 1]


def test_every_table_replica_is_counted(templates: Templates, quantities: dict[str, float]) -> None:
    """Each table has a restorable replica in every region that the page counts."""
    for table in templates.properties(STAGE, "data", "AWS::DynamoDB::GlobalTable"):
        assert len(table["Replicas"]) == quantities["regions"]
        for replica in table["Replicas"]:
            assert replica["PointInTimeRecoverySpecification"]["PointInTimeRecoveryEnabled"] is True


@pytest.mark.parametrize("stack", APIS)
def test_serving_resources_are_counted(
    templates: Templates, quantities: dict[str, float], stack: str
) -> None:
    """The page's zones, firewall rules, log retention, scaling and health checks match the templates."""
    (balancer,) = templates.properties(STAGE, stack, "AWS::ElasticLoadBalancingV2::LoadBalancer")
    assert len(balancer["Subnets"]) == quantities["zones"]
    assert len(templates.one(STAGE, stack, "AWS::WAFv2::WebACL")["Rules"]) == quantities["firewall_rules"]
    days = {each["RetentionInDays"] for each in templates.properties(STAGE, stack, "AWS::Logs::LogGroup")}
    assert days == {30, 30 * quantities["line_months"]}
    logs = templates.one(STAGE, stack, "AWS::S3::Bucket")["LifecycleConfiguration"]["Rules"]
    assert [rule["ExpirationInDays"] for rule in logs] == [quantities["access_days"]]
    policy = templates.one(STAGE, stack, "AWS::ApplicationAutoScaling::ScalingPolicy")
    assert policy["TargetTrackingScalingPolicyConfiguration"]["TargetValue"] == 0.7
    check = templates.one(STAGE, stack, "AWS::Route53::HealthCheck")["HealthCheckConfig"]
    assert (check["Type"], check["RequestInterval"]) == ("HTTPS", 30)
    function = templates.one(STAGE, stack, "AWS::Lambda::Function")
    assert function["TracingConfig"] == {"Mode": "Active"}
    assert "MLPIPE_POINTER_CACHE_SECONDS" not in function["Environment"]["Variables"]
