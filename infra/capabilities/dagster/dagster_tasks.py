"""Dagster's tasks: code location, web server, daemon, and one task per run, started by the daemon."""

from __future__ import annotations

from dataclasses import dataclass
from typing import TYPE_CHECKING

from aws_cdk import aws_ecs as ecs

from infra.capabilities.accepted_findings import acknowledge
from infra.capabilities.dagster.dagster_network import CODE_SERVER, WEB_SERVER

if TYPE_CHECKING:
    from collections.abc import Mapping

    import aws_cdk as cdk

    from infra.settings import StageSettings
    from model_declaration.project import Project
    from prediction_contract.naming.resource_names import Deployment

# The image's folder with dagster.yaml and workspace.yaml.
HOME = "/opt/dagster/home"
RUN_CONTAINER = "run"


@dataclass(frozen=True, slots=True)
class Task:
    """One kind of task.

    Attributes:
        name: The suffix of the task family's name, and the container's name.
        role: The task's role.
        command: The command of its container.
        port: The port that it listens on; None if it does not listen.
        runs_our_code: Whether it loads the definitions and so receives the Snowflake credentials.
    """

    name: str
    role: str
    command: tuple[str, ...]
    port: int | None = None
    runs_our_code: bool = False


def tasks(deployment: Deployment, project: Project) -> dict[str, Task]:
    """Return the tasks by name."""
    listen = "0.0.0.0"  # noqa: S104  # the security group decides who can connect
    workspace = f"{HOME}/workspace.yaml"
    found = (
        Task(
            "code",
            deployment.dagster_daemon_role,
            (
                *("dagster", "code-server", "start", "--host", listen, "--port", str(CODE_SERVER)),
                *("--module-name", f"{project.package}.definitions"),
                *("--location-name", project.location_name),
            ),
            CODE_SERVER,
            runs_our_code=True,
        ),
        Task(
            "webserver",
            deployment.dagster_webserver_role,
            ("dagster-webserver", "--host", listen, "--port", str(WEB_SERVER), "--workspace", workspace),
            WEB_SERVER,
        ),
        Task(
            "daemon",
            deployment.dagster_daemon_role,
            ("dagster-daemon", "run", "--workspace", workspace),
        ),
        # The daemon overrides this command when it starts a run.
        Task(RUN_CONTAINER, deployment.dagster_run_role, ("dagster", "--version"), runs_our_code=True),
    )
    return {task.name: task for task in found}


def add_task(
    stack: cdk.Stack,
    settings: StageSettings,
    deployment: Deployment,
    task: Task,
    *,
    image: str,
    environment: Mapping[str, str],
    secrets: Mapping[str, str],
) -> ecs.CfnTaskDefinition:
    """Add a task definition.

    Args:
        stack: The stack to add to.
        settings: The stage's settings.
        deployment: The names and ARNs of the stage in its region.
        task: The task.
        image: The container image.
        environment: Environment variables of the container.
        secrets: The location in Secrets Manager of each variable that ECS fills in.
    """
    size, is_run = settings.dagster, task.name == RUN_CONTAINER
    definition = ecs.CfnTaskDefinition
    added = definition(
        stack,
        f"Task-{task.name}",
        family=f"{deployment.dagster_cluster}-{task.name}",
        network_mode="awsvpc",
        requires_compatibilities=["FARGATE"],
        runtime_platform=definition.RuntimePlatformProperty(
            cpu_architecture="ARM64", operating_system_family="LINUX"
        ),
        cpu=str(size.run_cpu if is_run else size.service_cpu),
        memory=str(size.run_memory_mb if is_run else size.service_memory_mb),
        task_role_arn=deployment.role_arn(task.role),
        execution_role_arn=deployment.role_arn(deployment.dagster_execution_role),
        container_definitions=[
            definition.ContainerDefinitionProperty(
                name=task.name,
                image=image,
                essential=True,
                command=list(task.command),
                user="dagster",
                linux_parameters=definition.LinuxParametersProperty(init_process_enabled=True),
                # Before it is killed, a run has this many seconds to stop the jobs that it waits for.
                stop_timeout=120,
                environment=[
                    definition.KeyValuePairProperty(name=name, value=value)
                    for name, value in environment.items()
                ],
                secrets=[
                    definition.SecretProperty(name=name, value_from=where) for name, where in secrets.items()
                ],
                port_mappings=[definition.PortMappingProperty(container_port=task.port)]
                if task.port
                else None,
                log_configuration=definition.LogConfigurationProperty(
                    log_driver="awslogs",
                    options={
                        "awslogs-group": deployment.dagster_log_group,
                        "awslogs-region": deployment.region,
                        "awslogs-stream-prefix": task.name,
                    },
                ),
            )
        ],
    )
    acknowledge(
        added, ECS2="The variables are names, addresses and sizes; secrets come from Secrets Manager."
    )
    return added
