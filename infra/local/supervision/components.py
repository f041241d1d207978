"""The components of a project's local stack: their commands, probes, deadlines and possible losses."""

from __future__ import annotations

import os
import sys
from dataclasses import dataclass, field
from functools import partial
from typing import TYPE_CHECKING

from infra.environments.environment_cache import cache_folder
from infra.environments.platform_environments import import_variables, platform_environment
from infra.local.supervision.ministack_state import check_saved_state, unloaded_state, unsaved_state
from infra.local.supervision.processes import clean_environment, size_of
from infra.local.supervision.readiness import answers_http, answers_snowflake
from infra.packaging import PLATFORM
from model_declaration.project import VARIABLE

if TYPE_CHECKING:
    from collections.abc import Callable, Mapping
    from pathlib import Path

    from infra.local.supervision.stack_state import StackDirectory
    from model_declaration.project import Project, ProjectService

REGION = "us-east-1"
# The emulator's fixed root credential. All other keys are checked against its identities.
ACCESS_KEY_ID = "test"
SECRET_ACCESS_KEY = "test"  # noqa: S105 -- a stand-in's, not a secret
# The components of every stack; a project's services are added to them.
SERVERS = ("aws", "snowflake", "jobs")

_LEAST_BYTES_LOADED_PER_SECOND = 1_000_000


@dataclass(frozen=True, kw_only=True)
class Component:
    """One server of the local stack.

    Attributes:
        name: The name in messages, logs and files.
        title: The service that it replaces.
        command: The command line.
        environment: All environment variables.
        port: The loopback port that it serves.
        probe: Checks it over its own protocol; returns None if it answers, else the fault.
        loss: The data that is lost when it ends by itself.
        folder: The working folder; Python imports the platform's modules from it.
        ready_seconds: The deadline from its start to its first successful answer.
        stop_seconds: How long it may take to end when asked. With `saves_to`, how long it may save without
            progress.
        saves_to: The folder to which it saves its state when it is asked to end.
        needs: The components that must be ready before it is started.
        check_state: Raises StackError if it would silently replace its saved state.
        start_fault: Finds the log line, after a byte offset, that says it started without its state.
        stop_fault: Finds the log line, after a byte offset, that says it ended without saving its state.
        children_outlive_process: Whether its children survive, because it finds them again after a restart.
    """

    name: str
    title: str
    command: tuple[str, ...]
    environment: Mapping[str, str]
    port: int
    probe: Callable[[], str | None]
    loss: str
    folder: Path = PLATFORM
    ready_seconds: float = 60
    stop_seconds: float = 20
    saves_to: Path | None = None
    needs: tuple[str, ...] = ()
    check_state: Callable[[], None] = field(default=lambda: None)
    start_fault: Callable[..., str | None] = field(default=lambda *_, **__: None)
    stop_fault: Callable[..., str | None] = field(default=lambda *_, **__: None)
    children_outlive_process: bool = False


def aws_environment(aws_port: int, jobs_port: int | None) -> dict[str, str]:
    """Return the variables with which AWS clients reach the stack, and the job executor if it has a port."""
    endpoints = {"AWS_ENDPOINT_URL": f"http://127.0.0.1:{aws_port}"}
    if jobs_port is not None:
        endpoints["AWS_ENDPOINT_URL_GLUE"] = f"http://127.0.0.1:{jobs_port}"
        endpoints["AWS_ENDPOINT_URL_SAGEMAKER"] = f"http://127.0.0.1:{jobs_port}"
    return {
        **endpoints,
        # deltalake refuses addresses without TLS unless this is set.
        "AWS_ALLOW_HTTP": "true",
        "AWS_ACCESS_KEY_ID": ACCESS_KEY_ID,
        "AWS_SECRET_ACCESS_KEY": SECRET_ACCESS_KEY,
        "AWS_REGION": REGION,
        "AWS_DEFAULT_REGION": REGION,
    }


def component_names(project: Project) -> tuple[str, ...]:
    """Return the names of all components of a project's stack, in the order of their start."""
    return (*SERVERS, *(service.name for service in project.services))


def build_components(
    directory: StackDirectory, project: Project, ports: Mapping[str, int]
) -> list[Component]:
    """Return the components that have a port, in the order of their start."""
    builders = {"aws": _aws, "snowflake": _snowflake, "jobs": _jobs}
    servers = [builders[name](directory, ports) for name in SERVERS if name in ports]
    services = [
        _service(directory, project, service, ports[service.name])
        for service in project.services
        if service.name in ports
    ]
    return [*servers, *services]


def state_of_aws(directory: StackDirectory) -> Path:
    """Return the folder with the AWS emulator's state, except S3's objects."""
    return directory.data / "aws" / "services"


