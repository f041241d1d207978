"""A model with features in many row groups on the local S3, scored by hosts that are processes."""

from __future__ import annotations

import gzip
import hashlib
import io
import json
import os
import subprocess
import sys
import uuid
from dataclasses import dataclass, field
from datetime import UTC, datetime
from pathlib import Path
from typing import TYPE_CHECKING, Any

import pyarrow as pa
import pyarrow.parquet as pq
from deltalake import DeltaTable

from prediction_contract.jobs.job_arguments import ScoreArguments
from prediction_contract.jobs.model_inputs import ModelInputs, TrainedElsewhere
from prediction_contract.jobs.pinned_model import PinnedModel
from prediction_contract.manifests.manifest import Manifest, parse_manifest, validate
from prediction_contract.naming.batch import Partition, mint_batch_id
from prediction_contract.naming.s3_layout import done_key, features_prefix, json_attempt_prefix
from prediction_contract.registry.table import RegistryTable
from prediction_contract.rows.checksums import batch_checksum
from prediction_contract.rows.row_contract import row_contract
from prediction_contract.rows.schema import PredictionSchema
from tests.sagemaker.registered_versions import promote_version, version_record
from tests.sagemaker.scoring_jobs import stack_options
from tests.stack_runs import PROJECT_ROOT

if TYPE_CHECKING:
    from collections.abc import Callable, Mapping, Sequence

PREDICT = '''
"""Predictions that tell in which call they were made of what."""

import pyarrow as pa
import pyarrow.compute as pc


def predict(features, model, previous):
    """Return minutes by the artifact, and what was predicted of the entity before."""
    if pc.any(pc.equal(features["minutes"], model.get("fails_at", -1))).as_py():
        raise ValueError("minutes are impossible")
    before = pa.nulls(len(features), pa.int64())
    if previous is not None:
        places = pc.index_in(features["entity_id"], previous["entity_id"].combine_chunks())
        before = previous["minutes"].take(places)
    return pa.table(
        {
            "flight": features["entity_id"],
            "minutes": pc.add(features["minutes"], model["minutes"]),
            "chance": pc.divide(pc.cast(features["minutes"], pa.float64()), 7.0),
            "before": before,
        }
    )
'''
SCHEMA = PredictionSchema.from_document(
    {
        "key": "flight",
        "columns": [
            {"name": "flight", "type": "string", "nullable": False},
            {"name": "minutes", "type": "long", "nullable": False},
            {"name": "chance", "type": "double", "nullable": False},
            {"name": "before", "type": "long", "nullable": True},
        ],
    }
)
DAY, NEXT_DAY = "2013-02-01", "2013-02-02"
GROUPS = ((40, 40, 40), (40, 25), (40, 40, 40, 15))
ROWS = sum(map(sum, GROUPS))
# The group of 25 rows is too small for a share, so it shares one with the first group of the next file.
SHARES = 8
_SCRIPT = Path(__file__).with_name("host_script.py")
_SECONDS = 120


@dataclass
class Host:
    """One running host of a job.

    Attributes:
        process: The process of the script.
        root: Stands for `/opt/ml`.
    """

    process: subprocess.Popen[str]
    root: Path

    def end(self) -> int:
        """Wait until it ends, and return its exit code."""
        self.log, _ = self.process.communicate(timeout=_SECONDS)
        return self.process.returncode

    @property
    def message(self) -> str:
        """The message that it leaves for DescribeProcessingJob."""
        return (self.root / "output/message").read_text()

    def said(self) -> dict[str, Any]:
        """Wait until it ends successfully, and return its message."""
        assert self.end() == 0, self.log
        return json.loads(self.message)


