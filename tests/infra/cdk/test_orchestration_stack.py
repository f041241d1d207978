"""Tests of how Dagster runs: one daemon, nothing public, secrets, and programs of the image."""

from __future__ import annotations

import json
import subprocess
import sys
from pathlib import Path
from typing import TYPE_CHECKING

import pytest

from tests.infra.cdk.dagster_tasks import containers
from tests.infra.cdk.synthesis import ROOT
from tests.infra.cdk.templates import STAGES
from tests.infra.dockerfiles import environment_variables
from tests.infra.example_stages import STAGES as SETTINGS

if TYPE_CHECKING:
    from tests.infra.cdk.templates import Templates

STACK = "orchestration"
DOCKERFILE = ROOT / "infra" / "images" / "dagster" / "Dockerfile"


@pytest.mark.parametrize("stage", STAGES)
def test_only_one_daemon_runs_at_a_time(templates: Templates, stage: str) -> None:
    """A deployment stops the old daemon before it starts the new one, while other services overlap."""
    services = {each["ServiceName"]: each for each in templates.properties(stage, STACK, "AWS::ECS::Service")}
    assert set(services) == {"code", "webserver", "daemon"}
    for name, service in services.items():
        settings = service["DeploymentConfiguration"]
        limits = (settings["MinimumHealthyPercent"], settings["MaximumPercent"])
        assert limits == ((0, 100) if name == "daemon" else (100, 200))
        assert service["DesiredCount"] == 1
        assert service["NetworkConfiguration"]["AwsvpcConfiguration"]["AssignPublicIp"] == "DISABLED"
        assert settings["DeploymentCircuitBreaker"] == {"Enable": True, "Rollback": True}
        # To rebalance tasks over zones, ECS starts a new one before it stops an old one.
        assert service.get("AvailabilityZoneRebalancing") == ("DISABLED" if name == "daemon" else None)


@pytest.mark.parametrize("stage", STAGES)
def test_postgres_is_private_encrypted_backed_up_and_pinned(templates: Templates, stage: str) -> None:
    """Postgres has a pinned major version, a secret password, and a standby if the stage wants one."""
    database = templates.one(stage, STACK, "AWS::RDS::DBInstance")
    # RDS upgrades minor versions by itself, so a pinned one would later mean a downgrade.
    assert database["AutoMinorVersionUpgrade"] is True
    assert database["EngineVersion"] == "17"
    assert database["StorageEncrypted"] is True
    assert database["PubliclyAccessible"] is False
    assert database["DeletionProtection"] is True
    assert database["BackupRetentionPeriod"] >= 14
    assert database["DeleteAutomatedBackups"] is False
    assert database["CACertificateIdentifier"] == "rds-ca-rsa2048-g1"
    assert database["MultiAZ"] is SETTINGS[stage].dagster.database_in_two_zones
    password = json.dumps(database["MasterUserPassword"])
    assert "{{resolve:secretsmanager:" in password
    assert "DatabaseSecret" in password


@pytest.mark.parametrize("stage", STAGES)
def test_tasks_read_secrets_from_secrets_manager(templates: Templates, stage: str) -> None:
    """No password or private key is among the plain variables of a task."""
    for container in containers(templates, stage).values():
        plain = {each["Name"] for each in container["Environment"]}
        secret = {each["Name"] for each in container["Secrets"]}
        assert "DAGSTER_POSTGRES_PASSWORD" in secret
        assert plain.isdisjoint(secret)
        assert [name for name in plain if "PASSWORD" in name or "PRIVATE_KEY" in name] == []


@pytest.mark.parametrize("stage", STAGES)
def test_web_server_is_internal(templates: Templates, stage: str) -> None:
    """The web server's load balancer is internal, and no security group admits the internet."""
    balancer = templates.one(stage, STACK, "AWS::ElasticLoadBalancingV2::LoadBalancer")
    assert balancer["Scheme"] == "internal"
    groups = templates.properties(stage, STACK, "AWS::EC2::SecurityGroup")
    for group in groups:
        assert all(each.get("CidrIp") != "0.0.0.0/0" for each in group.get("SecurityGroupIngress", []))
    endpoints = templates.properties(stage, STACK, "AWS::EC2::VPCEndpoint")
    assert {each["VpcEndpointType"] for each in endpoints} == {"Gateway", "Interface"}
    assert len([each for each in endpoints if each["VpcEndpointType"] == "Gateway"]) == 2


def test_tasks_start_installed_programs(templates: Templates) -> None:
    """Each task's command is an installed program that knows its options, with the image's workspace."""
    home = environment_variables(DOCKERFILE)["DAGSTER_HOME"]
    for container in containers(templates, "prod").values():
        program, *arguments = container["Command"]
        executable = Path(sys.executable).with_name(program)
        assert executable.exists()
        words = [each for each in arguments if not each.startswith("-")]
        options = [each for each in arguments if each.startswith("--")]
        subcommands = [each for each in words if each in {"code-server", "start", "run"}]
        shown = subprocess.run(
            [str(executable), *subcommands, "--help"], capture_output=True, text=True, timeout=60, check=True
        )
        assert [option for option in options if option not in shown.stdout] == []
        if "--workspace" in options:
            assert arguments[arguments.index("--workspace") + 1] == f"{home}/workspace.yaml"
