"""The stack of the API in one region, deployed separately from the pipeline."""

from __future__ import annotations

from typing import TYPE_CHECKING

import aws_cdk as cdk

from infra.capabilities.api.api_firewall import add_firewall
from infra.capabilities.api.api_function import add_deployment, add_function
from infra.capabilities.api.api_load_balancer import add_listeners, add_load_balancer, add_target
from infra.capabilities.api.api_network import add_network
from infra.capabilities.api.api_records import add_certificate, add_records
from infra.capabilities.monitoring.alarms import add_topic
from infra.capabilities.monitoring.api_alarms import add_api_alarms
from infra.capabilities.monitoring.pipeline_alarms import add_pointer_age_alarms
from infra.stacks.stage_stack import StageStack

if TYPE_CHECKING:
    from collections.abc import Iterable
    from pathlib import Path

    from infra.provisioned_models import ProvisionedModel
    from infra.settings import RegionSettings, StageSettings


class ApiStack(StageStack):
    """The API in a region. Load balancer and function share a stack because they refer to one another."""

    def __init__(
        self,
        app: cdk.App,
        settings: StageSettings,
        region: RegionSettings,
        models: Iterable[ProvisionedModel],
        archives: Path,
    ) -> None:
        super().__init__(app, f"api-{region.name}", settings, region.name)
        deployment = self.deployment
        network, group = add_network(self, region)
        certificate = add_certificate(self, settings, deployment)
        alias = add_function(self, settings, deployment, archives)
        target = add_target(self, deployment, alias)
        balancer = add_load_balancer(self, settings, deployment, group, network)
        add_listeners(self, settings, deployment, balancer=balancer, target=target, certificate=certificate)
        add_firewall(self, settings, deployment, balancer)
        add_records(self, settings, deployment, balancer)
        topic_arn = deployment.api_alarm_topic_arn
        names = [model.name for model in models]
        add_topic(self, settings, deployment.api_alarm_topic, topic_arn, "cloudwatch.amazonaws.com")
        add_api_alarms(
            self,
            deployment,
            balancer=balancer,
            target=target,
            models=names,
            topic_arn=topic_arn,
        )
        if not deployment.is_home:
            # The region's replica may fall behind while the home region is up to date.
            add_pointer_age_alarms(self, settings, deployment, names, topic_arn)
        add_deployment(self, deployment, alias)
