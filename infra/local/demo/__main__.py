"""`python -m infra.local.demo`: what `make demo` runs. Its last line of output is one JSON object."""

from __future__ import annotations

import argparse
import json
import signal
import sys
import traceback
from pathlib import Path

from infra.local.demo.progress import DemoError, DemoProgress
from infra.local.demo.scenario import Demo
from infra.local.supervision.stack_state import PROJECT_ROOT, StackDirectory, StackError


def main(argv: list[str]) -> int:
    """Run the demo.

    Returns:
        0 if every statement held.
    """
    parser = argparse.ArgumentParser(prog="python -m infra.local.demo", description=__doc__)
    parser.add_argument(
        "--state-dir", type=Path, default=PROJECT_ROOT / ".local", help="default: %(default)s"
    )
    parser.add_argument("--env-file", type=Path, default=PROJECT_ROOT / ".env", help="default: %(default)s")
    options = parser.parse_args(argv)
    # Asked to end by a program, it ends its Dagster as after Ctrl-C.
    signal.signal(signal.SIGTERM, lambda *_: sys.exit(143))
    progress = DemoProgress(sys.stdout)
    demo = Demo(StackDirectory(options.state_dir.resolve()), options.env_file.resolve(), progress)
    try:
        result = demo.run()
    except (DemoError, StackError) as error:
        sys.stderr.write(f"make demo: {error}\n")
        progress.say(json.dumps({"ok": False, "error": str(error)}))
        return 1
    except Exception as error:  # noqa: BLE001  # whatever it is, the last line and the status must tell
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
