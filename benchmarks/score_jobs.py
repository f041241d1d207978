"""Runs the score job's own script on a separate bucket, and measures its memory, CPU and time."""

from __future__ import annotations

import hashlib
import json
import os
import subprocess
import sys
import tempfile
import time
from contextlib import contextmanager, suppress
from dataclasses import dataclass, field
from pathlib import Path
from typing import TYPE_CHECKING, Any

import boto3
import numpy as np
import psutil
import pyarrow as pa
import pyarrow.compute as pc

from benchmarks.local_stack import ROOT, stack
from benchmarks.prediction_rows import SCHEMA, predictions
from benchmarks.scored_models.wide.predict import COLUMNS
from infra.local.supervision.components import aws_environment
from prediction_batches.object_store import ObjectStore
from prediction_contract.jobs.job_arguments import ScoreArguments
from prediction_contract.jobs.model_inputs import ModelInputs, TrainedElsewhere
from prediction_contract.manifests.manifest import Manifest, parse_manifest
from prediction_contract.rows.schema import PredictionSchema
from sagemaker_scripts.features.feature_store import FeatureFolder, PreparedPartition

if TYPE_CHECKING:
    from collections.abc import Iterator

BUCKET, REGISTRY = "score-jobs", "registry"
DAY, NEXT_DAY = "2013-02-01", "2013-02-02"
TEN_COLUMNS, WIDE = "ten_columns", "wide"
_MODEL_KEY = "models/minutes.json"
_SECONDS = 3600
_LOOK_SECONDS = 0.2
_WIDE_SCHEMA = PredictionSchema.from_document(
    {
        "key": "entity_id",
        "columns": [
            {"name": "entity_id", "type": "string", "nullable": False},
            *(
                {"name": f"score_{number:03}", "type": "double", "nullable": False}
                for number in range(COLUMNS - 1)
            ),
        ],
    }
)
SCHEMAS = {TEN_COLUMNS: SCHEMA, WIDE: _WIDE_SCHEMA}


@dataclass
class JobCost:
    """The cost of a job.

    Attributes:
        seconds: From the start of the script to its end.
        peak_mb: The peak memory of each process, by process id.
        cpu_seconds: The CPU seconds of each process, by process id.
    """

    seconds: float = 0.0
    peak_mb: dict[int, float] = field(default_factory=dict)
    cpu_seconds: dict[int, float] = field(default_factory=dict)

    @property
    def most_mb(self) -> float:
        """The highest peak memory of any process."""
        return max(self.peak_mb.values())

    def look(self, job: psutil.Process) -> None:
        """Record what the job's processes have used until now."""
        with suppress(psutil.NoSuchProcess):
            for process in (job, *job.children(recursive=True)):
                with suppress(psutil.NoSuchProcess, FileNotFoundError, ProcessLookupError, KeyError):
                    times = process.cpu_times()
                    self.peak_mb[process.pid] = _high_water_mark(process.pid)
                    self.cpu_seconds[process.pid] = times.user + times.system


def _high_water_mark(pid: int) -> float:
    lines = dict(line.split(":", 1) for line in Path(f"/proc/{pid}/status").read_text().splitlines())
    return int(lines["VmHWM"].split()[0]) / 1024


