"""Tests that every log group that a service writes to is in the same stack and expires."""

from __future__ import annotations

from typing import TYPE_CHECKING, Any

import pytest

from tests.infra.cdk.templates import STACKS, STAGES

if TYPE_CHECKING:
    from collections.abc import Iterator

    from tests.infra.cdk.templates import Templates


def written(kind: str, properties: dict[str, Any]) -> Iterator[str]:
    """Yield the log groups that AWS writes to on behalf of a resource."""
    if kind == "AWS::Glue::Job":
        prefix = properties["DefaultArguments"].get("--custom-logGroup-prefix", "/aws-glue/jobs")
        yield from (f"{prefix}/output", f"{prefix}/error")
    if kind == "AWS::RDS::DBInstance":
        instance = properties.get("DBInstanceIdentifier", "a name that RDS makes up")
        for log in properties["EnableCloudwatchLogsExports"]:
            yield f"/aws/rds/instance/{instance}/{log}"
    if kind == "AWS::ECS::Cluster":
        assert properties["ClusterSettings"] == [{"Name": "containerInsights", "Value": "enabled"}]
        yield f"/aws/ecs/containerinsights/{properties['ClusterName']}/performance"
    if kind == "AWS::ECS::TaskDefinition":
        for container in properties["ContainerDefinitions"]:
            yield container["LogConfiguration"]["Options"]["awslogs-group"]
    if kind == "AWS::Lambda::Function":
        yield properties["LoggingConfig"]["LogGroup"]["Ref"]
    if kind == "AWS::WAFv2::LoggingConfiguration":
        yield from (arn.rpartition("log-group:")[2] for arn in properties["LogDestinationConfigs"])


@pytest.mark.parametrize("stage", STAGES)
def test_service_logs_expire(templates: Templates, stage: str) -> None:
    """Every log group has a retention, because one that a service creates itself is kept for ever."""
    seen: set[str] = set()
    for stack in STACKS:
        resources = templates.template(stage, stack)["Resources"]
        groups = templates.found(stage, stack, "AWS::Logs::LogGroup")
        for group in groups.values():
            assert 1 <= group["Properties"]["RetentionInDays"] <= 90
        named = {each["Properties"]["LogGroupName"] for each in groups.values()} | set(groups)
        for resource in resources.values():
            for group in written(resource["Type"], resource.get("Properties", {})):
                assert group in named, group
                seen.add(resource["Type"])
    assert len(seen) == 6


@pytest.mark.parametrize("stage", STAGES)
def test_database_and_cluster_wait_for_their_log_groups(templates: Templates, stage: str) -> None:
    """RDS and ECS would create missing log groups, which CloudFormation could then no longer create."""
    groups = {
        each["Properties"]["LogGroupName"]: name
        for name, each in templates.found(stage, "orchestration", "AWS::Logs::LogGroup").items()
    }
    for kind, beginning in (("RDS::DBInstance", "/aws/rds/"), ("ECS::Cluster", "/aws/ecs/")):
        (resource,) = templates.found(stage, "orchestration", f"AWS::{kind}").values()
        (group,) = [name for title, name in groups.items() if title.startswith(beginning)]
        waits = resource["DependsOn"]
        assert group in ([waits] if isinstance(waits, str) else waits)
