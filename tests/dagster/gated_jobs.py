"""A stack whose jobs wait at gates, and run workers that can be killed meanwhile."""

from __future__ import annotations

import json
import os
import signal
import subprocess
import sys
import uuid
from collections.abc import Mapping
from dataclasses import dataclass, field
from datetime import date, timedelta
from functools import cached_property
from pathlib import Path
from typing import Any

import dagster as dg
from botocore.exceptions import ClientError
from flights.sample_data import objects

from infra.definitions import pipeline_definitions
from infra.local.provisioning.provisioned_registry import ensure_pipelines
from infra.local.sample_data import upload_objects
from infra.packaging import sagemaker_files
from prediction_contract.manifests.manifest import Manifest, parse_manifest
from prediction_contract.naming.resource_names import Deployment
from prediction_contract.naming.s3_layout import PIPES_PREFIX
from prediction_contract.registry.table import RegistryTable
from prediction_contract.stores.warehouse_table import WarehouseTable
from tests.dagster.gated_definitions import FIRST_PREPARED, HISTORY_DAYS, MODEL, SCORED, declaration
from tests.projects import EXAMPLE
from tests.stack_runs import PROJECT_ROOT, StackRun, aws_client_at, wait_until

# Stands in for the digest of the gated code.
CODE_DIGEST = "ab" * 32
WAIT_SECONDS = 240.0
# Reports that a job reached the gate, and continues once the test opens it.
_GATE = '''
def wait_at_gate(step):
    """Wait until the test opens this step's gate."""
    import time

    import boto3
    from botocore.exceptions import ClientError

    s3 = boto3.client("s3")
    s3.put_object(Bucket="{bucket}", Key=f"gates/{{step}}/reached", Body=b"")
    deadline = time.monotonic() + {seconds}
    while time.monotonic() < deadline:
        try:
            s3.head_object(Bucket="{bucket}", Key=f"gates/{{step}}/open")
            return
        except ClientError:
            time.sleep(0.2)
    raise TimeoutError(step)
'''
_GATED_FUNCTION = '''

_without_gate = {step}


def {step}(*arguments, **sources):
    """Wait at the gate, then do it."""
    from sagemaker_scripts.gate import wait_at_gate

    wait_at_gate("{step}")
    return _without_gate(*arguments, **sources)
'''


@dataclass(frozen=True)
class Worker:
    """A run worker: a real process that executes one Dagster run.

    Attributes:
        label: A tag of its run.
        process: The process.
        log: The file with its output.
    """

    label: str
    process: subprocess.Popen[bytes]
    log: Path

    def kill(self) -> None:
        """Kill the process."""
        self.process.kill()
        self.process.wait(timeout=30)

    def succeed(self) -> None:
        """Wait for the process to end, and assert that it succeeded."""
        assert self.process.wait(timeout=WAIT_SECONDS) == 0, self.text()

    def await_line(self, text: str) -> None:
        """Wait until the output contains a text."""
        wait_until(
            lambda: text in self.text() or self.process.poll() is not None, seconds=WAIT_SECONDS, what=text
        )
        assert text in self.text(), self.text()

    def text(self) -> str:
        """Return the output so far."""
        return self.log.read_text(encoding="utf-8", errors="replace")


