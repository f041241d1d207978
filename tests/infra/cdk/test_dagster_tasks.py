"""Tests of Dagster's tasks: their roles, secrets, images and network access."""

from __future__ import annotations

from typing import TYPE_CHECKING, Any

import pytest

from tests.infra.cdk.dagster_tasks import tasks
from tests.infra.cdk.templates import HOME, STAGES
from tests.infra.example_stages import STAGES as SETTINGS

if TYPE_CHECKING:
    from tests.infra.cdk.templates import Templates

STACK = "orchestration"
TASKS = ("code", "daemon", "run", "webserver")
INTERFACES = ("ecr.api", "ecr.dkr", "glue", "logs", "sagemaker.api", "secretsmanager", "sqs", "sts")


@pytest.mark.parametrize("stage", STAGES)
def test_each_task_has_its_role(templates: Templates, stage: str) -> None:
    """Code location and daemon share a role; runs and web server have their own."""
    deployment = SETTINGS[stage].deployment()
    roles: dict[str, str] = {
        "code": deployment.dagster_daemon_role,
        "daemon": deployment.dagster_daemon_role,
        "run": deployment.dagster_run_role,
        "webserver": deployment.dagster_webserver_role,
    }
    found = tasks(templates, stage)
    assert set(found) == set(TASKS)
    for name, task in found.items():
        assert task["TaskRoleArn"] == deployment.role_arn(roles[name])
        assert task["ExecutionRoleArn"] == deployment.role_arn(deployment.dagster_execution_role)
        # The daemon's role may start only the family of runs.
        assert task["Family"] == f"{deployment.dagster_cluster}-{name}"
    assert found["run"]["Family"] == deployment.dagster_run_family


@pytest.mark.parametrize("stage", STAGES)
@pytest.mark.parametrize("name", TASKS)
def test_task_runs_on_fargate_as_unprivileged_user(templates: Templates, stage: str, name: str) -> None:
    """Each task runs on ARM as the user dagster, with the size of its stage and its log."""
    task = tasks(templates, stage)[name]
    assert (task["NetworkMode"], task["RequiresCompatibilities"]) == ("awsvpc", ["FARGATE"])
    assert task["RuntimePlatform"] == {"CpuArchitecture": "ARM64", "OperatingSystemFamily": "LINUX"}
    size, prefix = SETTINGS[stage].dagster, "run" if name == "run" else "service"
    limits = (str(getattr(size, f"{prefix}_cpu")), str(getattr(size, f"{prefix}_memory_mb")))
    assert (task["Cpu"], task["Memory"]) == limits
    (container,) = task["ContainerDefinitions"]
    assert container["User"] == "dagster"
    assert container["StopTimeout"] == 120
    assert container["LinuxParameters"] == {"InitProcessEnabled": True}
    assert container["LogConfiguration"] == {
        "LogDriver": "awslogs",
        "Options": {
            "awslogs-group": SETTINGS[stage].deployment().dagster_log_group,
            "awslogs-region": HOME,
            "awslogs-stream-prefix": name,
        },
    }


@pytest.mark.parametrize("stage", STAGES)
@pytest.mark.parametrize("name", TASKS)
def test_secret_variable_is_one_field_of_a_secret(templates: Templates, stage: str, name: str) -> None:
    """Snowflake's variables come from the data stack's secret, and Postgres's from the database's."""
    (container,) = tasks(templates, stage)[name]["ContainerDefinitions"]
    found = {each["Name"]: each["ValueFrom"]["Fn::Join"][1] for each in container["Secrets"]}
    fields = {name: field for name, (_, field) in found.items()}
    # Web server and daemon load no definitions, so they need no login to Snowflake.
    logs_in = ("account", "user", "password", "role") if name in {"code", "run"} else ()
    assert fields == {
        **{f"SNOWFLAKE_{each.upper()}": f":{each}::" for each in logs_in},
        "DAGSTER_POSTGRES_USER": ":username::",
        "DAGSTER_POSTGRES_PASSWORD": ":password::",
    }
    exported = templates.template(stage, "data")["Outputs"].values()
    (snowflake,) = [each for each in exported if each["Value"] == {"Ref": "SnowflakeConnection"}]
    secrets = {name: secret for name, (secret, _) in found.items()}
    for variable, secret in secrets.items():
        is_postgres = variable.startswith("DAGSTER_POSTGRES_")
        imported = {"Fn::ImportValue": snowflake["Export"]["Name"]}
        assert secret == ({"Ref": "DatabaseSecret"} if is_postgres else imported)


@pytest.mark.parametrize("stage", STAGES)
def test_image_repository_is_in_another_stack(templates: Templates, stage: str) -> None:
    """Dagster's image can be pushed before the services start, because its repository is in `data`."""
    name = SETTINGS[stage].deployment().dagster_image_repository
    names = {each["RepositoryName"] for each in templates.properties(stage, "data", "AWS::ECR::Repository")}
    assert names == {name}
    assert templates.found(stage, STACK, "AWS::ECR::Repository") == {}
    for task in tasks(templates, stage).values():
        image = task["ContainerDefinitions"][0]["Image"]["Fn::Join"][1]
        assert image[-2:] == [f"/{name}:", {"Ref": "DagsterImageTag"}]


def group(reference: Any) -> str:
    """Return a security group's name without the CDK's suffix, or an address range unchanged."""
    return reference["Fn::GetAtt"][0][:-8] if isinstance(reference, dict) else reference


