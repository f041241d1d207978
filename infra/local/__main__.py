"""The local stack's commands: `python -m infra.local up|down|status`."""

from __future__ import annotations

import argparse
import logging
import os
import sys
from pathlib import Path

from infra.local.stack.command_line import say, stack_parser
from infra.local.stack.stack_control import StackControl
from infra.local.supervision.components import COMPONENT_NAMES
from infra.local.supervision.stack_state import StackDirectory, StackError
from infra.local.supervision.supervisor import Supervisor
from model_declaration.project import Project, ProjectError


def main() -> int:
    """Run one command.

    Returns:
        0 if it did what was asked; 1 if it could not, or if `status` found the stack not whole.
    """
    arguments = _parser().parse_args()
    directory = StackDirectory(arguments.state_dir)
    names = [name for name in COMPONENT_NAMES if name in (arguments.only or COMPONENT_NAMES)]
    try:
        if arguments.command == "supervise":
            logging.basicConfig(
                level=logging.INFO, format="%(asctime)s %(levelname)s %(message)s", stream=sys.stdout
            )
            Supervisor(directory, names).run()
            return 0
        control = StackControl(
            directory=directory,
            environment_file=arguments.env_file,
            names=names,
            project=None if arguments.only else Project.find(os.environ, Path.cwd()),
            say=say,
            enforces_iam=arguments.enforce_iam,
        )
        if arguments.command == "up":
            control.up()
        elif arguments.command == "down":
            control.down()
        else:
            return 0 if control.status() else 1
    except (StackError, ProjectError) as error:
        say(f"local stack: {error}", stream=sys.stderr)
        return 1
    except KeyboardInterrupt:
        say("local stack: interrupted; what was started goes on. `mlpipe down` stops it.", stream=sys.stderr)
        return 130
    return 0


def _parser() -> argparse.ArgumentParser:
    """Return the parser of the command line."""
    parser = stack_parser("python -m infra.local", __doc__)
    parser.add_argument(
        "command",
        choices=("up", "down", "status", "supervise"),
        help="supervise is what `up` starts in the background",
    )
    parser.add_argument(
        "--only",
        action="append",
        choices=COMPONENT_NAMES,
        help="start this component only, and provision nothing; may be given more than once",
    )
    parser.add_argument(
        "--enforce-iam",
        action="store_true",
        help="let AWS check signatures and permissions of all but the root key, and record every call",
    )
    return parser


if __name__ == "__main__":
    sys.exit(main())
