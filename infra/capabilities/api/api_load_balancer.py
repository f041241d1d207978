"""The load balancer of the API: TLS, the token check, the routes to the function, and the access log."""

from __future__ import annotations

from typing import TYPE_CHECKING, Any

import aws_cdk as cdk
from aws_cdk import aws_ec2 as ec2
from aws_cdk import aws_elasticloadbalancingv2 as balancing
from aws_cdk import aws_lambda as lambda_

from infra.capabilities.api.api_network import HTTP, HTTPS
from infra.capabilities.log_storage import add_logs_bucket
from infra.definitions.api_definitions import (
    LoadBalancerDefinition,
    load_balancer,
    target_group,
    token_claims,
)

if TYPE_CHECKING:
    from aws_cdk import aws_certificatemanager as acm

    from infra.settings import StageSettings
    from prediction_contract.naming.resource_names import Deployment

TLS_POLICY = "ELBSecurityPolicy-TLS13-1-2-2021-06"
_HEADERS = {
    "routing.http.response.server.enabled": "false",
    "routing.http.response.strict_transport_security.header_value": "max-age=31536000; includeSubDomains",
    "routing.http.response.x_content_type_options.header_value": "nosniff",
    "routing.http.response.x_frame_options.header_value": "DENY",
}
_UNKNOWN_PATH = '{"type":"about:blank","title":"There is no such path","status":404}'


def add_load_balancer(
    stack: cdk.Stack,
    settings: StageSettings,
    deployment: Deployment,
    group: ec2.SecurityGroup,
    network: ec2.Vpc,
) -> balancing.CfnLoadBalancer:
    """Add the load balancer with its access log."""
    name = deployment.api_logs_bucket
    logs = add_logs_bucket(stack, "AccessLogs", name, deployment, _log_writer(deployment))
    attributes = {
        "access_logs.s3.enabled": "true",
        "access_logs.s3.bucket": name,
        "access_logs.s3.prefix": "access",
        "connection_logs.s3.enabled": "true",
        "connection_logs.s3.bucket": name,
        "connection_logs.s3.prefix": "connections",
        "deletion_protection.enabled": str(settings.deletion_protection).lower(),
        "idle_timeout.timeout_seconds": "60",
        "routing.http.desync_mitigation_mode": "strictest",
        "routing.http.drop_invalid_header_fields.enabled": "true",
        "routing.http2.enabled": "true",
        # Keeps the header that a client sent and appends the address that the load balancer saw.
        "routing.http.xff_header_processing.mode": "append",
        "waf.fail_open.enabled": "false",
    }
    balancer = balancing.CfnLoadBalancer(
        stack,
        "LoadBalancer",
        name=deployment.api_load_balancer,
        type="application",
        scheme="internet-facing",
        ip_address_type="ipv4",
        security_groups=[group.security_group_id],
        subnets=[subnet.subnet_id for subnet in network.public_subnets],
        load_balancer_attributes=[
            balancing.CfnLoadBalancer.LoadBalancerAttributeProperty(key=key, value=value)
            for key, value in attributes.items()
        ],
    )
    # The load balancer writes a test object when it is created, and its creation fails if it cannot.
    balancer.add_resource_dependency(logs.policy)
    # Creation fails while the network's internet gateway is not attached. The subnets' routes wait for that.
    public = network.select_subnets(subnet_type=ec2.SubnetType.PUBLIC)
    balancer.node.add_dependency(public.internet_connectivity_established)
    return balancer


def _log_writer(deployment: Deployment) -> dict[str, Any]:
    arn = f"arn:{deployment.partition}:s3:::{deployment.api_logs_bucket}"
    return {
        "Sid": "LoadBalancerTellsOfRequests",
        "Effect": "Allow",
        "Principal": {"Service": "logdelivery.elasticloadbalancing.amazonaws.com"},
        "Action": "s3:PutObject",
        "Resource": [
            f"{arn}/{prefix}/AWSLogs/{deployment.account_id}/*" for prefix in ("access", "connections")
        ],
    }