@dataclass
class GatedPlatform:
    """A separate stack with raw data, gated code and a Dagster instance.

    Attributes:
        stack: The running stack.
        home: The instance's home.
    """

    stack: StackRun
    home: Path
    workers: list[Worker] = field(default_factory=list)

    @cached_property
    def variables(self) -> Mapping[str, str]:
        """Return the variables of the stack's environment file."""
        return self.stack.running().environment

    @cached_property
    def bucket(self) -> str:
        """Return the data bucket."""
        return self.variables["MLPIPE_DATA_BUCKET"]

    @cached_property
    def names(self) -> Deployment:
        """Return the stack's deployment."""
        given = self.variables
        return Deployment(given["MLPIPE_STAGE"], given["MLPIPE_ACCOUNT_ID"], given["AWS_REGION"])

    @cached_property
    def registry(self) -> RegistryTable:
        """Return the registry."""
        return RegistryTable(self.aws("dynamodb"), self.names.registry_table)

    @cached_property
    def instance(self) -> dg.DagsterInstance:
        """Return the instance that stores the workers' runs."""
        return dg.DagsterInstance.from_config(str(self.home))

    def aws(self, service: str) -> Any:
        """Return a boto3 client."""
        endpoint = self.variables.get(
            f"AWS_ENDPOINT_URL_{service.upper()}", self.variables["AWS_ENDPOINT_URL"]
        )
        return aws_client_at(endpoint, service)

    def prepare(self) -> None:
        """Put raw data and gated code on S3, and set up the instance."""
        self.home.mkdir()
        (self.home / "dagster.yaml").write_text("telemetry:\n  enabled: false\n")
        s3 = self.aws("s3")
        first = date.fromisoformat(FIRST_PREPARED) - timedelta(days=HISTORY_DAYS)
        last = date.fromisoformat(SCORED) + timedelta(days=1)
        upload_objects(s3, self.bucket, objects(first, last))
        gate = _GATE.format(bucket=self.bucket, seconds=WAIT_SECONDS)
        prefix = self.names.code_tree_prefix("sagemaker_scripts", CODE_DIGEST)
        files = sagemaker_files(EXAMPLE)
        files["sagemaker_scripts/gate.py"] = gate.encode()
        for step in ("features", "train", "predict"):
            files[f"flights/defs/{MODEL}/{step}.py"] += _GATED_FUNCTION.format(step=step).encode()
        for path, content in files.items():
            s3.put_object(Bucket=self.bucket, Key=f"{prefix}{path}", Body=content)
        script = (PROJECT_ROOT / "glue_scripts" / "load_predictions.py").read_text(encoding="utf-8")
        confirmed = "    record = claim.confirm()\n"
        assert confirmed in script
        script = script.replace(confirmed, f'{confirmed}    wait_at_gate("load")\n')
        script = script.replace("\n\ndef main(", f"\n{gate}\n\ndef main(", 1)
        s3.put_object(Bucket=self.bucket, Key=self.names.load_script_key, Body=script.encode())
        ensure_pipelines(
            self.aws("sagemaker"),
            self.aws("scheduler"),
            [pipeline_definitions.retraining(self.names, declaration(), code_digest=CODE_DIGEST)],
            prefix=self.names.retraining_pipelines_prefix,
        )

    def start(self, job: str, tags: Mapping[str, str], *, follows: Worker | None = None) -> Worker:
        """Start a run worker; if it follows another worker, its run is a retry of that worker's run."""
        label = f"{job}-{uuid.uuid4().hex[:8]}"
        given = {"worker": label, **{f"dagster/{name}": value for name, value in tags.items()}}
        if follows is not None:
            parent = self.run_of(follows).run_id
            given |= {"dagster/parent_run_id": parent, "dagster/root_run_id": parent}
            given["dagster/is_resume_retry"] = "true"
        log = self.home / f"{label}.log"
        with log.open("wb") as output:
            process = subprocess.Popen(
                [
                    *(sys.executable, "-m", "dagster", "job", "execute"),
                    *("-m", "tests.dagster.gated_definitions", "-j", job, "--tags", json.dumps(given)),
                ],
                # Dagster lets the .env of its working directory override everything else.
                cwd=self.home,
                env=self._environment(),
                stdout=output,
                stderr=output,
            )
        worker = Worker(label, process, log)
        self.workers.append(worker)
        return worker

    def _environment(self) -> dict[str, str]:
        kept = {name: value for name, value in os.environ.items() if name != "PYTHONDONTWRITEBYTECODE"}
        own = {
            "DAGSTER_HOME": str(self.home),
            "MLPIPE_SAGEMAKER_CODE_PREFIX": self.names.code_tree_prefix("sagemaker_scripts", CODE_DIGEST),
            "PYTHONPATH": str(PROJECT_ROOT),
        }
        return {**kept, **self.variables, **own}

    def cancel(self, worker: Worker) -> None:
        """Cancel a worker's run as Dagster's UI does, and wait for the process to end."""
        self.instance.report_run_canceling(self.run_of(worker))
        worker.process.send_signal(signal.SIGINT)
        worker.process.wait(timeout=WAIT_SECONDS)

    def run_of(self, worker: Worker) -> dg.DagsterRun:
        """Return a worker's run."""
        (run,) = self.instance.get_runs(filters=dg.RunsFilter(tags={"worker": worker.label}))
        return run

    def await_gate(self, step: str, worker: Worker) -> None:
        """Wait until a job has reached a gate."""
        wait_until(
            lambda: self.has(f"gates/{step}/reached") or worker.process.poll() is not None,
            seconds=WAIT_SECONDS,
            what=f"a job comes to the gate of {step}",
        )
        assert worker.process.poll() is None, worker.text()

    def open_gate(self, step: str) -> None:
        """Let all jobs pass a gate."""
        self.aws("s3").put_object(Bucket=self.bucket, Key=f"gates/{step}/open", Body=b"")

    def close_gate(self, step: str) -> None:
        """Forget that a job reached a gate."""
        self.aws("s3").delete_object(Bucket=self.bucket, Key=f"gates/{step}/reached")

    def has(self, key: str) -> bool:
        """Return whether an object exists."""
        try:
            self.aws("s3").head_object(Bucket=self.bucket, Key=key)
        except ClientError:
            return False
        return True

    def keys(self, prefix: str) -> list[str]:
        """Return the keys below a prefix."""
        pages = self.aws("s3").get_paginator("list_objects_v2").paginate(Bucket=self.bucket, Prefix=prefix)
        return [item["Key"] for page in pages for item in page.get("Contents", ())]

    def executions(self) -> list[str]:
        """Return the status of every execution of the model's retraining pipeline."""
        pipeline = self.names.retraining_pipeline(MODEL)
        listed = self.aws("sagemaker").list_pipeline_executions(PipelineName=pipeline)
        return [each["PipelineExecutionStatus"] for each in listed["PipelineExecutionSummaries"]]

    def promote(self, version: int) -> None:
        """Make a version the champion with the command line."""
        subprocess.run(
            [sys.executable, "-m", "mlpipe_dagster.cli", "promote", MODEL, str(version)],
            cwd=self.home,
            env={**self._environment(), "MLPIPE_PROJECT": str(EXAMPLE.root)},
            timeout=WAIT_SECONDS,
            check=True,
        )

    def pipes_objects(self) -> list[str]:
        """Return the keys of the objects that Pipes left."""
        return self.keys(PIPES_PREFIX)

    def sagemaker_jobs(self, kind: str, step: str) -> dict[str, str]:
        """Return the status of every job of a step by name."""
        client = self.aws("sagemaker")
        found = getattr(client, f"list_{kind.lower()}_jobs")(NameContains=f"{step}-")[f"{kind}JobSummaries"]
        return {job[f"{kind}JobName"]: job[f"{kind}JobStatus"] for job in found}

    def glue_job_runs(self) -> dict[str, str]:
        """Return the state of every job run by id."""
        runs = self.aws("glue").get_job_runs(JobName=self.names.load_job)["JobRuns"]
        return {run["Id"]: run["JobRunState"] for run in runs}

    def manifests(self) -> list[Manifest]:
        """Return the manifests of all done files, oldest batch first."""
        s3 = self.aws("s3")
        bodies = [s3.get_object(Bucket=self.bucket, Key=key)["Body"] for key in sorted(self.keys("done/"))]
        return [parse_manifest(body.read()) for body in bodies]

    def rows_online(self, batch_id: str) -> int:
        """Count a batch's items in DynamoDB."""
        pages = self.aws("dynamodb").get_paginator("scan").paginate(TableName=self.names.online_table(MODEL))
        return sum(item["batch_id"]["S"] == batch_id for page in pages for item in page["Items"])

    def rows_in_warehouse(self, batch_id: str) -> int:
        """Count a batch's rows in Snowflake."""
        given = self.variables
        with self.stack.snowflake(
            database=given["SNOWFLAKE_DATABASE"], schema=given["SNOWFLAKE_SCHEMA"]
        ) as connection:
            table = WarehouseTable(MODEL, declaration().prediction_schema)
            query = f"SELECT COUNT(*) FROM {table.name} WHERE {table.is_of_batch(batch_id)}"
            return connection.cursor().execute(query).fetchone()[0]
