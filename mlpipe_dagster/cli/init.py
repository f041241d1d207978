"""`mlpipe init`: writes a new project that runs as it is."""

from __future__ import annotations

import argparse
import shlex
import sys
from pathlib import Path

from mlpipe_dagster.cli.options import Commands
from prediction_contract.errors import ContractError

_SUMMARY = "Write a new project: a model with made-up data, stages, tests, CI."


def add_to(commands: Commands) -> None:
    """Add the command."""
    added = commands.add_parser("init", help=_SUMMARY, description=_SUMMARY)
    added.add_argument("folder", type=Path, help="a folder that does not exist yet; it names the project")
    added.add_argument("--model", default="expected_orders", help="the model's name; default: %(default)s")
    added.set_defaults(begin=init)


def init(options: argparse.Namespace) -> int:
    """Write the project and say what to do next; return the exit status."""
    # Imported here, because it imports pydantic, which few commands need.
    from mlpipe_dagster.components.project_template import TemplateNames, write_project  # noqa: PLC0415

    root: Path = options.folder.resolve()
    try:
        names = TemplateNames.of(root.name, options.model)
        written = write_project(root, names)
    except (ContractError, OSError) as error:
        sys.stderr.write(f"mlpipe init: {error}\n")
        return 1
    for path in written:
        sys.stdout.write(f"{options.folder / path.relative_to(root)}\n")
    sys.stdout.write(
        f"Created the project {names.project} with the model {names.model}. Next:\n"
        f"  cd {shlex.quote(str(options.folder))}\n"
        "  pip install --editable .   # lets dg and dagster find the project\n"
        f"  mlpipe try {names.model}   # runs its functions on sample data\n"
        "  mlpipe up && mlpipe demo   # starts the local stack and shows the whole path\n"
    )
    return 0
