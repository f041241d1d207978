"""`make dev`: the local stack with Dagster's UI and daemon, kept running in the foreground until Ctrl-C."""

from __future__ import annotations

import argparse
import signal
import sys
import time
from pathlib import Path

from infra.local.demo.progress import DemoError
from infra.local.provisioning.clients import Clients
from infra.local.raw_data import upload_days
from infra.local.stack.code_watch import CodeWatch
from infra.local.stack.dagster_runs import Dagster
from infra.local.stack.dagster_service import DagsterService, await_ready, running_dagster
from infra.local.stack.environment_file import read_environment_file
from infra.local.stack.stack_control import StackControl
from infra.local.supervision.components import COMPONENT_NAMES
from infra.local.supervision.stack_state import PROJECT_ROOT, StackDirectory, StackError

_LOOK_SECONDS = 2


def main(argv: list[str]) -> int:
    """Keep Dagster running on the stack until it is interrupted.

    Returns:
        0 after Ctrl-C or a request to end; 1 if something could not be started, or ended by itself.
    """
    parser = argparse.ArgumentParser(prog="python -m infra.local.dev", description=__doc__)
    parser.add_argument(
        "--state-dir", type=Path, default=PROJECT_ROOT / ".local", help="default: %(default)s"
    )
    parser.add_argument("--env-file", type=Path, default=PROJECT_ROOT / ".env", help="default: %(default)s")
    parser.add_argument("--port", type=_port, help="of Dagster's page; 3000 if it is free unless given")
    options = parser.parse_args(argv)
    # Asked to end by a program, it ends Dagster as after Ctrl-C.
    signal.signal(signal.SIGTERM, signal.default_int_handler)
    try:
        _run(StackDirectory(options.state_dir.resolve()), options.env_file.resolve(), options.port)
    except (StackError, DemoError) as error:
        sys.stderr.write(f"make dev: {error}\n")
        return 1
    except KeyboardInterrupt:
        _say("Dagster has ended. The stack stays up; `make down` stops it.")
    return 0


def _run(directory: StackDirectory, environment_file: Path, port: int | None) -> None:
    StackControl(
        directory=directory,
        environment_file=environment_file,
        names=COMPONENT_NAMES,
        provisioned=True,
        say=_say,
    ).up()
    variables = read_environment_file(environment_file)
    with running_dagster(directory, variables, say=_say, port=port) as service:
        _say("Dagster is starting.")
        clients = Clients(
            aws=variables["AWS_ENDPOINT_URL"],
            jobs=variables["AWS_ENDPOINT_URL_GLUE"],
            region=variables["AWS_REGION"],
        )
        upload_days(clients.client("s3"), variables["MLPIPE_DATA_BUCKET"])
        await_ready(service)
        if service.process is not None and (dead := Dagster(service).cancel_dead_runs()):
            _say(f"{dead} runs that an earlier Dagster left are cancelled; start them again in the UI.")
        _say(f"  dagster   {service.url}")
        _say(f"  api       {variables['MLPIPE_API_URL']}")
        _say(f"Dagster's log: {service.log}. Ctrl-C ends Dagster; the stack stays up.")
        _keep(service, CodeWatch(variables["MLPIPE_SAGEMAKER_CODE_PREFIX"], PROJECT_ROOT))


def _keep(service: DagsterService, watch: CodeWatch) -> None:
    """Wait for the interrupt and tell of edits that are not uploaded; raise if Dagster ends before."""
    while service.process is not None:
        service.require_running()
        if news := watch.news():
            _say(news)
        time.sleep(_LOOK_SECONDS)


def _port(text: str) -> int:
    if not text.isdecimal() or not 0 < int(text) < 65536:  # noqa: PLR2004  # the ports of TCP
        raise argparse.ArgumentTypeError(f"{text} is no port: name one from 1 to 65535")
    return int(text)


def _say(line: str) -> None:
    sys.stdout.write(f"{line}\n")
    sys.stdout.flush()


if __name__ == "__main__":
    sys.exit(main(sys.argv[1:]))
