"""A stack with Dagster, run by `make dev`, with functions to retrain, score and inspect both models."""

from __future__ import annotations

import json
import re
import signal
import subprocess
import sys
import urllib.request
from contextlib import contextmanager
from dataclasses import dataclass
from typing import TYPE_CHECKING

from infra.local.stack.dagster_runs import Dagster, Run
from infra.local.stack.dagster_service import DagsterService, dagster_environment
from infra.local.supervision.stack_state import StackDirectory
from prediction_contract.registry.records import ReleaseState
from prediction_contract.registry.table import RegistryTable
from tests.projects import EXAMPLE
from tests.stack_runs import PROJECT_ROOT, StackRun, aws_client_at, wait_until

if TYPE_CHECKING:
    from collections.abc import Iterator
    from pathlib import Path

    from prediction_contract.registry.records import BatchRecord

MODELS = ("flight_delay", "airport_congestion")
RUN_SECONDS = 300
# The last day on which versions are judged.
JUDGED_UP_TO = "2013-01-29"


@dataclass(frozen=True)
class DevelopmentStack:
    """The running stack.

    Attributes:
        environment_file: The file with its addresses.
        variables: The variables of its environment file.
        dagster: The client of its Dagster.
        registry: The registry.
        directory: The folder of its state.
    """

    environment_file: Path
    variables: dict[str, str]
    dagster: Dagster
    registry: RegistryTable
    directory: StackDirectory

    def train(self) -> None:
        """Retrain both models with their jobs in parallel; each run promotes its version by rule."""
        runs = [
            self.dagster.launch_job(
                f"{model}_train",
                config={
                    "ops": {f"{model}__trained_model": {"config": {"last_partition": JUDGED_UP_TO}}},
                },
            )
            for model in MODELS
        ]
        for run_id in runs:
            self.dagster.await_run(run_id, seconds=RUN_SECONDS, what="Retraining")

    def prepare(self, first: str, last: str) -> None:
        """Prepare both models' features for some days, in one run each."""
        runs = [self.dagster.launch_assets([f"{model}/features"], first=first, last=last) for model in MODELS]
        for run_id in runs:
            self.dagster.await_run(run_id, seconds=RUN_SECONDS, what="Preparing")

    def score(self, model: str, partition: str) -> str:
        """Score a day and return its batch."""
        run_id = self.dagster.launch_job(f"{model}_score", partition=partition)
        run = self.dagster.await_run(run_id, seconds=RUN_SECONDS, what="Scoring")
        return run.tags[f"mlpipe.batch/{model}"]

    def command(self, *words: str) -> str:
        """Run one of Dagster's commands on the stack's instance, and return its output."""
        done = subprocess.run(
            [sys.executable, "-m", *words],
            # Dagster reads the .env of its working directory above all else, which may be another stack's.
            cwd=self.directory.root,
            env=dagster_environment(self.directory, EXAMPLE, self.variables),
            stdout=subprocess.PIPE,
            stderr=subprocess.STDOUT,
            text=True,
            timeout=RUN_SECONDS,
            check=False,
        )
        assert done.returncode == 0, done.stdout[-4000:]
        return done.stdout

    def load_run(self, model: str, batch_id: str) -> Run | None:
        """Return the newest run that loads a batch."""
        return self.dagster.newest_run(f"{model}_load", {"mlpipe/batch_id": batch_id})

    def batch(self, model: str, batch_id: str) -> BatchRecord:
        """Return a batch's record."""
        record = self.registry.batch(model, batch_id)
        assert record is not None
        return record

    def is_live(self, model: str, batch_id: str) -> bool:
        """Return whether a batch is live."""
        return self.batch(model, batch_id).release_state == ReleaseState.LIVE

    def was_published(self, model: str, batch_id: str) -> bool:
        """Return whether a batch is live or was superseded."""
        return self.batch(model, batch_id).release_state in (ReleaseState.LIVE, ReleaseState.SUPERSEDED)

    def glue_refuses(self, *, count: int) -> None:
        """Make Glue refuse this many starts of a job; 0 stops that."""
        address = f"{self.variables['AWS_ENDPOINT_URL_GLUE']}/_executor/faults"
        fault = {
            "service": "glue",
            "operation": "StartJobRun",
            "error": "InvalidInputException",
            "count": count,
        }
        request = urllib.request.Request(
            address,
            data=json.dumps(fault).encode() if count else None,
            method="POST" if count else "DELETE",
            headers={"Content-Type": "application/json"},
        )
        opener = urllib.request.build_opener(urllib.request.ProxyHandler({}))
        with opener.open(request, timeout=30) as answer:
            assert answer.status == 200


@contextmanager
def development_stack(directory: Path) -> Iterator[DevelopmentStack]:
    """Run `make dev` on a new stack, and end both.

    Args:
        directory: An empty one, for the stack's state.
    """
    run = StackRun(directory / "state")
    log = directory / "dev.log"
    paths = ["--state-dir", str(run.state_directory), "--env-file", str(run.environment_file)]
    with log.open("wb") as output:
        process = subprocess.Popen(
            [sys.executable, "-m", "infra.local.dev", *paths], cwd=PROJECT_ROOT, stdout=output, stderr=output
        )
    try:
        wait_until(
            lambda: "Ctrl-C" in log.read_text() or process.poll() is not None,
            seconds=RUN_SECONDS,
            what="Dagster's address",
        )
        (url,) = re.findall(r"^  dagster +(\S+)", log.read_text(), re.MULTILINE)
        variables = dict(run.running().environment)
        client = aws_client_at(variables["AWS_ENDPOINT_URL"], "dynamodb")
        yield DevelopmentStack(
            run.environment_file,
            variables,
            Dagster(
                DagsterService(url, run.state_directory / "logs" / "dagster.log", None), EXAMPLE.location_name
            ),
            RegistryTable(client, variables["MLPIPE_REGISTRY_TABLE"]),
            StackDirectory(run.state_directory),
        )
    finally:
        process.send_signal(signal.SIGINT)
        try:
            process.wait(90)
        finally:
            process.kill()
            run.down()
