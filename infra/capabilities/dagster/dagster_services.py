"""The services that keep Dagster's tasks running, and the internal load balancer of its web server."""

from __future__ import annotations

from typing import TYPE_CHECKING

from aws_cdk import aws_certificatemanager as acm
from aws_cdk import aws_ec2 as ec2
from aws_cdk import aws_ecs as ecs
from aws_cdk import aws_elasticloadbalancingv2 as balancing
from aws_cdk import aws_logs as logs
from aws_cdk import aws_route53 as route53
from aws_cdk import aws_servicediscovery as servicediscovery

from infra.capabilities.accepted_findings import acknowledge
from infra.capabilities.api.api_load_balancer import TLS_POLICY
from infra.capabilities.dagster.dagster_network import HTTPS, WEB_SERVER, DagsterNetwork
from infra.capabilities.log_storage import add_log_group

if TYPE_CHECKING:
    import aws_cdk as cdk

    from infra.settings import StageSettings
    from prediction_contract.naming.resource_names import Deployment

_GRACE_SECONDS = 180


def add_cluster(stack: cdk.Stack, deployment: Deployment) -> ecs.CfnCluster:
    """Add the cluster and, before it, the log group that Container Insights would otherwise create itself."""
    log_group = add_log_group(
        stack, "ClusterMetrics", deployment.dagster_metrics_log_group, logs.RetentionDays.ONE_WEEK
    )
    cluster = ecs.CfnCluster(
        stack,
        "Cluster",
        cluster_name=deployment.dagster_cluster,
        cluster_settings=[ecs.CfnCluster.ClusterSettingsProperty(name="containerInsights", value="enabled")],
    )
    cluster.node.add_dependency(log_group)
    return cluster


def add_code_name(
    stack: cdk.Stack, deployment: Deployment, network: DagsterNetwork
) -> servicediscovery.CfnService:
    """Add the private DNS name of the code location."""
    namespace = servicediscovery.CfnPrivateDnsNamespace(
        stack, "Namespace", name=deployment.dagster_namespace, vpc=network.network.vpc_id
    )
    return servicediscovery.CfnService(
        stack,
        "CodeName",
        name="code",
        namespace_id=namespace.attr_id,
        dns_config=servicediscovery.CfnService.DnsConfigProperty(
            dns_records=[servicediscovery.CfnService.DnsRecordProperty(type="A", ttl=10)],
            routing_policy="MULTIVALUE",
        ),
        health_check_custom_config=servicediscovery.CfnService.HealthCheckCustomConfigProperty(
            failure_threshold=1
        ),
    )


def add_service(
    stack: cdk.Stack,
    name: str,
    *,
    cluster: ecs.CfnCluster,
    task: ecs.CfnTaskDefinition,
    network: DagsterNetwork,
    is_single: bool = False,
    discovery: servicediscovery.CfnService | None = None,
    target: balancing.CfnTargetGroup | None = None,
) -> ecs.CfnService:
    """Add a service that keeps one task running.

    Args:
        stack: The stack to add to.
        name: The service's name.
        cluster: The cluster that runs the task.
        task: The task's definition.
        network: The network of the task.
        is_single: Whether two tasks at once would do harm. A deployment then stops the old task first.
        discovery: The private DNS name of the task.
        target: The load balancer's target group for the task.
    """
    service = ecs.CfnService
    private = network.network.select_subnets(subnet_type=ec2.SubnetType.PRIVATE_WITH_EGRESS)
    return service(
        stack,
        f"Service-{name}",
        service_name=name,
        cluster=cluster.ref,
        task_definition=task.ref,
        launch_type="FARGATE",
        desired_count=1,
        deployment_configuration=service.DeploymentConfigurationProperty(
            minimum_healthy_percent=0 if is_single else 100,
            maximum_percent=100 if is_single else 200,
            deployment_circuit_breaker=service.DeploymentCircuitBreakerProperty(enable=True, rollback=True),
        ),
        # Rebalancing starts the task in another zone before it stops the old one.
        availability_zone_rebalancing="DISABLED" if is_single else None,
        network_configuration=service.NetworkConfigurationProperty(
            awsvpc_configuration=service.AwsVpcConfigurationProperty(
                subnets=private.subnet_ids,
                security_groups=[network.tasks.security_group_id],
                assign_public_ip="DISABLED",
            )
        ),
        propagate_tags="SERVICE",
        enable_ecs_managed_tags=True,
        service_registries=[service.ServiceRegistryProperty(registry_arn=discovery.attr_arn)]
        if discovery
        else None,
        load_balancers=[
            service.LoadBalancerProperty(
                container_name=name, container_port=WEB_SERVER, target_group_arn=target.ref
            )
        ]
        if target
        else None,
        health_check_grace_period_seconds=_GRACE_SECONDS if target else None,
    )


def add_web_access(
    stack: cdk.Stack, settings: StageSettings, network: DagsterNetwork
) -> tuple[balancing.CfnTargetGroup, balancing.CfnListener]:
    """Add the internal load balancer with its DNS name, and return its target group and listener."""
    name, zone = f"dagster.{settings.domain.api_name}", settings.domain.hosted_zone_id
    certificate = acm.CfnCertificate(
        stack,
        "WebCertificate",
        domain_name=name,
        validation_method="DNS",
        domain_validation_options=[
            acm.CfnCertificate.DomainValidationOptionProperty(domain_name=name, hosted_zone_id=zone)
        ],
    )
    private = network.network.select_subnets(subnet_type=ec2.SubnetType.PRIVATE_WITH_EGRESS)
    attributes = {
        "deletion_protection.enabled": str(settings.deletion_protection).lower(),
        "routing.http.drop_invalid_header_fields.enabled": "true",
        # The web page receives updates over one long connection.
        "idle_timeout.timeout_seconds": "600",
    }
    balancer = balancing.CfnLoadBalancer(
        stack,
        "WebLoadBalancer",
        type="application",
        scheme="internal",
        security_groups=[network.balancer.security_group_id],
        subnets=private.subnet_ids,
        load_balancer_attributes=[
            balancing.CfnLoadBalancer.LoadBalancerAttributeProperty(key=key, value=value)
            for key, value in attributes.items()
        ],
    )
    acknowledge(
        balancer,
        ELB2="Internal, for a few people: Dagster records their actions, and flow logs the connections.",
    )
    target = balancing.CfnTargetGroup(
        stack,
        "WebTarget",
        target_type="ip",
        protocol="HTTP",
        port=WEB_SERVER,
        vpc_id=network.network.vpc_id,
        health_check_path="/server_info",
        health_check_interval_seconds=30,
    )
    listener = balancing.CfnListener(
        stack,
        "WebListener",
        load_balancer_arn=balancer.ref,
        port=HTTPS,
        protocol="HTTPS",
        ssl_policy=TLS_POLICY,
        certificates=[balancing.CfnListener.CertificateProperty(certificate_arn=certificate.ref)],
        default_actions=[balancing.CfnListener.ActionProperty(type="forward", target_group_arn=target.ref)],
    )
    route53.CfnRecordSet(
        stack,
        "WebName",
        hosted_zone_id=zone,
        name=name,
        type="A",
        alias_target=route53.CfnRecordSet.AliasTargetProperty(
            dns_name=balancer.attr_dns_name,
            hosted_zone_id=balancer.attr_canonical_hosted_zone_id,
            evaluate_target_health=False,
        ),
    )
    return target, listener
