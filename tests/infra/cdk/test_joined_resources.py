"""Tests that resources which refer to each other agree on names and values."""

from __future__ import annotations

import json
from fnmatch import fnmatchcase
from typing import TYPE_CHECKING, Any

import pytest

from infra.definitions.api_definitions import api_function, target_group
from infra.definitions.resource_definitions import (
    dead_letter_queue,
    done_file_queue,
    load_job,
    model_events_queue,
    token_issuer,
)
from model_declaration.declared_models import deployable_names
from tests.infra.cdk.templates import AWAY, HOME, STAGES
from tests.infra.example_stages import STAGES as SETTINGS
from tests.projects import EXAMPLE

if TYPE_CHECKING:
    from tests.infra.cdk.templates import Templates

API = [(stage, region) for stage in STAGES for region in (HOME, AWAY)]
BALANCING = "AWS::ElasticLoadBalancingV2"


def environment(templates: Templates, stage: str) -> dict[str, Any]:
    """Return the environment variables, which are the same in all of Dagster's tasks."""
    (first, *others) = templates.properties(stage, "orchestration", "AWS::ECS::TaskDefinition")
    found = first["ContainerDefinitions"][0]["Environment"]
    assert all(each["ContainerDefinitions"][0]["Environment"] == found for each in others)
    return {each["Name"]: each["Value"] for each in found}


@pytest.mark.parametrize("stage", STAGES)
def test_load_job_matches_its_definition(templates: Templates, stage: str) -> None:
    """The load job is the one of the local stack, except for the code, which the stack uploads."""
    job = templates.one(stage, "data", "AWS::Glue::Job")
    arguments = job["DefaultArguments"]
    code = (job["Command"]["ScriptLocation"], arguments["--extra-py-files"])
    definition = load_job(SETTINGS[stage].deployment(), code_urls=code)
    values = {**definition.job_update(), "Name": definition.name, "Role": {"Fn::GetAtt": ["LoadRole", "Arn"]}}
    assert {name: value for name, value in job.items() if name != "Tags"} == values
    assert [url.rpartition(".")[2] for url in code] == ["py", "zip"]


@pytest.mark.parametrize("stage", STAGES)
def test_load_role_can_read_every_file_of_its_job(templates: Templates, stage: str) -> None:
    """The load role may locate, list and read the job's script, package and wheels."""
    job = templates.one(stage, "data", "AWS::Glue::Job")
    values = (job["Command"]["ScriptLocation"], *job["DefaultArguments"].values())
    files = [url.removeprefix("s3://") for url in values if url.startswith("s3://")]
    assert [each.rpartition(".")[2] for each in files] == ["py", "zip", "zip"]
    role = templates.found(stage, "data", "AWS::IAM::Role")["LoadRole"]["Properties"]
    statements = role["Policies"][0]["PolicyDocument"]["Statement"]

    def granted(action: str, resource: str, key: str) -> bool:
        return any(
            action in each["Action"]
            and any(fnmatchcase(f"arn:aws:s3:::{resource}", pattern) for pattern in each["Resource"])
            and any(
                fnmatchcase(key, pattern)
                for pattern in each.get("Condition", {}).get("StringLike", {}).get("s3:prefix", ["*"])
            )
            for each in statements
        )

    for file in files:
        bucket, _, key = file.partition("/")
        assert granted("s3:GetBucketLocation", bucket, key), file
        assert granted("s3:ListBucket", bucket, key), file
        assert granted("s3:GetObject", file, key), file
    (code,) = [each for each in statements if each["Sid"] == "ReadJobCode"]
    assert code["Resource"] == [f"arn:aws:s3:::{each}" for each in files if "cdk-" in each]


