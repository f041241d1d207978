"""Run the project's demo on the local stack and print its result as a final JSON line: `mlpipe demo`."""

from __future__ import annotations

import json
import signal
import sys
import traceback

from infra.local.demo.demo_plan import demo_plan
from infra.local.demo.progress import DemoProgress
from infra.local.demo.scenario import Demo
from infra.local.stack.command_line import chosen_stack, stack_parser
from infra.local.supervision.stack_state import StackError
from prediction_contract.errors import ContractError


def main(argv: list[str]) -> int:
    """Run the demo.

    Returns:
        0 if every check succeeded.
    """
    parser = stack_parser("python -m infra.local.demo", __doc__)
    options = parser.parse_args(argv)
    # On SIGTERM, end Dagster as after Ctrl-C.
    signal.signal(signal.SIGTERM, lambda *_: sys.exit(143))
    if signal.getsignal(signal.SIGHUP) is signal.SIG_DFL:
        # The same when the terminal is closed, unless `nohup` ignores the signal.
        signal.signal(signal.SIGHUP, lambda *_: sys.exit(129))
    progress = DemoProgress(sys.stdout)
    try:
        stack = chosen_stack(options)
        result = Demo(stack, demo_plan(stack.project), progress).run()
    except (StackError, ContractError) as error:
        sys.stderr.write(f"mlpipe demo: {error}\n")
        progress.say(json.dumps({"ok": False, "error": str(error)}))
        return 1
    except Exception as error:  # noqa: BLE001  # any error must be reported in the last line and the status
        traceback.print_exc()
        progress.say(json.dumps({"ok": False, "error": f"{type(error).__name__}: {error}"}))
        return 1
    except KeyboardInterrupt:
        progress.say(json.dumps({"ok": False, "error": "interrupted"}))
        return 130
    progress.say(json.dumps(result))
    return 0


if __name__ == "__main__":
    sys.exit(main(sys.argv[1:]))
