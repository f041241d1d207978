"""Tests of the API stack in each region. The emulator lacks most of its resources."""

from __future__ import annotations

import json
import struct
import zipfile
from typing import TYPE_CHECKING, Any

import pytest

from infra.definitions.api_definitions import ALARMS_THAT_ROLL_BACK
from tests.infra.cdk.templates import AWAY, HOME, STAGES, attributes
from tests.infra.example_stages import STAGES as SETTINGS

if TYPE_CHECKING:
    from tests.infra.cdk.templates import Templates

# The machine number in the header of an ELF file.
ARM_64 = 183
REGIONS = [(stage, region) for stage in STAGES for region in (HOME, AWAY)]
BALANCING = "AWS::ElasticLoadBalancingV2"


def listeners(templates: Templates, stage: str, region: str) -> dict[int, dict[str, Any]]:
    """Return the listeners by port."""
    found = templates.properties(stage, f"api-{region}", f"{BALANCING}::Listener")
    return {each["Port"]: each for each in found}


@pytest.mark.parametrize(("stage", "region"), REGIONS)
def test_load_balancer_is_hardened_and_logs(templates: Templates, stage: str, region: str) -> None:
    """The load balancer is protected from deletion, strict about requests, and logs to its bucket."""
    balancer = templates.one(stage, f"api-{region}", f"{BALANCING}::LoadBalancer")
    balancer_attributes = attributes(balancer, "LoadBalancerAttributes")
    assert balancer["Scheme"] == "internet-facing"
    assert balancer_attributes["deletion_protection.enabled"] == "true"
    assert balancer_attributes["routing.http.drop_invalid_header_fields.enabled"] == "true"
    assert balancer_attributes["routing.http.desync_mitigation_mode"] == "strictest"
    assert (
        balancer_attributes["access_logs.s3.enabled"]
        == balancer_attributes["connection_logs.s3.enabled"]
        == "true"
    )
    assert balancer_attributes["access_logs.s3.bucket"] == SETTINGS[stage].deployment(region).api_logs_bucket
    assert balancer_attributes["waf.fail_open.enabled"] == "false"


@pytest.mark.parametrize(("stage", "region"), REGIONS)
def test_load_balancer_waits_for_its_network(templates: Templates, stage: str, region: str) -> None:
    """The load balancer waits for its subnets' routes, and these for the attached gateway."""
    (balancer,) = templates.found(stage, f"api-{region}", f"{BALANCING}::LoadBalancer").values()
    routes = templates.found(stage, f"api-{region}", "AWS::EC2::Route")
    (attached,) = templates.found(stage, f"api-{region}", "AWS::EC2::VPCGatewayAttachment")
    assert set(routes) <= set(balancer["DependsOn"])
    assert len(routes) == len(balancer["Properties"]["Subnets"]) == 3
    assert all(attached in route["DependsOn"] for route in routes.values())


@pytest.mark.parametrize(("stage", "region"), REGIONS)
def test_http_redirects_and_https_answers_unknown_paths(
    templates: Templates, stage: str, region: str
) -> None:
    """HTTP redirects to HTTPS, which sends hardening headers and answers unknown paths with 404."""
    found = listeners(templates, stage, region)
    (redirect,) = found[80]["DefaultActions"]
    assert redirect["RedirectConfig"] == {"Protocol": "HTTPS", "Port": "443", "StatusCode": "HTTP_301"}
    secure = found[443]
    assert secure["SslPolicy"] == "ELBSecurityPolicy-TLS13-1-2-2021-06"
    assert secure["Certificates"] == [{"CertificateArn": {"Ref": "Certificate"}}]
    (unknown,) = secure["DefaultActions"]
    assert unknown["FixedResponseConfig"]["StatusCode"] == "404"
    headers = attributes(secure, "ListenerAttributes")
    assert headers["routing.http.response.server.enabled"] == "false"
    assert headers["routing.http.response.x_content_type_options.header_value"] == "nosniff"
    age = headers["routing.http.response.strict_transport_security.header_value"]
    assert age.startswith("max-age=31536000")