@pytest.mark.parametrize("stage", STAGES)
def test_table_keys_and_queues_match_their_definitions(templates: Templates, stage: str) -> None:
    """Table keys are strings in order, and queues keep, hide and retry messages as defined."""
    for table in templates.properties(stage, "data", "AWS::DynamoDB::GlobalTable"):
        names = [each["AttributeName"] for each in table["KeySchema"]]
        assert [each["KeyType"] for each in table["KeySchema"]] == ["HASH", "RANGE"]
        assert {each["AttributeName"]: each["AttributeType"] for each in table["AttributeDefinitions"]} == (
            dict.fromkeys(names, "S")
        )
    deployment = SETTINGS[stage].deployment()
    queues = templates.found(stage, "data", "AWS::SQS::Queue")
    for name, definition in (
        ("DoneFiles", done_file_queue(deployment)),
        ("ModelEvents", model_events_queue(deployment)),
        ("DeadLetters", dead_letter_queue(deployment)),
    ):
        queue = queues[name]["Properties"]
        assert queue["VisibilityTimeout"] == definition.visibility_timeout_seconds
        assert queue["MessageRetentionPeriod"] == definition.retention_seconds
    for name in ("DoneFiles", "ModelEvents"):
        assert queues[name]["Properties"]["RedrivePolicy"]["maxReceiveCount"] == 5


@pytest.mark.parametrize("stage", STAGES)
def test_token_issuer_matches_the_tasks_variables(templates: Templates, stage: str) -> None:
    """Token domain and scope are those in the variables of Dagster's tasks."""
    issuer = token_issuer(SETTINGS[stage].deployment())
    values = environment(templates, stage)
    pool = {"Ref": "TokenPool"}
    domain = templates.one(stage, "data", "AWS::Cognito::UserPoolDomain")
    host = f"https://{domain['Domain']}.auth.{HOME}.amazoncognito.com"
    assert (domain["UserPoolId"], values["MLPIPE_TOKEN_URL"]) == (pool, f"{host}/oauth2/token")
    server = templates.one(stage, "data", "AWS::Cognito::UserPoolResourceServer")
    (scope,) = server["Scopes"]
    assert server["UserPoolId"] == pool
    assert values["MLPIPE_TOKEN_SCOPE"] == f"{server['Identifier']}/{scope['ScopeName']}"
    (client,) = templates.found(stage, "data", "AWS::Cognito::UserPoolClient").values()
    properties = client["Properties"]
    settings = issuer.client_settings()
    assert {name: properties[name] for name in settings} == settings
    assert (properties["UserPoolId"], properties["GenerateSecret"]) == (pool, True)
    # Cognito refuses a client whose scope does not exist yet.
    assert client["DependsOn"] == ["TokenScopes"]


@pytest.mark.parametrize("stage", STAGES)
def test_secrets_have_their_defined_names(templates: Templates, stage: str) -> None:
    """Secrets have the deployment's names, and only the database's gets a generated password."""
    deployment = SETTINGS[stage].deployment()
    found = {
        name: each["Properties"]
        for stack in ("data", "orchestration")
        for name, each in templates.found(stage, stack, "AWS::SecretsManager::Secret").items()
    }
    assert {name: each["Name"] for name, each in found.items()} == {
        "SnowflakeConnection": deployment.snowflake_secret,
        "TokenClientCredentials": deployment.token_client_secret,
        "DatabaseSecret": deployment.dagster_database_secret,
    }
    assert environment(templates, stage)["MLPIPE_TOKEN_CLIENT_SECRET_NAME"] == deployment.token_client_secret
    made = {name: each["GenerateSecretString"] for name, each in found.items() if len(each) > 3}
    assert set(made) == {"DatabaseSecret"}
    database = templates.one(stage, "orchestration", "AWS::RDS::DBInstance")
    assert json.loads(made["DatabaseSecret"]["SecretStringTemplate"]) == {
        "username": database["MasterUsername"]
    }
    assert made["DatabaseSecret"]["GenerateStringKey"] == "password"
    # Punctuation would have to be quoted in the URL of Postgres.
    assert made["DatabaseSecret"]["ExcludePunctuation"] is True
    assert made["DatabaseSecret"]["PasswordLength"] >= 32