@dataclass
class ScoredModel:
    """A model on the stack's S3.

    Attributes:
        environment: The stack's variables.
        client: Makes a boto3 client of the stack for a service.
        folder: Holds the files of hosts and functions.
        name: The model's name.
    """

    environment: Mapping[str, str]
    client: Callable[[str], Any]
    folder: Path
    name: str = field(default_factory=lambda: f"m{uuid.uuid4().hex[:12]}")

    @property
    def bucket(self) -> str:
        """The data bucket."""
        return self.environment["MLPIPE_DATA_BUCKET"]

    @property
    def prefix(self) -> str:
        """The prefix of the model's documents."""
        return f"models/{self.name}/"

    def put(self, key: str, content: bytes) -> None:
        """Put an object."""
        self.client("s3").put_object(Bucket=self.bucket, Key=key, Body=content)

    def content(self, key: str) -> bytes:
        """Return an object."""
        return self.client("s3").get_object(Bucket=self.bucket, Key=key)["Body"].read()

    def objects(self, prefix: str) -> dict[str, str]:
        """Return the ETags of all objects below a prefix, by key."""
        pages = self.client("s3").get_paginator("list_objects_v2").paginate(Bucket=self.bucket, Prefix=prefix)
        return {item["Key"]: item["ETag"] for page in pages for item in page.get("Contents", ())}

    def write(self, *, predict: str = PREDICT, whole: bool = False, **artifact: int) -> None:
        """Write the predict function, schema, trained model and inputs."""
        functions = self.folder / "src" / f"acme_{self.name}"
        functions.mkdir(parents=True, exist_ok=True)
        (functions / "predict.py").write_text(predict)
        trained = json.dumps({"minutes": 1000, **artifact}).encode()
        self.put(f"{self.prefix}trained.json", trained)
        self.put(f"{self.prefix}schema.json", json.dumps(SCHEMA.to_document()).encode())
        digest = hashlib.sha256(trained).hexdigest()
        self._write_inputs(
            whole=whole,
            trained_elsewhere=TrainedElsewhere(key=f"{self.prefix}trained.json", sha256=digest, codec="json"),
        )

    def _write_inputs(self, **given: Any) -> None:
        inputs = ModelInputs(model=self.name, functions=f"acme_{self.name}", tables="arrow", **given)
        self.inputs_key, document = inputs.to_document()
        self.put(self.inputs_key, document)

    def promote(self, version: int, **artifact: int) -> None:
        """Register a version of a trained object, and make it the champion."""
        trained = json.dumps({"minutes": 1000, **artifact}).encode()
        key, digest = f"{self.prefix}candidates/{version}/trained.json", hashlib.sha256(trained).hexdigest()
        self.put(key, trained)
        pinned = PinnedModel(digest=digest[:16], key=key, sha256=digest, codec="json")
        found = version_record(self.name, pinned, version=version, state="approved")
        registry = RegistryTable(self.client("dynamodb"), self.environment["MLPIPE_REGISTRY_TABLE"])
        promote_version(registry, found)
        self._write_inputs()

    def write_features(
        self, day: str = DAY, groups: Sequence[Sequence[int]] = GROUPS, first: int = 0
    ) -> None:
        """Write features in files of row groups, with an index."""
        prefix, entries = features_prefix(self.name, day, "run-1"), []
        for number, rows in enumerate(groups):
            table = pa.table(
                {
                    "entity_id": [f"AA-{first + row}" for row in range(sum(rows))],
                    "minutes": pa.array(range(first, first + sum(rows)), pa.int64()),
                    "partition": [day] * sum(rows),
                }
            )
            sink, key = io.BytesIO(), f"{prefix}features-{number:05}.parquet"
            with pq.ParquetWriter(sink, table.schema) as writer:
                for group in rows:
                    writer.write_table(table.slice(0, group))
                    table = table.slice(group)
            self.put(key, sink.getvalue())
            digest = hashlib.sha256(sink.getvalue()).hexdigest()
            entries.append({"key": key, "sha256": digest, "row_groups": list(rows)})
            first += sum(rows)
        index = {
            "model": self.name,
            "partition": day,
            "code_version": "v",
            "rows": sum(map(sum, groups)),
            "features": entries,
            "sources": [],
        }
        self.put(f"{prefix}features.json", json.dumps(index).encode())

    def batch(self, day: str = DAY) -> str:
        """Mint a batch id."""
        return mint_batch_id(self.name, day, uuid.uuid4().hex, datetime.now(UTC))

    def start(
        self,
        batch_id: str,
        *,
        day: str = DAY,
        host: int = 1,
        hosts: int = 1,
        attempt: int = 1,
        does: Mapping[str, str] | None = None,
        **given: Any,
    ) -> Host:
        """Start one host of a job.

        Args:
            batch_id: The batch.
            day: The partition.
            host: Which host it is, counting from 1.
            hosts: How many hosts there are.
            attempt: The attempt, counting from 1.
            does: Environment variables that tell `host_script` what to do at which moment.
            given: Other arguments of the job.
        """
        root = self.folder / f"host-{uuid.uuid4().hex}"
        (root / "config").mkdir(parents=True)
        name = f"score-{batch_id.lower()}-{attempt}"
        job = {"ProcessingJobName": name, "ProcessingJobArn": f"arn:aws:sagemaker:::processing-job/{name}"}
        (root / "config/processingjobconfig.json").write_text(json.dumps(job))
        names = [f"algo-{number}" for number in range(1, hosts + 1)]
        resources = {"current_host": names[host - 1], "hosts": names}
        (root / "config/resourceconfig.json").write_text(json.dumps(resources))
        arguments = ScoreArguments(
            **{
                "model": self.name,
                "partition": day,
                "bucket": self.bucket,
                "lookback": 1,
                "schema_key": f"{self.prefix}schema.json",
                "inputs_key": self.inputs_key,
                "registry_table": self.environment["MLPIPE_REGISTRY_TABLE"],
                "code_version": "v",
                "batch_id": batch_id,
                "attempt": attempt,
                "chunk_rows": 40,
                **given,
            }
        )
        paths = (PROJECT_ROOT, self.folder / "src")
        process = subprocess.Popen(
            [sys.executable, str(_SCRIPT), *arguments.container_arguments()],
            env={
                **os.environ,
                **self.environment,
                "MLPIPE_ML_ROOT": str(root),
                "PYTHONPATH": os.pathsep.join(map(str, paths)),
                **(does or {}),
            },
            stdout=subprocess.PIPE,
            stderr=subprocess.STDOUT,
            text=True,
        )
        return Host(process, root)

    def scored(self, batch_id: str, *, hosts: int = 1, **given: Any) -> Manifest:
        """Score a batch on the given number of hosts, which must all succeed; return its checked manifest."""
        running = [self.start(batch_id, host=number, hosts=hosts, **given) for number in range(1, hosts + 1)]
        said = [host.said() for host in running]
        assert said[0]["manifest_key"] == done_key(self.name, batch_id)
        return self.checked(batch_id)

    def manifest(self, batch_id: str) -> Manifest:
        """Return the manifest of a batch."""
        key = done_key(self.name, batch_id)
        manifest = parse_manifest(self.content(key))
        validate(manifest, bucket=self.bucket, key=key)
        return manifest

    def checked(self, batch_id: str) -> Manifest:
        """Return a batch's manifest after finding each row exactly once in JSON and in Delta."""
        manifest = self.manifest(batch_id)
        contract, rows = row_contract(SCHEMA), {}
        for part in manifest.json_parts:
            content = self.content(part.key)
            assert hashlib.sha256(content).hexdigest() == part.sha256
            accepted = [contract.accept(line) for line in gzip.decompress(content).splitlines()]
            assert len(accepted) == part.rows
            rows |= {row.key: {**row.values, "row_checksum": row.checksum} for row in accepted}
        assert len(rows) == manifest.row_count
        assert batch_checksum(row["row_checksum"] for row in rows.values()) == manifest.checksum
        uri = f"s3://{self.bucket}/predictions/{self.name}/delta/"
        for version in (manifest.delta.version, None):
            table = DeltaTable(uri, version=version, storage_options=stack_options(self.environment))
            found = [row for row in table.to_pyarrow_table().to_pylist() if row.pop("batch_id") == batch_id]
            assert len(found) == len(rows)
            assert {row["flight"]: row for row in found} == rows
            paths = {
                path for path in table.get_add_actions(flatten=True)["path"].to_pylist() if batch_id in path
            }
            assert paths == set(manifest.delta.files)
        return manifest

    def rows(self, batch_id: str) -> list[dict[str, Any]]:
        """Return the values of a batch's rows."""
        contract = row_contract(SCHEMA)
        return [
            dict(contract.accept(line).values)
            for part in self.manifest(batch_id).json_parts
            for line in gzip.decompress(self.content(part.key)).splitlines()
        ]

    def written(self, batch_id: str, day: str = DAY, attempt: int = 1) -> dict[str, str]:
        """Return the digests of the JSON parts of an attempt by name."""
        prefix = json_attempt_prefix(self.name, Partition(day), batch_id, attempt)
        return {
            key.removeprefix(prefix): hashlib.sha256(self.content(key)).hexdigest()
            for key in self.objects(prefix)
            if key.endswith(".jsonl.gz")
        }