@pytest.mark.parametrize(("stage", "region"), REGIONS)
def test_token_is_checked_before_the_function_is_called(
    templates: Templates, stage: str, region: str
) -> None:
    """The load balancer checks issuer, scope and client first, except for the open paths."""
    rules = {
        each["Priority"]: each
        for each in templates.properties(stage, f"api-{region}", f"{BALANCING}::ListenerRule")
    }
    check, forward = sorted(rules[20]["Actions"], key=lambda each: each["Order"])
    assert (check["Type"], forward["Type"]) == ("jwt-validation", "forward")
    settings = SETTINGS[stage]
    config = check["JwtValidationConfig"]
    assert config["Issuer"] == settings.tokens.issuer
    assert config["JwksEndpoint"] == settings.tokens.jwks_url
    assert config["AdditionalClaims"] == [
        {
            "Name": "scope",
            "Format": "space-separated-values",
            "Values": [settings.deployment().read_scope],
        },
        {"Name": "client_id", "Format": "single-string", "Values": list(settings.tokens.client_ids)},
    ]
    assert [each["Type"] for each in rules[10]["Actions"]] == ["forward"]


@pytest.mark.parametrize(("stage", "region"), REGIONS)
def test_target_group_calls_the_live_alias(templates: Templates, stage: str, region: str) -> None:
    """The function's alias is the target, only this account may call it, and `/healthz` is its check."""
    target = templates.one(stage, f"api-{region}", f"{BALANCING}::TargetGroup")
    permission = templates.one(stage, f"api-{region}", "AWS::Lambda::Permission")
    alias = next(iter(templates.found(stage, f"api-{region}", "AWS::Lambda::Alias")))
    assert target["Targets"] == [{"Id": {"Ref": alias}}]
    assert permission["FunctionName"] == {"Ref": alias}
    assert permission["SourceAccount"] == SETTINGS[stage].account_id
    assert permission["Principal"] == "elasticloadbalancing.amazonaws.com"
    assert attributes(target, "TargetGroupAttributes") == {"lambda.multi_value_headers.enabled": "true"}
    assert (target["HealthCheckEnabled"], target["HealthCheckPath"]) == (True, "/healthz")
    assert target["HealthCheckIntervalSeconds"] == 60


@pytest.mark.parametrize(("stage", "region"), REGIONS)
def test_load_balancer_can_reach_https_only(templates: Templates, stage: str, region: str) -> None:
    """Only outgoing port 443 is open, which every token check needs to fetch the issuer's keys."""
    group = templates.one(stage, f"api-{region}", "AWS::EC2::SecurityGroup")
    assert [(each["FromPort"], each["ToPort"]) for each in group["SecurityGroupEgress"]] == [(443, 443)]
    assert sorted(each["FromPort"] for each in group["SecurityGroupIngress"]) == [80, 443]


@pytest.mark.parametrize(("stage", "region"), REGIONS)
def test_function_is_warm_traced_and_deployed_as_canary(
    templates: Templates, stage: str, region: str
) -> None:
    """The function has provisioned concurrency, tracing, and a canary deployment that alarms roll back."""
    stack, settings = f"api-{region}", SETTINGS[stage]
    function = templates.one(stage, stack, "AWS::Lambda::Function")
    assert function["Architectures"] == ["arm64"]
    assert function["TracingConfig"] == {"Mode": "Active"}
    assert "SnapStart" not in function
    (alias,) = templates.found(stage, stack, "AWS::Lambda::Alias").values()
    warm = alias["Properties"]["ProvisionedConcurrencyConfig"]
    assert warm == {"ProvisionedConcurrentExecutions": settings.api.warm_environments}
    assert alias["UpdatePolicy"]["CodeDeployLambdaAliasUpdate"]["DeploymentGroupName"]
    scaling = templates.one(stage, stack, "AWS::ApplicationAutoScaling::ScalableTarget")
    assert scaling["MaxCapacity"] == settings.api.most_warm_environments
    assert scaling["ScalableDimension"] == "lambda:function:ProvisionedConcurrency"
    assert scaling["MinCapacity"] == settings.api.warm_environments
    policy = templates.one(stage, stack, "AWS::ApplicationAutoScaling::ScalingPolicy")
    assert policy["TargetTrackingScalingPolicyConfiguration"] == {
        "PredefinedMetricSpecification": {"PredefinedMetricType": "LambdaProvisionedConcurrencyUtilization"},
        "TargetValue": 0.7,
    }
    group = templates.one(stage, stack, "AWS::CodeDeploy::DeploymentGroup")
    assert group["DeploymentConfigName"] == "CodeDeployDefault.LambdaCanary10Percent5Minutes"
    assert "DEPLOYMENT_STOP_ON_ALARM" in group["AutoRollbackConfiguration"]["Events"]
    watched = {each["Name"] for each in group["AlarmConfiguration"]["Alarms"]}
    alarms = {each["AlarmName"] for each in templates.properties(stage, stack, "AWS::CloudWatch::Alarm")}
    assert watched == {settings.deployment(region).alarm(what) for what in ALARMS_THAT_ROLL_BACK}
    assert watched <= alarms
    logs = {each["LogGroupName"]: each for each in templates.properties(stage, stack, "AWS::Logs::LogGroup")}
    assert logs[settings.deployment(region).api_log_group]["RetentionInDays"] == 90