@pytest.mark.parametrize("stage", STAGES)
def test_only_required_connections_are_allowed(templates: Templates, stage: str) -> None:
    """Security groups allow only the connections that load balancer, tasks and database need."""
    incoming, outgoing = set(), set()
    for kind, found, peer in (
        ("Ingress", incoming, "SourceSecurityGroupId"),
        ("Egress", outgoing, "DestinationSecurityGroupId"),
    ):
        for each in templates.properties(stage, STACK, f"AWS::EC2::SecurityGroup{kind}"):
            assert (each["IpProtocol"], each["ToPort"]) == ("tcp", each["FromPort"])
            found.add((group(each["GroupId"]), group(each[peer]), each["FromPort"]))
        for name, each in templates.found(stage, STACK, "AWS::EC2::SecurityGroup").items():
            for rule in each["Properties"].get(f"SecurityGroup{kind}", []):
                if rule["IpProtocol"] == "tcp":
                    assert rule["ToPort"] == rule["FromPort"]
                    found.add((name[:-8], rule["CidrIp"], rule["FromPort"]))
                else:
                    # A group without rules would allow all egress; this rule matches nothing.
                    assert (kind, rule["CidrIp"]) == ("Egress", "255.255.255.255/32")
    assert incoming == {
        ("BalancerGroup", templates.one(stage, STACK, "AWS::EC2::VPC")["CidrBlock"], 443),
        ("TaskGroup", "BalancerGroup", 3000),
        ("TaskGroup", "TaskGroup", 4000),
        ("DatabaseGroup", "TaskGroup", 5432),
        ("EndpointGroup", "TaskGroup", 443),
    }
    assert outgoing == {
        ("BalancerGroup", "TaskGroup", 3000),
        ("TaskGroup", "TaskGroup", 4000),
        ("TaskGroup", "DatabaseGroup", 5432),
        ("TaskGroup", "0.0.0.0/0", 443),
    }


@pytest.mark.parametrize("stage", STAGES)
def test_network_resources_have_their_groups_and_subnets(templates: Templates, stage: str) -> None:
    """Each resource has its own group, and database, services and load balancer no public subnets."""
    endpoints = templates.properties(stage, STACK, "AWS::EC2::VPCEndpoint")
    interfaces = [each for each in endpoints if each["VpcEndpointType"] == "Interface"]
    services = {each["ServiceName"].removeprefix(f"com.amazonaws.{HOME}.") for each in interfaces}
    assert services == set(INTERFACES)
    for each in interfaces:
        assert each["PrivateDnsEnabled"] is True
        assert [group(one) for one in each["SecurityGroupIds"]] == ["EndpointGroup"]
    database = templates.one(stage, STACK, "AWS::RDS::DBInstance")
    assert [group(each) for each in database["VPCSecurityGroups"]] == ["DatabaseGroup"]
    assert database["DBSubnetGroupName"] == {"Ref": "DatabaseSubnets"}
    subnets = templates.one(stage, STACK, "AWS::RDS::DBSubnetGroup")["SubnetIds"]
    assert all(each["Ref"].startswith("Networkisolated") for each in subnets)
    routes = templates.properties(stage, STACK, "AWS::EC2::Route")
    assert not [each for each in routes if each["RouteTableId"]["Ref"].startswith("Networkisolated")]
    for service in templates.properties(stage, STACK, "AWS::ECS::Service"):
        network = service["NetworkConfiguration"]["AwsvpcConfiguration"]
        assert [group(each) for each in network["SecurityGroups"]] == ["TaskGroup"]
        assert all(each["Ref"].startswith("Networkprivate") for each in network["Subnets"])
    balancer = templates.one(stage, STACK, "AWS::ElasticLoadBalancingV2::LoadBalancer")
    assert [group(each) for each in balancer["SecurityGroups"]] == ["BalancerGroup"]
    assert all(each["Ref"].startswith("Networkprivate") for each in balancer["Subnets"])


@pytest.mark.parametrize("stage", STAGES)
def test_web_server_is_reachable_over_tls_only(templates: Templates, stage: str) -> None:
    """The only listener uses TLS and forwards to the port that the container opens."""
    listener = templates.one(stage, STACK, "AWS::ElasticLoadBalancingV2::Listener")
    assert (listener["Port"], listener["Protocol"]) == (443, "HTTPS")
    assert listener["SslPolicy"] == "ELBSecurityPolicy-TLS13-1-2-2021-06"
    assert listener["DefaultActions"] == [{"Type": "forward", "TargetGroupArn": {"Ref": "WebTarget"}}]
    target = templates.one(stage, STACK, "AWS::ElasticLoadBalancingV2::TargetGroup")
    assert (target["TargetType"], target["Protocol"], target["Port"]) == ("ip", "HTTP", 3000)
    assert target["HealthCheckPath"] == "/server_info"
    services = templates.properties(stage, STACK, "AWS::ECS::Service")
    joined = {each["ServiceName"]: each["LoadBalancers"] for each in services if "LoadBalancers" in each}
    assert joined == {
        "webserver": [
            {"ContainerName": "webserver", "ContainerPort": 3000, "TargetGroupArn": {"Ref": "WebTarget"}}
        ]
    }
    (container,) = tasks(templates, stage)["webserver"]["ContainerDefinitions"]
    assert container["PortMappings"] == [{"ContainerPort": 3000}]
