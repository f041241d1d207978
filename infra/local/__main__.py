"""The local stack's commands: `python -m infra.local up|down|status`."""

from __future__ import annotations

import argparse
import logging
import sys

from infra.local.stack.command_line import ChosenStack, chosen_stack, say, stack_parser
from infra.local.stack.stack_control import StackControl
from infra.local.supervision.components import component_names
from infra.local.supervision.stack_state import StackError
from infra.local.supervision.supervisor import Supervisor
from prediction_contract.errors import ContractError


def main() -> int:
    """Run one command.

    Returns:
        0 on success; 1 if the command failed, or if `status` found a component that does not run.
    """
    arguments = _parser().parse_args()
    try:
        return _run(arguments, chosen_stack(arguments))
    except (StackError, ContractError) as error:
        say(f"local stack: {error}", stream=sys.stderr)
        return 1
    except KeyboardInterrupt:
        say("local stack: interrupted. `mlpipe down` stops what was started.", stream=sys.stderr)
        return 130


def _run(arguments: argparse.Namespace, stack: ChosenStack) -> int:
    known = component_names(stack.project)
    if unknown := sorted(set(arguments.only or ()) - set(known)):
        raise StackError(f"There is no component {unknown[0]}", remedy=f"Choose one of {', '.join(known)}")
    names = [name for name in known if name in (arguments.only or known)]
    if arguments.command == "supervise":
        logging.basicConfig(
            level=logging.INFO, format="%(asctime)s %(levelname)s %(message)s", stream=sys.stdout
        )
        Supervisor(stack.directory, stack.project, names).run()
        return 0
    control = StackControl(
        stack.directory,
        stack.environment_file,
        stack.project,
        names=names,
        provisioned=arguments.only is None,
        say=say,
        enforces_iam=arguments.enforce_iam,
    )
    if arguments.command == "up":
        control.up()
    elif arguments.command == "down":
        control.down()
    else:
        return 0 if control.status() else 1
    return 0


def _parser() -> argparse.ArgumentParser:
    """Return the parser of the command line."""
    parser = stack_parser("python -m infra.local", __doc__)
    parser.add_argument(
        "command",
        choices=("up", "down", "status", "supervise"),
        help="`supervise` is the background process that `up` starts",
    )
    parser.add_argument(
        "--only",
        action="append",
        metavar="COMPONENT",
        help="start only this component and create no resources; can be repeated",
    )
    parser.add_argument(
        "--enforce-iam",
        action="store_true",
        help="check signatures and permissions as AWS does, except for the root key, and record every call",
    )
    return parser


if __name__ == "__main__":
    sys.exit(main())
