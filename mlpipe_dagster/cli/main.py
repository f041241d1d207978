"""`mlpipe`: runs the local stack, and operates batches and publications on AWS or locally."""

from __future__ import annotations

import argparse
import os
import shutil
import sys
from collections.abc import Sequence
from pathlib import Path
from typing import NoReturn

from mlpipe_dagster.cli import init, load, publish_rollback_hold, stack_commands
from mlpipe_dagster.cli.command_output import CommandResult
from mlpipe_dagster.cli.deployment_access import DeploymentAccess
from mlpipe_dagster.cli.development import check, try_model
from mlpipe_dagster.cli.health import doctor
from mlpipe_dagster.cli.inspection import batches, diff, explain, quarantine, show
from mlpipe_dagster.cli.options import add_project
from mlpipe_dagster.cli.versions import champion, models, retrain
from mlpipe_dagster.installed_platform import VERSION, require_suitable_platform
from model_declaration.project import VARIABLE, Project, ProjectError
from prediction_contract.errors import ContractError
from prediction_contract.printable_text import escape_unprintable

# A shell's exit status for a program that Ctrl-C ended.
_INTERRUPTED = 130
_COMMAND_MODULES = (
    init,
    stack_commands,
    try_model,
    check,
    batches,
    show,
    diff,
    explain,
    quarantine,
    publish_rollback_hold,
    load,
    models,
    retrain,
    champion,
    doctor,
)


def main(arguments: Sequence[str] | None = None, access: DeploymentAccess | None = None) -> int:
    """Run one command and return the exit status, 0 for success.

    Args:
        arguments: The command line without the program's name; by default this process's.
        access: The deployment; by default the one that the environment describes.
    """
    options = parser().parse_args(arguments)
    if "begin" in options:
        # `init` runs before there is a project.
        return int(options.begin(options))
    try:
        project = access.project if access else chosen_project(options)
    except ProjectError as error:
        _note(options.name, str(error))
        return 1
    if "start" in options:
        # The platform's programs print their own output, and need no deployment.
        return int(options.start(project, options))
    # Imported here, because `--help` does not need it.
    from botocore.exceptions import BotoCoreError, ClientError, EndpointConnectionError  # noqa: PLC0415

    load_environment_file(project)
    try:
        result: CommandResult = options.run(options, access or DeploymentAccess(project))
    except EndpointConnectionError as error:
        _note(
            options.name,
            f"{error}. Check its address in the environment; `mlpipe up` starts the local stack.",
        )
        return 1
    except (ContractError, BotoCoreError, ClientError, KeyboardInterrupt) as error:
        is_interrupted = isinstance(error, KeyboardInterrupt)
        _note(options.name, "interrupted" if is_interrupted else str(error))
        return _INTERRUPTED if is_interrupted else 1
    for note in result.notes:
        _note(options.name, note)
    width = shutil.get_terminal_size().columns if sys.stdout.isatty() else None
    try:
        sys.stdout.write(f"{result.to_json() if options.json else result.to_text(width)}\n")
        sys.stdout.flush()
    except BrokenPipeError:
        # The reader closed the pipe; the interpreter must not write to it when it ends.
        os.dup2(os.open(os.devnull, os.O_WRONLY), sys.stdout.fileno())
    return 0 if result.ok else 1


def _note(command: str, text: str) -> None:
    """Write one line to standard error, with unprintable characters escaped."""
    sys.stderr.write(f"mlpipe {command}: {escape_unprintable(text)}\n")


class _Parser(argparse.ArgumentParser):
    """A parser whose error messages escape unprintable characters."""

    def error(self, message: str) -> NoReturn:
        super().error(escape_unprintable(message))


def chosen_project(options: argparse.Namespace) -> Project:
    """Return the project named by the command, else by the environment, else by the current folder.

    Raises:
        ProjectError: There is no project, it is invalid, or it requires another version of the platform.
    """
    if "project" in options:
        # So that everything this process starts or imports finds the same project.
        os.environ[VARIABLE] = str(options.project.resolve())
    project = Project.find(os.environ, Path.cwd())
    require_suitable_platform(project)
    return project


def load_environment_file(project: Project) -> None:
    """Load the project's `.env` as Dagster does; variables that are already set take precedence."""
    from dotenv import load_dotenv  # noqa: PLC0415  # only a shell's start needs it

    load_dotenv(project.environment_file)


def parser() -> argparse.ArgumentParser:
    """Return the parser of the command line."""
    command_line = _Parser(
        prog="mlpipe", description="Run a project's local stack, and operate its batches and publications."
    )
    command_line.add_argument("--version", action="version", version=f"mlpipe {VERSION}")
    add_project(command_line)
    commands = command_line.add_subparsers(required=True, metavar="command", dest="name")
    for module in _COMMAND_MODULES:
        module.add_to(commands)
    return command_line
