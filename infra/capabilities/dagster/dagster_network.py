"""Dagster's network: private, with endpoints of AWS services and a NAT gateway for Snowflake."""

from __future__ import annotations

from dataclasses import dataclass
from typing import TYPE_CHECKING

from aws_cdk import aws_ec2 as ec2

from infra.capabilities.accepted_findings import acknowledge_named_zones

if TYPE_CHECKING:
    import aws_cdk as cdk

    from infra.settings import StageSettings
    from prediction_contract.naming.resource_names import Deployment

HTTPS, POSTGRES, CODE_SERVER, WEB_SERVER = 443, 5432, 4000, 3000
_CIDR = "10.60.0.0/18"
# The services that tasks call often. Other calls leave through the NAT gateway.
INTERFACE_SERVICES = ("ecr.api", "ecr.dkr", "logs", "secretsmanager", "sqs", "glue", "sagemaker.api", "sts")


@dataclass(frozen=True, slots=True)
class DagsterNetwork:
    """The network and its security groups.

    Attributes:
        network: The network, with private and isolated subnets.
        tasks: The security group of all of Dagster's tasks.
        balancer: The security group of the internal load balancer.
        database: The security group of Postgres.
    """

    network: ec2.Vpc
    tasks: ec2.SecurityGroup
    balancer: ec2.SecurityGroup
    database: ec2.SecurityGroup


def add_network(stack: cdk.Stack, settings: StageSettings, deployment: Deployment) -> DagsterNetwork:
    """Add the network, its flow log, its endpoints and its security groups."""
    network = ec2.Vpc(
        stack,
        "Network",
        ip_addresses=ec2.IpAddresses.cidr(_CIDR),
        availability_zones=list(settings.home.availability_zones),
        nat_gateways=settings.dagster.nat_gateways,
        subnet_configuration=[
            ec2.SubnetConfiguration(
                name="public", subnet_type=ec2.SubnetType.PUBLIC, cidr_mask=24, map_public_ip_on_launch=False
            ),
            ec2.SubnetConfiguration(
                name="private", subnet_type=ec2.SubnetType.PRIVATE_WITH_EGRESS, cidr_mask=22
            ),
            ec2.SubnetConfiguration(
                name="isolated", subnet_type=ec2.SubnetType.PRIVATE_ISOLATED, cidr_mask=24
            ),
        ],
        # The CDK would add a Lambda function for it, and nothing here uses the default group.
        restrict_default_security_group=False,
    )
    acknowledge_named_zones(network)
    ec2.CfnFlowLog(
        stack,
        "FlowLog",
        resource_id=network.vpc_id,
        resource_type="VPC",
        traffic_type="ALL",
        log_destination_type="s3",
        log_destination=f"arn:{deployment.partition}:s3:::{deployment.logs_bucket}/network/",
    )
    groups = _groups(stack, network)
    _endpoints(stack, network, groups.tasks)
    return groups


def _groups(stack: cdk.Stack, network: ec2.Vpc) -> DagsterNetwork:
    def group(construct_id: str, description: str) -> ec2.SecurityGroup:
        return ec2.SecurityGroup(
            stack, construct_id, vpc=network, description=description, allow_all_outbound=False
        )

    tasks = group("TaskGroup", "Tasks of Dagster")
    balancer = group("BalancerGroup", "Internal load balancer of Dagster")
    database = group("DatabaseGroup", "Postgres of Dagster")
    inside = ec2.Peer.ipv4(_CIDR)
    tasks.add_egress_rule(ec2.Peer.any_ipv4(), ec2.Port.tcp(HTTPS), "AWS, Snowflake, the API")
    tasks.add_egress_rule(database, ec2.Port.tcp(POSTGRES), "Runs, events, schedules")
    tasks.add_egress_rule(tasks, ec2.Port.tcp(CODE_SERVER), "The code location")
    tasks.add_ingress_rule(tasks, ec2.Port.tcp(CODE_SERVER), "The code location")
    tasks.add_ingress_rule(balancer, ec2.Port.tcp(WEB_SERVER), "The web server")
    balancer.add_ingress_rule(inside, ec2.Port.tcp(HTTPS), "People, through the company's network")
    balancer.add_egress_rule(tasks, ec2.Port.tcp(WEB_SERVER), "The web server")
    database.add_ingress_rule(tasks, ec2.Port.tcp(POSTGRES), "Tasks of Dagster")
    return DagsterNetwork(network, tasks, balancer, database)


def _endpoints(stack: cdk.Stack, network: ec2.Vpc, tasks: ec2.SecurityGroup) -> None:
    for construct_id, service in (
        ("S3", ec2.GatewayVpcEndpointAwsService.S3),
        ("DynamoDb", ec2.GatewayVpcEndpointAwsService.DYNAMODB),
    ):
        network.add_gateway_endpoint(f"{construct_id}Endpoint", service=service)
    group = ec2.SecurityGroup(
        stack, "EndpointGroup", vpc=network, description="Endpoints of AWS", allow_all_outbound=False
    )
    group.add_ingress_rule(tasks, ec2.Port.tcp(HTTPS), "Tasks of Dagster")
    for service in INTERFACE_SERVICES:
        ec2.InterfaceVpcEndpoint(
            stack,
            f"Endpoint-{service.replace('.', '-')}",
            vpc=network,
            service=ec2.InterfaceVpcEndpointAwsService(service),
            security_groups=[group],
            open=False,
            private_dns_enabled=True,
            subnets=ec2.SubnetSelection(subnet_type=ec2.SubnetType.PRIVATE_WITH_EGRESS),
        )
