"""`mlpipe load`: load, check and publish the batch of a done file in a Dagster run of this process."""

from __future__ import annotations

import argparse

from mlpipe_dagster.cli.command_output import CommandResult, Fields
from mlpipe_dagster.cli.deployment_access import DeploymentAccess
from mlpipe_dagster.cli.options import Commands, add_command
from prediction_contract.errors import InvalidNameError
from prediction_contract.naming.s3_layout import DoneKey, parse_done_key

_SCHEME = "s3://"


def add_to(commands: Commands) -> None:
    """Add the command."""
    loading = add_command(commands, "load", load)
    loading.add_argument(
        "manifest",
        help="the done file: s3://<bucket>/done/<date>/<model>/<batch id>.json, or its key alone",
    )
    loading.add_argument("--again", action="store_true", help="load it though it is loaded")


def load(options: argparse.Namespace, access: DeploymentAccess) -> CommandResult:
    """Load, check and publish the batch of a done file, however old, in a Dagster run of this process."""
    named = named_done_file(options.manifest, access.settings.data_bucket)
    access.require_declared(named.model)
    # Dagster takes most of a second.
    from mlpipe_dagster.cli.load_run import run_load  # noqa: PLC0415
    from mlpipe_dagster.resources.platform import Platform  # noqa: PLC0415

    found = run_load(Platform(), named, again=options.again)
    return CommandResult(document=found, sections=[Fields(members=found)])


def named_done_file(text: str, bucket: str) -> DoneKey:
    """Return what a done file's key or address says.

    Args:
        text: The key, or `s3://<bucket>/<key>`.
        bucket: The deployment's bucket.

    Raises:
        InvalidNameError: It is no done file, or lies in another bucket.
    """
    if not text.startswith(_SCHEME):
        return parse_done_key(text)
    named_bucket, _, key = text.removeprefix(_SCHEME).partition("/")
    if named_bucket != bucket:
        raise InvalidNameError(
            f"{text[:200]!r} lies in bucket {named_bucket[:80]!r}, and this deployment's is {bucket}",
            remedy="Name a done file of this deployment, or take the environment of the other",
        )
    return parse_done_key(key)
