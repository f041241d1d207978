"""Create a running stack's resources, write its environment file, and print the addresses."""

from __future__ import annotations

import shlex
import time
from typing import TYPE_CHECKING

from infra.local.stack.dagster_service import prepared_home
from infra.local.stack.environment_file import read_environment_file, write_environment_file
from infra.local.supervision.components import REGION, aws_environment
from infra.local.supervision.stack_state import StackError, read_status

if TYPE_CHECKING:
    from collections.abc import Callable
    from pathlib import Path

    from infra.local.supervision.stack_state import StackDirectory
    from model_declaration.project import Project


def provision_stack(
    directory: StackDirectory, environment_file: Path, project: Project, *, say: Callable[[str], None]
) -> None:
    """Create or repair the resources and write the environment file.

    Raises:
        StackError: The stack is not running, or the environment file cannot be written.
    """
    # Imported here because it is slow, and `down` and `status` do not need it.
    from infra.local.provisioning import provision  # noqa: PLC0415

    started = time.monotonic()
    status = read_status(directory)
    if status is None:
        raise StackError(f"{directory.status_file} is gone", remedy="Run `mlpipe down`, then `mlpipe up`")
    ports = {name: entry.port for name, entry in status.components.items()}
    aws = aws_environment(ports["aws"], ports["jobs"])
    values = provision(
        aws_endpoint_url=aws["AWS_ENDPOINT_URL"],
        jobs_endpoint_url=aws["AWS_ENDPOINT_URL_GLUE"],
        snowflake_host="127.0.0.1",
        snowflake_port=ports["snowflake"],
        service_urls={
            service.name: f"http://127.0.0.1:{ports[service.name]}" for service in project.services
        },
        project=project,
        region=REGION,
        say=say,
    )
    home = prepared_home(directory)
    write_environment_file(environment_file, {**values, **aws, "DAGSTER_HOME": str(home)})
    say(f"  {'resources':<10}{'created or found':<32}ready in {time.monotonic() - started:5.1f} s")


def say_next_steps(
    directory: StackDirectory, environment_file: Path | None, *, say: Callable[[str], None]
) -> None:
    """Print the stack's addresses and the next steps.

    Args:
        directory: The stack's state directory.
        environment_file: The environment file, if it was written.
        say: Receives the lines.
    """
    status = read_status(directory)
    for name, entry in status.components.items() if status else ():
        say(f"  {name:<10}http://127.0.0.1:{entry.port}")
    if environment_file is not None:
        count = len(read_environment_file(environment_file))
        path = shlex.quote(str(environment_file))
        say(f"Wrote {count} variables to {path}. To load them in a shell: set -a; . {path}; set +a")
    say(f"Logs: {directory.root / 'logs'}. `mlpipe status` shows the state, `mlpipe down` stops the stack.")
