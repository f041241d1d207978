"""Options that several commands share."""

from __future__ import annotations

import argparse
import getpass
from collections.abc import Callable
from pathlib import Path
from typing import Any

from mlpipe_dagster.cli.command_output import CommandResult
from mlpipe_dagster.cli.deployment_access import DeploymentAccess
from prediction_contract.errors import InvalidNameError
from prediction_contract.naming.batch import Partition

# argparse has no public name for what `add_subparsers` returns.
Commands = Any
Run = Callable[[argparse.Namespace, DeploymentAccess], CommandResult]


def add_command(commands: Commands, name: str, run: Run) -> argparse.ArgumentParser:
    """Add a command that calls `run`; the first line of `run`'s docstring is its help text."""
    summary = (run.__doc__ or "").splitlines()[0]
    added: argparse.ArgumentParser = commands.add_parser(name, help=summary, description=summary)
    added.set_defaults(run=run)
    add_project(added)
    added.add_argument("--json", action="store_true", help="print JSON as described in docs/cli.md")
    return added


def add_project(command: argparse.ArgumentParser) -> None:
    """Add the option for the project's folder; it may also come before the command's name."""
    command.add_argument(
        "--project",
        type=Path,
        # No default, which would overwrite an option given before the command's name.
        default=argparse.SUPPRESS,
        metavar="FOLDER",
        help="the project's folder; by default the project that contains the current folder",
    )


def add_model(command: argparse.ArgumentParser) -> None:
    """Add the model's name."""
    command.add_argument("model", help="the model's name")


def add_model_and_batch(command: argparse.ArgumentParser) -> None:
    """Add the model's name and a batch."""
    add_model(command)
    command.add_argument("batch_id", help="the batch, as `mlpipe batches` names it")


def add_named_batch(command: argparse.ArgumentParser) -> None:
    """Add a batch, named by its id or by model and id."""
    command.add_argument(
        "batch", nargs="+", metavar="[model] batch", help="the batch, as `mlpipe batches` names it"
    )


def add_request(command: argparse.ArgumentParser) -> None:
    """Add the options for who requests a change, and why."""
    command.add_argument("--reason", default="", help="why, for the history")
    command.add_argument(
        "--actor", default=getpass.getuser(), help="who makes the change; by default your user name"
    )
    command.add_argument("--request-id", default="", help="repeating a request with this id changes nothing")


def partition(text: str) -> Partition:
    """Parse a partition in the form of file names or of Dagster, for argparse."""
    try:
        return Partition.from_dagster_key(text)
    except InvalidNameError as error:
        raise argparse.ArgumentTypeError(str(error)) from error


def at_least_one(text: str) -> int:
    """Parse a whole number above 0, for argparse."""
    number = int(text)
    if number < 1:
        raise argparse.ArgumentTypeError(f"{number} is not above 0")
    return number
