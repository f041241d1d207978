"""The local stack's commands: `python -m infra.local up|down|status`."""

from __future__ import annotations

import argparse
import logging
import os
import sys
from pathlib import Path
from typing import TextIO

from infra.local.stack.stack_control import StackControl
from infra.local.supervision.components import COMPONENT_NAMES
from infra.local.supervision.stack_state import PROJECT_ROOT, StackDirectory, StackError
from infra.local.supervision.supervisor import Supervisor


def main() -> int:
    """Run one command.

    Returns:
        0 if it did what was asked; 1 if it could not, or if `status` found the stack not whole.
    """
    arguments = _parser().parse_args()
    # Resolved, because the path is the mark by which the stack's processes are known.
    directory = StackDirectory(arguments.state_dir.resolve())
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
            environment_file=arguments.env_file.resolve(),
            names=names,
            provisioned=arguments.only is None,
            say=_say,
            enforces_iam=arguments.enforce_iam,
        )
        if arguments.command == "up":
            control.up()
        elif arguments.command == "down":
            control.down()
        else:
            return 0 if control.status() else 1
    except StackError as error:
        _say(f"local stack: {error}", stream=sys.stderr)
        return 1
    except KeyboardInterrupt:
        _say("local stack: interrupted; what was started goes on. `make down` stops it.", stream=sys.stderr)
        return 130
    return 0


def _say(line: str, *, stream: TextIO | None = None) -> None:
    """Write a line at once, to standard output unless told otherwise."""
    output = stream or sys.stdout
    try:
        output.write(f"{line}\n")
        output.flush()
    except BrokenPipeError:
        # The reader left, as `head` does; that must not stop a start halfway.
        os.dup2(os.open(os.devnull, os.O_WRONLY), output.fileno())


def _parser() -> argparse.ArgumentParser:
    """Return the parser of the command line."""
    parser = argparse.ArgumentParser(prog="python -m infra.local", description=__doc__)
    parser.add_argument(
        "command",
        choices=("up", "down", "status", "supervise"),
        help="supervise is what `up` starts in the background",
    )
    parser.add_argument(
        "--state-dir", type=Path, default=PROJECT_ROOT / ".local", help="default: %(default)s"
    )
    parser.add_argument("--env-file", type=Path, default=PROJECT_ROOT / ".env", help="default: %(default)s")
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
