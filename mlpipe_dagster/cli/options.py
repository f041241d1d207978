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
    """Add a command that `run` carries out; the first line of its docstring describes it."""
    summary = (run.__doc__ or "").splitlines()[0]
    added: argparse.ArgumentParser = commands.add_parser(name, help=summary, description=summary)
    added.set_defaults(run=run)
    add_project(added)
    added.add_argument("--json", action="store_true", help="print JSON, in the form that docs/cli.md gives")
    return added


def add_project(command: argparse.ArgumentParser) -> None:
    """Add the project that a command is about; it may stand before the command's name as well."""
    command.add_argument(
        "--project",
        type=Path,
        # What stood before the command's name must stay.
        default=argparse.SUPPRESS,
        metavar="FOLDER",
        help="the project's folder; the one that the present folder lies in by default",
    )


def add_model(command: argparse.ArgumentParser) -> None:
    """Add the model's name."""
    command.add_argument("model", help="the model's name")


def add_model_and_batch(command: argparse.ArgumentParser) -> None:
    """Add the model's name and a batch."""
    add_model(command)
    command.add_argument("batch_id", help="the batch, as `mlpipe batches` names it")


def add_named_batch(command: argparse.ArgumentParser) -> None:
    """Add the words that name a batch."""
    command.add_argument(
        "batch", nargs="+", metavar="[model] batch", help="the batch, as `mlpipe batches` names it"
    )


def add_request(command: argparse.ArgumentParser) -> None:
    """Add who asks for a change of what is live, and why."""
    command.add_argument("--reason", default="", help="why, for the history")
    command.add_argument("--actor", default=getpass.getuser(), help="who asks; your user name by default")
    command.add_argument("--request-id", default="", help="one that was carried out before changes nothing")


def partition(text: str) -> Partition:
    """Return a partition as files or as Dagster name it, for argparse."""
    try:
        return Partition.from_dagster_key(text)
    except InvalidNameError as error:
        raise argparse.ArgumentTypeError(str(error)) from error


def at_least_one(text: str) -> int:
    """Return a whole number above 0, for argparse."""
    number = int(text)
    if number < 1:
        raise argparse.ArgumentTypeError(f"{number} is not above 0")
    return number