def add_target(stack: cdk.Stack, deployment: Deployment, alias: lambda_.Alias) -> balancing.CfnTargetGroup:
    """Add the target group with the function's alias as its only target."""
    definition = target_group(deployment)
    permission = lambda_.CfnPermission(
        stack,
        "LoadBalancerCalls",
        action="lambda:InvokeFunction",
        function_name=alias.function_arn,
        principal="elasticloadbalancing.amazonaws.com",
        # The CDK's own target omits this, and then load balancers of any account may call the function.
        source_account=deployment.account_id,
    )
    target = balancing.CfnTargetGroup(
        stack,
        "Target",
        name=definition.name,
        target_type="lambda",
        targets=[balancing.CfnTargetGroup.TargetDescriptionProperty(id=alias.function_arn)],
        health_check_enabled=True,
        health_check_path=definition.health_check_path,
        health_check_interval_seconds=definition.health_check_seconds,
        health_check_timeout_seconds=definition.health_check_timeout_seconds,
        matcher=balancing.CfnTargetGroup.MatcherProperty(http_code="200"),
        target_group_attributes=[
            balancing.CfnTargetGroup.TargetGroupAttributeProperty(key=key, value=value)
            for key, value in definition.attributes().items()
        ],
    )
    target.add_resource_dependency(permission)
    return target


def add_listeners(
    stack: cdk.Stack,
    settings: StageSettings,
    deployment: Deployment,
    *,
    balancer: balancing.CfnLoadBalancer,
    target: balancing.CfnTargetGroup,
    certificate: acm.CfnCertificate,
) -> None:
    """Add both listeners: HTTP redirects to HTTPS, which forwards only requests that the API answers."""
    definition = load_balancer(deployment, public_documentation=settings.public_documentation)
    listener = balancing.CfnListener
    listener(
        stack,
        "Http",
        load_balancer_arn=balancer.ref,
        port=HTTP,
        protocol="HTTP",
        default_actions=[
            listener.ActionProperty(
                type="redirect",
                redirect_config=listener.RedirectConfigProperty(
                    protocol="HTTPS", port=str(HTTPS), status_code="HTTP_301"
                ),
            )
        ],
    )
    secure = listener(
        stack,
        "Https",
        load_balancer_arn=balancer.ref,
        port=HTTPS,
        protocol="HTTPS",
        ssl_policy=TLS_POLICY,
        certificates=[listener.CertificateProperty(certificate_arn=certificate.ref)],
        default_actions=[
            listener.ActionProperty(
                type="fixed-response",
                fixed_response_config=listener.FixedResponseConfigProperty(
                    status_code="404", content_type="application/json", message_body=_UNKNOWN_PATH
                ),
            )
        ],
        listener_attributes=[
            listener.ListenerAttributeProperty(key=key, value=value) for key, value in _HEADERS.items()
        ],
    )
    _add_rules(stack, settings, deployment, definition, listener_arn=secure.ref, target_arn=target.ref)


def _add_rules(
    stack: cdk.Stack,
    settings: StageSettings,
    deployment: Deployment,
    definition: LoadBalancerDefinition,
    *,
    listener_arn: str,
    target_arn: str,
) -> None:
    rule = balancing.CfnListenerRule
    forward = rule.ActionProperty(type="forward", order=2, target_group_arn=target_arn)
    for construct_id, priority, paths, actions in (
        ("PublicPaths", definition.public_priority, definition.public_paths, [forward]),
        (
            "ProtectedPaths",
            definition.protected_priority,
            definition.protected_paths,
            [_token_check(settings, deployment), forward],
        ),
    ):
        rule(
            stack,
            construct_id,
            listener_arn=listener_arn,
            priority=priority,
            conditions=[
                rule.RuleConditionProperty(
                    field="path-pattern",
                    path_pattern_config=rule.PathPatternConfigProperty(values=list(paths)),
                )
            ],
            actions=actions,
        )


def _token_check(settings: StageSettings, deployment: Deployment) -> balancing.CfnListenerRule.ActionProperty:
    tokens, rule = settings.tokens, balancing.CfnListenerRule
    return rule.ActionProperty(
        type="jwt-validation",
        order=1,
        jwt_validation_config=rule.JwtValidationConfigProperty(
            issuer=tokens.issuer,
            jwks_endpoint=tokens.jwks_url,
            additional_claims=[
                rule.JwtValidationActionAdditionalClaimProperty(
                    name=claim.name, format=claim.form, values=list(claim.values)
                )
                for claim in token_claims(deployment, tokens)
            ],
        ),
    )