@pytest.mark.parametrize("stage", STAGES)
def test_dagster_services_find_each_other(templates: Templates, stage: str) -> None:
    """Each service runs its own task, and finds code location and database by the tasks' variables."""
    values = environment(templates, stage)
    services = templates.properties(stage, "orchestration", "AWS::ECS::Service")
    assert {each["ServiceName"]: each["TaskDefinition"]["Ref"] for each in services} == {
        name: f"Task{name}" for name in ("code", "daemon", "webserver")
    }
    assert {(each["Cluster"]["Ref"], each["LaunchType"]) for each in services} == {("Cluster", "FARGATE")}
    cluster = templates.one(stage, "orchestration", "AWS::ECS::Cluster")
    assert cluster["ClusterName"] == SETTINGS[stage].deployment().dagster_cluster
    name = templates.one(stage, "orchestration", "AWS::ServiceDiscovery::Service")
    namespace = templates.one(stage, "orchestration", "AWS::ServiceDiscovery::PrivateDnsNamespace")
    assert values["MLPIPE_CODE_HOST"] == f"{name['Name']}.{namespace['Name']}"
    assert [each["Type"] for each in name["DnsConfig"]["DnsRecords"]] == ["A"]
    found = {
        each["ServiceName"]: each["ServiceRegistries"] for each in services if "ServiceRegistries" in each
    }
    assert found == {"code": [{"RegistryArn": {"Fn::GetAtt": ["CodeName", "Arn"]}}]}
    database = templates.one(stage, "orchestration", "AWS::RDS::DBInstance")
    assert (values["DAGSTER_POSTGRES_DB"], database["Port"]) == (database["DBName"], "5432")
    assert values["DAGSTER_POSTGRES_HOST"] == {"Fn::GetAtt": ["Database", "Endpoint.Address"]}
    logs = templates.properties(stage, "orchestration", "AWS::Logs::LogGroup")
    assert SETTINGS[stage].deployment().dagster_log_group in {each["LogGroupName"] for each in logs}
    for repository in (
        templates.one(stage, "data", "AWS::ECR::Repository"),
        templates.one(stage, "ml", "AWS::ECR::Repository"),
    ):
        # An image that was deployed under a tag must not change.
        assert repository["ImageTagMutability"] == "IMMUTABLE"
        assert repository["ImageScanningConfiguration"] == {"ScanOnPush": True}


@pytest.mark.parametrize(("stage", "region"), API)
def test_requests_reach_the_live_version_of_the_function(
    templates: Templates, stage: str, region: str
) -> None:
    """DNS, listener, rule, target group and alias are connected and lead to the published version."""
    stack, settings = f"api-{region}", SETTINGS[stage]
    deployment = settings.deployment(region)
    (alias,) = templates.properties(stage, stack, "AWS::Lambda::Alias")
    (function,) = templates.found(stage, stack, "AWS::Lambda::Function")
    (version,) = templates.found(stage, stack, "AWS::Lambda::Version")
    assert alias["Name"] == deployment.api_alias
    assert alias["FunctionName"] == {"Ref": function}
    assert alias["FunctionVersion"] == {"Fn::GetAtt": [version, "Version"]}
    permission = templates.one(stage, stack, "AWS::Lambda::Permission")
    assert permission["Action"] == "lambda:InvokeFunction"
    (target,) = templates.found(stage, stack, f"{BALANCING}::TargetGroup").values()
    # AWS refuses a target that the load balancer may not call.
    assert target["DependsOn"] == ["LoadBalancerCalls"]
    assert (target["Properties"]["TargetType"], target["Properties"]["Matcher"]) == (
        "lambda",
        {"HttpCode": "200"},
    )
    assert target["Properties"]["HealthCheckTimeoutSeconds"] == (
        target_group(deployment).health_check_timeout_seconds
    )
    for rule in templates.properties(stage, stack, f"{BALANCING}::ListenerRule"):
        assert rule["ListenerArn"] == {"Ref": "Https"}
        assert rule["Actions"][-1] == {"Type": "forward", "Order": 2, "TargetGroupArn": {"Ref": "Target"}}
        assert [each["Field"] for each in rule["Conditions"]] == ["path-pattern"]
    listeners = templates.properties(stage, stack, f"{BALANCING}::Listener")
    assert {each["Port"]: each["Protocol"] for each in listeners} == {80: "HTTP", 443: "HTTPS"}
    assert {each["LoadBalancerArn"]["Ref"] for each in listeners} == {"LoadBalancer"}
    kinds = {each["Port"]: [action["Type"] for action in each["DefaultActions"]] for each in listeners}
    assert kinds == {80: ["redirect"], 443: ["fixed-response"]}
    zone = {
        "DNSName": {"Fn::GetAtt": ["LoadBalancer", "DNSName"]},
        "HostedZoneId": {"Fn::GetAtt": ["LoadBalancer", "CanonicalHostedZoneID"]},
        "EvaluateTargetHealth": True,
    }
    for record in templates.properties(stage, stack, "AWS::Route53::RecordSet"):
        assert (record["Type"], record["AliasTarget"]) == ("A", zone)
        assert record["HostedZoneId"] == settings.domain.hosted_zone_id
    certificate = templates.one(stage, stack, "AWS::CertificateManager::Certificate")
    assert certificate["ValidationMethod"] == "DNS"
    assert certificate["DomainValidationOptions"] == [
        {"DomainName": name, "HostedZoneId": settings.domain.hosted_zone_id}
        for name in (settings.domain.api_name, settings.domain.regional_name(region))
    ]
    check = templates.one(stage, stack, "AWS::Route53::HealthCheck")["HealthCheckConfig"]
    assert (check["Port"], check["RequestInterval"], check["FailureThreshold"]) == (443, 30, 3)


