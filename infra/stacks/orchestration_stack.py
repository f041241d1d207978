"""Dagster's stack: network, images, Postgres, code location, web server, daemon, runs."""

from __future__ import annotations

from typing import TYPE_CHECKING

import aws_cdk as cdk

from infra.capabilities.dagster.dagster_database import DATABASE, add_database
from infra.capabilities.dagster.dagster_network import add_network
from infra.capabilities.dagster.dagster_services import (
    add_cluster,
    add_code_name,
    add_service,
    add_web_access,
)
from infra.capabilities.dagster.dagster_tasks import RUN_CONTAINER, add_task, tasks
from infra.capabilities.log_storage import add_log_group
from infra.capabilities.roles import add_role
from infra.definitions.dagster_environment import dagster_environment, database_variables, snowflake_variables
from infra.permissions.platform_roles import dagster_execution_role, dagster_webserver_role
from infra.permissions.role_definitions import dagster_daemon_role, dagster_run_role
from infra.stacks.stage_stack import StageStack

if TYPE_CHECKING:
    from infra.settings import StageSettings
    from model_declaration.project import Project


class OrchestrationStack(StageStack):
    """Dagster, in the home region."""

    def __init__(
        self,
        app: cdk.App,
        settings: StageSettings,
        project: Project,
        snowflake_secret: str,
        *,
        code_digest: str,
    ) -> None:
        super().__init__(app, "orchestration", settings)
        deployment = self.deployment
        tag = cdk.CfnParameter(
            self, "DagsterImageTag", description="Tag of Dagster's image in its repository"
        )
        roles = [
            add_role(self, f"Role-{name}", deployment, role(deployment))
            for name, role in (
                ("run", dagster_run_role),
                ("daemon", dagster_daemon_role),
                ("webserver", dagster_webserver_role),
                ("execution", dagster_execution_role),
            )
        ]
        log_group = add_log_group(self, "Logs", deployment.dagster_log_group)
        network = add_network(self, settings, deployment)
        database, database_secret = add_database(self, settings, deployment, network)
        image = (
            f"{settings.account_id}.dkr.ecr.{deployment.region}.{self.url_suffix}/"
            f"{deployment.dagster_image_repository}:{tag.value_as_string}"
        )
        environment = dagster_environment(
            settings,
            code_digest=code_digest,
            location_name=project.location_name,
            database_host=database.attr_endpoint_address,
            database=DATABASE,
        )
        postgres, snowflake = database_variables(database_secret.ref), snowflake_variables(snowflake_secret)
        added = {
            name: add_task(
                self,
                settings,
                deployment,
                task,
                image=image,
                environment=environment,
                # The web server has no login of its own, so it gets no Snowflake credentials.
                secrets={**snowflake, **postgres} if task.runs_our_code else postgres,
            )
            for name, task in tasks(deployment, project).items()
        }
        cluster = add_cluster(self, deployment)
        code = add_service(
            self,
            "code",
            cluster=cluster,
            task=added["code"],
            network=network,
            discovery=add_code_name(self, deployment, network),
        )
        target, listener = add_web_access(self, settings, network)
        web = add_service(
            self, "webserver", cluster=cluster, task=added["webserver"], network=network, target=target
        )
        web.add_resource_dependency(listener)
        # Two daemons would start every schedule twice.
        daemon = add_service(
            self, "daemon", cluster=cluster, task=added["daemon"], network=network, is_single=True
        )
        for service in (code, web, daemon):
            service.node.add_dependency(log_group, added[RUN_CONTAINER], *roles)
