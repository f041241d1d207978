"""Dagster's tasks: by whose rights they work, where their secrets lie, and who may talk to whom."""

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
def test_each_task_works_by_its_own_rights(templates: Templates, stage: str) -> None:
    """Sensors run in the code location, with the daemon's; only runs start jobs and publish."""
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
        # The daemon may start the family of runs and no other.
        assert task["Family"] == f"{deployment.dagster_cluster}-{name}"
    assert found["run"]["Family"] == deployment.dagster_run_family


@pytest.mark.parametrize("stage", STAGES)
@pytest.mark.parametrize("name", TASKS)
def test_a_task_runs_on_fargate_as_nobody_in_particular(templates: Templates, stage: str, name: str) -> None:
    """On the processor that the image is built for, with the log that the execution role may write."""
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
def test_a_secret_variable_is_one_field_of_a_secret(templates: Templates, stage: str, name: str) -> None:
    """ECS takes `<ARN>:<field>::`; Snowflake's stand in the stack Data's secret, Postgres's in this one's."""
    (container,) = tasks(templates, stage)[name]["ContainerDefinitions"]
    found = {each["Name"]: each["ValueFrom"]["Fn::Join"][1] for each in container["Secrets"]}
    fields = {name: field for name, (_, field) in found.items()}
    # Web server and daemon load no definitions: Snowflake is none of their business.
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
def test_images_are_pushed_before_services_are_made(templates: Templates, stage: str) -> None:
    """Their repository stands in another stack: services that cannot start undo their stack."""
    name = SETTINGS[stage].deployment().dagster_image_repository
    names = {each["RepositoryName"] for each in templates.properties(stage, "data", "AWS::ECR::Repository")}
    assert names == {name}
    assert templates.found(stage, STACK, "AWS::ECR::Repository") == {}
    for task in tasks(templates, stage).values():
        image = task["ContainerDefinitions"][0]["Image"]["Fn::Join"][1]
        assert image[-2:] == [f"/{name}:", {"Ref": "DagsterImageTag"}]


def group(reference: Any) -> str:
    """Return a security group's name without what the CDK adds to it, or the addresses."""
    return reference["Fn::GetAtt"][0][:-8] if isinstance(reference, dict) else reference


@pytest.mark.parametrize("stage", STAGES)
def test_nobody_talks_to_whom_they_need_not(templates: Templates, stage: str) -> None:
    """Tasks reach Postgres, their code and the world's HTTPS; people the load balancer, and it the tasks."""
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
                    # A group without rules would let everything out; this one matches nothing.
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
def test_what_stands_in_the_network_is_in_its_own_group(templates: Templates, stage: str) -> None:
    """Endpoints answer by the names that SDKs use anyway; the database lies where no route leads out."""
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
def test_the_web_server_is_asked_over_tls_alone(templates: Templates, stage: str) -> None:
    """One listener, which hands on to the port that the container opens."""
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