@pytest.mark.parametrize(("stage", "region"), API)
def test_function_matches_its_definition(templates: Templates, stage: str, region: str) -> None:
    """The function is the one of the local stack, and its role, log group and rollback are connected."""
    stack, settings = f"api-{region}", SETTINGS[stage]
    ((_, function),) = templates.found(stage, stack, "AWS::Lambda::Function").items()
    definition = api_function(
        settings.deployment(region),
        settings.tokens,
        provider_origins=settings.provider_origins,
        public_documentation=settings.public_documentation,
    )
    values = definition.configuration()
    assert {name: function["Properties"][name] for name in values} == values
    assert function["DependsOn"] == ["FunctionRole"]
    groups = templates.found(stage, stack, "AWS::Logs::LogGroup")
    group = groups[function["Properties"]["LoggingConfig"]["LogGroup"]["Ref"]]["Properties"]
    assert group["LogGroupName"] == settings.deployment(region).api_log_group
    deployed = templates.one(stage, stack, "AWS::CodeDeploy::DeploymentGroup")
    role = settings.deployment(region).api_deployment_role
    assert deployed["ServiceRoleArn"] == settings.deployment(region).role_arn(role)
    assert (
        deployed["AlarmConfiguration"]["Enabled"] is deployed["AutoRollbackConfiguration"]["Enabled"] is True
    )
    assert set(deployed["AutoRollbackConfiguration"]["Events"]) == {
        "DEPLOYMENT_FAILURE",
        "DEPLOYMENT_STOP_ON_REQUEST",
        "DEPLOYMENT_STOP_ON_ALARM",
    }


@pytest.mark.parametrize(("stage", "region"), API)
def test_load_balancer_has_its_own_security_group(templates: Templates, stage: str, region: str) -> None:
    """Anyone can reach ports 80 and 443 over TCP, and the load balancer can call only port 443."""
    stack = f"api-{region}"
    ((name, group),) = templates.found(stage, stack, "AWS::EC2::SecurityGroup").items()
    balancer = templates.one(stage, stack, f"{BALANCING}::LoadBalancer")
    assert balancer["SecurityGroups"] == [{"Fn::GetAtt": [name, "GroupId"]}]
    rules = {
        kind: [
            (each["CidrIp"], each["IpProtocol"], each["FromPort"], each["ToPort"])
            for each in group["Properties"][f"SecurityGroup{kind}"]
        ]
        for kind in ("Ingress", "Egress")
    }
    world = "0.0.0.0/0"
    assert rules == {
        "Ingress": [(world, "tcp", 80, 80), (world, "tcp", 443, 443)],
        "Egress": [(world, "tcp", 443, 443)],
    }


@pytest.mark.parametrize("stage", STAGES)
def test_serving_regions_have_table_replicas(templates: Templates, stage: str) -> None:
    """Every declared model has its table at home and in each serving region."""
    regions = environment(templates, stage)["MLPIPE_SERVING_REGIONS"].split()
    tables = templates.properties(stage, "data", "AWS::DynamoDB::GlobalTable")
    assert len(tables) == len(deployable_names(EXAMPLE.defs)) + 1
    for table in tables:
        assert {each["Region"] for each in table["Replicas"]} == {HOME, *regions}
