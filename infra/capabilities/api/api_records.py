"""The API's names: the certificate, one record per region, and the routing of clients to regions."""

from __future__ import annotations

from typing import TYPE_CHECKING

from aws_cdk import aws_certificatemanager as acm
from aws_cdk import aws_route53 as route53

if TYPE_CHECKING:
    import aws_cdk as cdk
    from aws_cdk import aws_elasticloadbalancingv2 as balancing

    from infra.settings import StageSettings
    from prediction_contract.naming.resource_names import Deployment

HEALTH_CHECK_PATH = "/readyz"
_CHECK_SECONDS = 30
_FAILURES = 3


def add_certificate(stack: cdk.Stack, settings: StageSettings, deployment: Deployment) -> acm.CfnCertificate:
    """Add the certificate for the API's name and its regional name; DNS records validate it."""
    domain = settings.domain
    names = [domain.api_name, domain.regional_name(deployment.region)]
    return acm.CfnCertificate(
        stack,
        "Certificate",
        domain_name=domain.api_name,
        subject_alternative_names=names[1:],
        validation_method="DNS",
        domain_validation_options=[
            acm.CfnCertificate.DomainValidationOptionProperty(
                domain_name=name, hosted_zone_id=domain.hosted_zone_id
            )
            for name in names
        ],
    )


def add_records(
    stack: cdk.Stack, settings: StageSettings, deployment: Deployment, balancer: balancing.CfnLoadBalancer
) -> None:
    """Route clients to the nearest region whose `/readyz` succeeds."""
    domain, region = settings.domain, deployment.region
    check = route53.CfnHealthCheck(
        stack,
        "HealthCheck",
        health_check_config=route53.CfnHealthCheck.HealthCheckConfigProperty(
            type="HTTPS",
            fully_qualified_domain_name=domain.regional_name(region),
            port=443,
            resource_path=HEALTH_CHECK_PATH,
            request_interval=_CHECK_SECONDS,
            failure_threshold=_FAILURES,
            enable_sni=True,
        ),
    )
    alias = route53.CfnRecordSet.AliasTargetProperty(
        dns_name=balancer.attr_dns_name,
        hosted_zone_id=balancer.attr_canonical_hosted_zone_id,
        evaluate_target_health=True,
    )
    route53.CfnRecordSet(
        stack,
        "RegionalName",
        hosted_zone_id=domain.hosted_zone_id,
        name=domain.regional_name(region),
        type="A",
        alias_target=alias,
    )
    route53.CfnRecordSet(
        stack,
        "NearestRegion",
        hosted_zone_id=domain.hosted_zone_id,
        name=domain.api_name,
        type="A",
        alias_target=alias,
        region=region,
        set_identifier=region,
        health_check_id=check.ref,
    )
