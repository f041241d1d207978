"""`mlpipe load`: load, check and publish a batch in a Dagster run of this process."""

from __future__ import annotations

import argparse

from mlpipe_dagster.cli.access import Access
from mlpipe_dagster.cli.options import Commands, add_command, add_model_and_batch
from mlpipe_dagster.cli.printed import Answer, Facts


def add_to(commands: Commands) -> None:
    """Add the command."""
    loading = add_command(commands, "load", load)
    add_model_and_batch(loading)
    loading.add_argument("--again", action="store_true", help="load it though it is loaded")


def load(options: argparse.Namespace, _access: Access) -> Answer:
    """Load, check and publish a batch in a Dagster run of this process."""
    # Dagster takes most of a second.
    from mlpipe_dagster.cli.load_run import run_load  # noqa: PLC0415
    from mlpipe_dagster.resources.platform import Platform  # noqa: PLC0415

    found = run_load(Platform(), options.model, options.batch_id, again=options.again)
    return Answer(document=found, parts=[Facts(members=found)])