def _stack_python() -> str:
    """Return the Python with the emulators' packages; `up` makes its environment."""
    return str(platform_environment("stack", cache_folder(os.environ)).python)


def _aws(directory: StackDirectory, ports: Mapping[str, int]) -> Component:
    """Return the AWS emulator."""
    data, state = directory.data / "aws", state_of_aws(directory)
    temporary = data / "tmp"
    temporary.mkdir(mode=0o700, parents=True, exist_ok=True)
    # The Lambdas that the emulator runs inherit its whole environment.
    environment = {
        **clean_environment(directory.root, "aws"),
        **import_variables(cache_folder(os.environ)),
        "HOME": str(temporary),
        "TMPDIR": str(temporary),
        "GATEWAY_PORT": str(ports["aws"]),
        "BIND_HOST": "127.0.0.1",
        "MINISTACK_REGION": REGION,
        "PERSIST_STATE": "1",
        "STATE_DIR": str(state),
        "S3_PERSIST": "1",
        "S3_DATA_DIR": str(data / "s3"),
        "IOT_MTLS_ENABLED": "0",
        "SFTP_ENABLED": "0",
    }
    if directory.iam_file.exists():
        # Record the calls too, to show which identity called what.
        environment |= {"AUTH": "true", "CLOUDTRAIL_RECORDING": "1", "CLOUDTRAIL_MAX_EVENTS": "1000000"}
    return Component(
        name="aws",
        title="AWS (ministack)",
        command=(_stack_python(), "-m", "infra.local.emulators.aws_server"),
        environment=environment,
        port=ports["aws"],
        probe=partial(answers_http, ports["aws"], "/_ministack/health"),
        loss=(
            "everything written since its start, except S3 objects: DynamoDB items, queues, secrets, logs, "
            "users, bucket settings (the emulator saves these only on a regular stop)"
        ),
        # 7 to 14 s with 84 MB of state on an idle machine.
        ready_seconds=120 + size_of(state) / _LEAST_BYTES_LOADED_PER_SECOND,
        stop_seconds=60,
        saves_to=state,
        check_state=partial(check_saved_state, state, data / "s3"),
        start_fault=unloaded_state,
        stop_fault=unsaved_state,
    )


def _snowflake(directory: StackDirectory, ports: Mapping[str, int]) -> Component:
    """Return the Snowflake stand-in."""
    databases = directory.data / "snowflake"
    temporary = databases / "tmp"
    temporary.mkdir(mode=0o700, parents=True, exist_ok=True)
    return Component(
        name="snowflake",
        title="Snowflake (fakesnow)",
        command=(
            *(_stack_python(), "-m", "infra.local.emulators.snowflake_server"),
            *("--port", str(ports["snowflake"])),
            *("--database-directory", str(databases)),
            *("--s3-endpoint-url", f"http://127.0.0.1:{ports['aws']}"),
        ),
        environment={
            **clean_environment(directory.root, "snowflake"),
            **import_variables(cache_folder(os.environ)),
            "TMPDIR": str(temporary),
        },
        port=ports["snowflake"],
        probe=partial(answers_snowflake, ports["snowflake"]),
        loss="open transactions, sessions, stages and temporary tables; committed data is on disk",
    )


def _jobs(directory: StackDirectory, ports: Mapping[str, int]) -> Component:
    """Return the executor of Glue and SageMaker jobs."""
    aws_endpoint_url = f"http://127.0.0.1:{ports['aws']}"
    return Component(
        name="jobs",
        title="Glue, SageMaker (job executor)",
        command=(
            *(sys.executable, "-m", "infra.local.job_executor"),
            *("--port", str(ports["jobs"])),
            *("--state-dir", str(directory.data / "jobs")),
            *("--aws-endpoint-url", aws_endpoint_url),
            *("--region", REGION),
            *(("--enforce-iam",) if directory.iam_file.exists() else ()),
        ),
        environment={
            **clean_environment(directory.root, "jobs"),
            **aws_environment(ports["aws"], ports["jobs"]),
        },
        port=ports["jobs"],
        probe=partial(answers_http, ports["jobs"], "/health"),
        loss="nothing that was recorded; check the state of each job that was running",
        # The executor gives running jobs 25 s to end.
        stop_seconds=40,
        needs=("aws",),
        children_outlive_process=True,
    )


def _service(directory: StackDirectory, project: Project, service: ProjectService, port: int) -> Component:
    """Return a service of the project's own."""
    return Component(
        name=service.name,
        title=f"service of {project.package}",
        command=(sys.executable, "-m", service.module, "--port", str(port)),
        environment={
            **clean_environment(directory.root, service.name),
            VARIABLE: str(project.root),
            # Because the package may not be installed.
            "PYTHONPATH": str(project.source_folder),
        },
        folder=project.root,
        port=port,
        probe=partial(answers_http, port, "/health"),
        loss="its data in memory",
    )
