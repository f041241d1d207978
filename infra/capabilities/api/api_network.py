"""The load balancer's network: public subnets, open on the load balancer's ports only."""

from __future__ import annotations

from typing import TYPE_CHECKING

from aws_cdk import aws_ec2 as ec2

from infra.capabilities.accepted_findings import acknowledge, acknowledge_named_zones

if TYPE_CHECKING:
    import aws_cdk as cdk

    from infra.settings import RegionSettings

HTTP, HTTPS = 80, 443


def add_network(stack: cdk.Stack, region: RegionSettings) -> tuple[ec2.Vpc, ec2.SecurityGroup]:
    """Add the network and the load balancer's security group."""
    network = ec2.Vpc(
        stack,
        "Network",
        ip_addresses=ec2.IpAddresses.cidr("10.40.0.0/20"),
        availability_zones=list(region.availability_zones),
        nat_gateways=0,
        subnet_configuration=[
            ec2.SubnetConfiguration(
                name="public", subnet_type=ec2.SubnetType.PUBLIC, cidr_mask=24, map_public_ip_on_launch=False
            )
        ],
        # The CDK would add a Lambda function for it, and nothing here uses the default group.
        restrict_default_security_group=False,
    )
    resource = network.node.default_child
    if resource is not None:
        acknowledge(resource, VPC7="It contains only the load balancer, which logs every connection itself.")
    acknowledge_named_zones(network)
    group = ec2.SecurityGroup(
        stack,
        "LoadBalancerGroup",
        vpc=network,
        description="The load balancer of the API",
        allow_all_outbound=False,
    )
    for port, what in ((HTTP, "to be sent to HTTPS"), (HTTPS, "clients")):
        group.add_ingress_rule(ec2.Peer.any_ipv4(), ec2.Port.tcp(port), what)
    group.add_egress_rule(ec2.Peer.any_ipv4(), ec2.Port.tcp(HTTPS), "Keys of the issuer, for checking tokens")
    inside = group.node.default_child
    if inside is not None:
        acknowledge(inside, EC23="The API is public: tokens, the firewall and rate limits protect it.")
    return network, group
