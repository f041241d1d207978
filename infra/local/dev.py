"""`mlpipe dev`: the local stack with Dagster's UI and daemon, kept running in the foreground until Ctrl-C."""

from __future__ import annotations

import argparse
import signal
import sys
import time

from infra.local.provisioning.clients import Clients
from infra.local.sample_data import upload_sample_data
from infra.local.stack.command_line import ChosenStack, chosen_stack, say, stack_parser
from infra.local.stack.dagster_runs import Dagster
from infra.local.stack.dagster_service import DagsterService, await_ready, running_dagster
from infra.local.stack.environment_file import read_environment_file
from infra.local.stack.stack_control import StackControl
from infra.local.supervision.stack_state import StackError
from infra.packaging import sagemaker_files
from model_declaration.project import Project
from prediction_contract.errors import ContractError
from prediction_contract.jobs.code_digest import code_digest, code_version, uploaded_digest

_LOOK_SECONDS = 2


class CodeWatch:
    """Compares the uploaded code of jobs with the local files, and reports each edit once.

    Args:
        code_prefix: The prefix of the uploaded code.
        project: The project whose code is uploaded with the platform's.
    """

    def __init__(self, code_prefix: str, project: Project) -> None:
        self._uploaded = self._present = uploaded_digest(code_prefix)
        self._project = project

    def describe_edit(self) -> str:
        """Return one line about edits since the last call, or an empty text."""
        try:
            present = code_digest(sagemaker_files(self._project))
        except OSError:
            # An editor is replacing a file: the next call finds it complete.
            return ""
        if self._uploaded is None or present == self._present:
            return ""
        self._present = present
        uploaded = code_version(self._uploaded)
        if present == self._uploaded:
            return f"The jobs' code is as uploaded again: version {uploaded}."
        return (
            f"The jobs' code was edited: version {code_version(present)} is not uploaded, so jobs still run "
            f"version {uploaded}. Restart `mlpipe dev` to upload the edit."
        )


def main(argv: list[str]) -> int:
    """Keep Dagster running on the stack until it is interrupted.

    Returns:
        0 after Ctrl-C or a termination signal; 1 if something could not be started, or ended by itself.
    """
    parser = stack_parser("python -m infra.local.dev", __doc__)
    parser.add_argument(
        "--port", type=_port, help="port of Dagster's UI; default: 3000 if it is free, else any"
    )
    options = parser.parse_args(argv)
    # On SIGTERM, end Dagster as after Ctrl-C.
    signal.signal(signal.SIGTERM, signal.default_int_handler)
    if signal.getsignal(signal.SIGHUP) is signal.SIG_DFL:
        # The same when the terminal is closed, unless `nohup` ignores the signal.
        signal.signal(signal.SIGHUP, signal.default_int_handler)
    try:
        _run(chosen_stack(options), options.port)
    except (StackError, ContractError) as error:
        sys.stderr.write(f"mlpipe dev: {error}\n")
        return 1
    except KeyboardInterrupt:
        say("Dagster has stopped. The stack stays up; `mlpipe down` stops it.")
    return 0


def _run(stack: ChosenStack, port: int | None) -> None:
    StackControl(stack.directory, stack.environment_file, stack.project, say=say).up()
    variables = read_environment_file(stack.environment_file)
    with running_dagster(stack.directory, stack.project, variables, say=say, port=port) as service:
        say("Dagster is starting.")
        s3 = Clients.of(variables).client("s3")
        bucket = variables["MLPIPE_DATA_BUCKET"]
        written = upload_sample_data(stack.project, s3, bucket)
        await_ready(service)
        dagster = Dagster(service, stack.project.location_name)
        if service.process is not None and (dead := dagster.cancel_dead_runs()):
            say(f"Cancelled {dead} runs that an earlier Dagster left unfinished. Re-execute them in the UI.")
        if stack.project.sample_data is not None:
            say(f"  data      s3://{bucket}, {written} objects of sample data written")
        say(f"  dagster   {service.url}")
        say(f"  api       {variables['MLPIPE_API_URL']}")
        say(f"Dagster's log: {service.log}. Ctrl-C stops Dagster; the stack stays up.")
        _watch(service, CodeWatch(variables["MLPIPE_SAGEMAKER_CODE_PREFIX"], stack.project))


def _watch(service: DagsterService, watch: CodeWatch) -> None:
    """Wait for the interrupt and report edits that are not uploaded; raise if Dagster ends first."""
    while service.process is not None:
        service.require_running()
        if edit := watch.describe_edit():
            say(edit)
        time.sleep(_LOOK_SECONDS)


def _port(text: str) -> int:
    if not text.isdecimal() or not 0 < int(text) < 65536:  # noqa: PLR2004  # the ports of TCP
        raise argparse.ArgumentTypeError(f"{text} is not a port. Use a number from 1 to 65535")
    return int(text)


if __name__ == "__main__":
    sys.exit(main(sys.argv[1:]))