@pytest.mark.parametrize("stage", STAGES)
def test_clients_reach_the_nearest_ready_region(templates: Templates, stage: str) -> None:
    """Each region has a latency record with a health check on `/readyz`, and a certificate for its names."""
    name = SETTINGS[stage].domain.api_name
    found = {}
    for region in (HOME, AWAY):
        stack = f"api-{region}"
        check = templates.one(stage, stack, "AWS::Route53::HealthCheck")["HealthCheckConfig"]
        assert (check["Type"], check["ResourcePath"]) == ("HTTPS", "/readyz")
        assert check["FullyQualifiedDomainName"] == f"{region}.{name}"
        records = templates.properties(stage, stack, "AWS::Route53::RecordSet")
        (nearest,) = [each for each in records if each["Name"] == name]
        assert nearest["HealthCheckId"] == {"Ref": "HealthCheck"}
        assert nearest["AliasTarget"]["EvaluateTargetHealth"] is True
        found[nearest["SetIdentifier"]] = nearest["Region"]
        certificate = templates.one(stage, stack, "AWS::CertificateManager::Certificate")
        assert {certificate["DomainName"], *certificate["SubjectAlternativeNames"]} == {
            each["Name"] for each in records
        }
    assert found == {HOME: HOME, AWAY: AWAY}


@pytest.mark.parametrize(("stage", "region"), REGIONS)
def test_firewall_protects_the_load_balancer_and_logs_no_token(
    templates: Templates, stage: str, region: str
) -> None:
    """The firewall limits requests per address, uses AWS's groups and redacts the Authorization header."""
    stack = f"api-{region}"
    firewall = templates.one(stage, stack, "AWS::WAFv2::WebACL")
    rules = {rule["Name"]: rule for rule in firewall["Rules"]}
    rate = rules["too-many-requests"]["Statement"]["RateBasedStatement"]
    assert rate == {"AggregateKeyType": "IP", "Limit": SETTINGS[stage].api.requests_per_address}
    assert {"AWSManagedRulesCommonRuleSet", "AWSManagedRulesKnownBadInputsRuleSet"} <= set(rules)
    association = templates.one(stage, stack, "AWS::WAFv2::WebACLAssociation")
    assert association["ResourceArn"] == {"Ref": "LoadBalancer"}
    logging = templates.one(stage, stack, "AWS::WAFv2::LoggingConfiguration")
    assert logging["RedactedFields"] == [{"SingleHeader": {"Name": "authorization"}}]


def test_function_archive_is_built_for_arm64(templates: Templates) -> None:
    """Every library in the function's archive is for ARM, whatever machine built it."""
    folder = templates.folder / "prod"
    assets = json.loads((folder / f"mlpipe-prod-api-{HOME}.assets.json").read_text())["files"]
    (archive,) = [
        each["source"]["path"] for each in assets.values() if each["source"]["path"].endswith(".zip")
    ]
    with zipfile.ZipFile(folder / archive) as opened:
        libraries = [name for name in opened.namelist() if name.endswith(".so")]
        machines = {struct.unpack_from("<H", opened.read(name), 18)[0] for name in libraries}
    assert libraries
    assert machines == {ARM_64}