@dataclass(frozen=True)
class ScoreJobs:
    """Score jobs on one bucket.

    Attributes:
        store: The bucket.
        environment: The variables with which jobs reach the bucket.
        folder: The folder of the jobs' container files.
        ports: The ports of the components, by name.
    """

    store: ObjectStore
    environment: dict[str, str]
    folder: Path
    ports: dict[str, int]

    def prepare(self, model: str, partition: str, rows: int, *, known: str | None = None) -> None:
        """Upload the model, its schema and the features of a partition.

        Args:
            model: One of `SCHEMAS`.
            partition: The partition.
            rows: The number of feature rows.
            known: The partition whose outcomes are known by then; None for none.
        """
        content = json.dumps({"minutes": 1.5, "late": 15.0}).encode()
        self.store.put(_MODEL_KEY, content)
        self.store.put(_schema_key(model), json.dumps(SCHEMAS[model].to_document()).encode())
        self.store.put(*_inputs(model, hashlib.sha256(content).hexdigest()).to_document())
        known_outcomes = outcomes(rows, known) if model == TEN_COLUMNS else None
        folder = FeatureFolder(self.store, model, partition, "run-1", "v")
        folder.write_all(PreparedPartition(features(model, rows), known_outcomes))

    def arguments(self, model: str, partition: str, batch_id: str, **more: Any) -> ScoreArguments:
        """Return the arguments of a job that scores a prepared partition."""
        sha256 = hashlib.sha256(self.store.get(_MODEL_KEY)).hexdigest()
        return ScoreArguments(
            model=model,
            partition=partition,
            bucket=BUCKET,
            lookback=1,
            schema_key=_schema_key(model),
            inputs_key=_inputs(model, sha256).to_document()[0],
            registry_table=REGISTRY,
            code_version="v",
            batch_id=batch_id,
            **more,
        )

    def start(
        self,
        arguments: ScoreArguments,
        log: Path,
        *,
        cores: int | None = None,
        host: str = "algo-1",
        hosts: int = 1,
    ) -> subprocess.Popen[bytes]:
        """Start the script of one host of a job, in a separate session.

        Args:
            arguments: The job's arguments.
            log: The file for its output.
            cores: How many cores it may use; None for all.
            host: The host's name; the first is `algo-1`.
            hosts: The number of the job's hosts.
        """
        names = [f"algo-{number + 1}" for number in range(hosts)]
        root = self.folder / f"{arguments.batch_id}-{arguments.attempt}-{host}"
        (root / "config").mkdir(parents=True, exist_ok=True)
        job = {"ProcessingJobName": "score", "ProcessingJobArn": f"arn:aws:sagemaker:{arguments.batch_id}"}
        (root / "config" / "processingjobconfig.json").write_text(json.dumps(job))
        resources = {"current_host": host, "hosts": names}
        (root / "config" / "resourceconfig.json").write_text(json.dumps(resources))
        one_core = ["taskset", "--cpu-list", ",".join(map(str, range(cores)))] if cores else []
        script = ROOT / "sagemaker_scripts" / "score_batch.py"
        with log.open("wb") as file:
            return subprocess.Popen(
                [*one_core, sys.executable, str(script), *arguments.container_arguments()],
                cwd=root,
                env={**self.environment, "MLPIPE_ML_ROOT": str(root), "TMPDIR": str(root)},
                stdout=file,
                stderr=subprocess.STDOUT,
                start_new_session=True,
            )

    def run(self, arguments: ScoreArguments, *, cores: int | None = None) -> tuple[Manifest, JobCost]:
        """Run a job of one host to its end.

        Raises:
            RuntimeError: The job failed, or did not end in time.
        """
        log, cost, began = self.folder / "log", JobCost(), time.perf_counter()
        with self.start(arguments, log, cores=cores) as job:
            process, deadline = psutil.Process(job.pid), time.monotonic() + _SECONDS
            while job.poll() is None:
                if time.monotonic() > deadline:
                    job.kill()
                    raise RuntimeError(f"The job did not end within {_SECONDS} s")
                cost.look(process)
                time.sleep(_LOOK_SECONDS)
        cost.seconds = time.perf_counter() - began
        if job.returncode:
            raise RuntimeError(f"The job failed: {log.read_text()[-3000:]}")
        result = json.loads(log.read_text().splitlines()[-1])
        return parse_manifest(self.store.get(result["manifest_key"])), cost


@contextmanager
def score_jobs(*components: str) -> Iterator[ScoreJobs]:
    """Run S3, DynamoDB and further components, with an empty bucket and an empty registry."""
    with tempfile.TemporaryDirectory() as name, stack(Path(name), "aws", *components) as ports:
        environment = aws_environment(ports["aws"], None)
        kept = {key: os.environ[key] for key in ("PATH", "HOME") if key in os.environ}
        client = {
            "endpoint_url": environment["AWS_ENDPOINT_URL"],
            "aws_access_key_id": environment["AWS_ACCESS_KEY_ID"],
            "aws_secret_access_key": environment["AWS_SECRET_ACCESS_KEY"],
            "region_name": environment["AWS_REGION"],
        }
        s3 = boto3.client("s3", **client)
        s3.create_bucket(Bucket=BUCKET)
        keys = {"model": "HASH", "record": "RANGE"}
        boto3.client("dynamodb", **client).create_table(
            TableName=REGISTRY,
            AttributeDefinitions=[{"AttributeName": key, "AttributeType": "S"} for key in keys],
            KeySchema=[{"AttributeName": key, "KeyType": kind} for key, kind in keys.items()],
            BillingMode="PAY_PER_REQUEST",
        )
        # PYTHONDONTWRITEBYTECODE is not passed on: without byte code, a job would compile all imports.
        variables = {**kept, **environment, "PYTHONUNBUFFERED": "1", "NO_PROXY": "127.0.0.1"}
        yield ScoreJobs(ObjectStore(s3, BUCKET), variables, Path(name), ports)


def features(model: str, rows: int) -> pa.Table:
    """Return the features of a partition."""
    given = predictions(rows)
    names = ["entity_id", "carrier", "flight_number", "origin", "scheduled_departure", "distance_miles"]
    table = given.select(names if model == TEN_COLUMNS else ["entity_id"])
    return table.append_column("wind", pa.array(np.random.default_rng(1).normal(10, 5, rows)))


def outcomes(rows: int, known: str | None) -> pa.Table:
    """Return the outcomes of partition `known`, for nine in ten of its entities; no rows if it is None."""
    entities = predictions(rows if known else 0)["entity_id"]
    if known:
        entities = entities.filter(pa.array(np.arange(rows) % 10 != 0))
    return pa.table(
        {
            "partition": pa.repeat(known or "", len(entities)).cast(pa.string()),
            "entity_id": entities,
            "late_minutes": pc.cast(pa.array(np.arange(len(entities)) % 60), pa.float64()),
        }
    )


def _schema_key(model: str) -> str:
    return f"code/{model}.schema.json"


def _inputs(model: str, sha256: str) -> ModelInputs:
    return ModelInputs(
        model=model,
        functions=f"benchmarks.scored_models.{model}",
        tables="arrow",
        outcomes=model == TEN_COLUMNS,
        trained_elsewhere=TrainedElsewhere(key=_MODEL_KEY, sha256=sha256, codec="json"),
    )
