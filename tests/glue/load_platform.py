"""The stack as the load job sees it, the steps before and after a load, and the stores' content."""

from __future__ import annotations

import io
import os
import subprocess
import sys
import time
import uuid
import zipfile
from contextlib import closing, contextmanager
from dataclasses import dataclass
from datetime import UTC, datetime, timedelta
from functools import cached_property
from pathlib import Path
from typing import TYPE_CHECKING, Any

import snowflake.connector

from prediction_contract.jobs.job_arguments import LoadArguments
from prediction_contract.manifests.load_report import LoadReport
from prediction_contract.naming.resource_names import Deployment
from prediction_contract.naming.s3_layout import delta_table_prefix, done_key, report_key
from prediction_contract.registry.load_rules import claim_load
from prediction_contract.registry.manifest_rules import ManifestFacts, register_batch
from prediction_contract.registry.table import RegistryTable
from prediction_contract.stores.warehouse_table import SESSION_PARAMETERS, WarehouseTable
from tests.contract.prediction_rows import FULL_SCHEMA
from tests.glue.batch_builder import BATCH, PARTITION, BatchBuilder, WrittenBatch

if TYPE_CHECKING:
    from collections.abc import Callable, Iterator, Mapping

    from prediction_contract.registry.records import BatchRecord
    from prediction_contract.rows.schema import PredictionSchema

ROOT = Path(__file__).resolve().parents[2]
EXPIRY = int(datetime(2100, 1, 1, tzinfo=UTC).timestamp())
_JOB_SECONDS = 120.0
_ENDED = {"SUCCEEDED", "FAILED", "TIMEOUT", "STOPPED", "ERROR"}


@dataclass(frozen=True)
class LoadPlatform:
    """A new model on a running stack.

    Attributes:
        environment: The stack's variables.
        aws: Makes boto3 clients for the stack.
        model: The model's name.
    """

    environment: Mapping[str, str]
    aws: Callable[[str], Any]
    model: str

    @cached_property
    def deployment(self) -> Deployment:
        """The stack's names."""
        variables = self.environment
        return Deployment(variables["MLPIPE_STAGE"], variables["MLPIPE_ACCOUNT_ID"], variables["AWS_REGION"])

    @cached_property
    def registry(self) -> RegistryTable:
        """The registry."""
        return RegistryTable(self.aws("dynamodb"), self.deployment.registry_table)

    @cached_property
    def builder(self) -> BatchBuilder:
        """The writer of the model's batches."""
        names = ("AWS_ENDPOINT_URL", "AWS_ACCESS_KEY_ID", "AWS_SECRET_ACCESS_KEY", "AWS_REGION")
        options = {name: self.environment[name] for name in names}
        options |= {"AWS_ALLOW_HTTP": "true", "conditional_put": "etag"}
        return BatchBuilder(self.aws("s3"), self.deployment.data_bucket, self.model, options)

    def create_online_table(self) -> None:
        """Create the model's online table, as provisioning does for a declared model."""
        keys = {"entity_id": "HASH", "batch_id": "RANGE"}
        self.aws("dynamodb").create_table(
            TableName=self.deployment.online_table(self.model),
            AttributeDefinitions=[{"AttributeName": name, "AttributeType": "S"} for name in keys],
            KeySchema=[{"AttributeName": name, "KeyType": kind} for name, kind in keys.items()],
            BillingMode="PAY_PER_REQUEST",
        )

    def clear_online(self) -> None:
        """Delete the model's online table with all its items, and create it again."""
        table = self.deployment.online_table(self.model)
        self.aws("dynamodb").delete_table(TableName=table)
        self.aws("dynamodb").get_waiter("table_not_exists").wait(TableName=table)
        self.create_online_table()

    def claim(
        self,
        written: WrittenBatch,
        *,
        digest: str | None = None,
        ended: str | None = None,
        redelivered: bool = False,
        **changes: Any,
    ) -> LoadArguments:
        """Register a batch and claim its load, as a Dagster run does; return the job's arguments."""
        manifest = written.manifest
        facts = ManifestFacts(
            model=self.model,
            batch_id=written.batch_id,
            partition=PARTITION,
            manifest_key=manifest.key,
            manifest_digest=digest or manifest.digest,
            row_count=manifest.row_count,
            checksum=manifest.checksum,
        )
        self.registry.carry_out(
            lambda: register_batch(facts, self.find(written.batch_id), redelivered=redelivered)
        )
        token, now = uuid.uuid4().hex, datetime.now(UTC)
        self.registry.carry_out(
            lambda: claim_load(
                self.record(written.batch_id),
                token=token,
                confirm_by=now + timedelta(minutes=5),
                now=now,
                ended_job_run_id=ended,
            )
        )
        attempt = self.record(written.batch_id).load_attempts
        names = self.deployment
        arguments: dict[str, Any] = {
            "model": self.model,
            "batch_id": written.batch_id,
            "bucket": names.data_bucket,
            "manifest_key": done_key(self.model, written.batch_id),
            "manifest_digest": facts.manifest_digest,
            "claim_token": token,
            "load_attempt": attempt,
            "registry_table": names.registry_table,
            "online_table": names.online_table(self.model),
            "items_expire_at": EXPIRY,
            "snowflake_secret": names.snowflake_secret,
            "snowflake_database": names.snowflake_database,
            "snowflake_schema": names.snowflake_schema,
            "snowflake_warehouse": names.snowflake_warehouse,
            "snowflake_stage": names.snowflake_stage,
            "snowflake_integration": names.snowflake_integration,
            "report_key": report_key(self.model, written.batch_id, attempt),
        }
        return LoadArguments(**arguments | changes)

    def find(self, batch_id: str) -> BatchRecord | None:
        """Return a batch's record, or None."""
        return self.registry.batch(self.model, batch_id)

    def record(self, batch_id: str = BATCH) -> BatchRecord:
        """Return a batch's record."""
        found = self.find(batch_id)
        assert found is not None
        return found

    def report(self, arguments: LoadArguments) -> LoadReport:
        """Return the report that a load wrote."""
        answer = self.aws("s3").get_object(Bucket=arguments.bucket, Key=arguments.report_key)
        return LoadReport.parse(answer["Body"].read())

    def delete_delta_file(self, name: str) -> None:
        """Delete one file of the model's Delta table."""
        key = f"{delta_table_prefix(self.model)}{name}"
        self.aws("s3").delete_object(Bucket=self.deployment.data_bucket, Key=key)

    def online(self, batch_id: str = BATCH) -> dict[str, dict[str, Any]]:
        """Return the batch's items of the online table, by key."""
        pages = (
            self.aws("dynamodb")
            .get_paginator("scan")
            .paginate(TableName=self.deployment.online_table(self.model), ConsistentRead=True)
        )
        items = [item for page in pages for item in page["Items"]]
        return {item["entity_id"]["S"]: item for item in items if item["batch_id"]["S"] == batch_id}

    def warehouse(
        self, batch_id: str = BATCH, schema: PredictionSchema = FULL_SCHEMA
    ) -> list[tuple[Any, ...]]:
        """Return the batch's rows of the warehouse table, sorted by key."""
        table = WarehouseTable(self.model, schema)
        with self._snowflake() as cursor:
            cursor.execute(table.create())
            cursor.execute(
                f"SELECT {table.column_list} FROM {table.name} WHERE {table.is_of_batch(batch_id)}"
            )
            return sorted(cursor.fetchall(), key=lambda row: row[0])

    def staging_tables(self) -> list[str]:
        """Return the names of the model's staging tables."""
        with self._snowflake() as cursor:
            cursor.execute("SELECT TABLE_NAME FROM INFORMATION_SCHEMA.TABLES")
            prefix = f"{self.model.upper()}_STAGING_"
            return [name for (name,) in cursor.fetchall() if name.startswith(prefix)]

    @contextmanager
    def _snowflake(self) -> Iterator[Any]:
        names = self.environment
        connection = snowflake.connector.connect(
            **{
                name: names[f"SNOWFLAKE_{name.upper()}"]
                for name in ("account", "user", "password", "protocol", "host", "database", "schema")
            },
            port=int(names["SNOWFLAKE_PORT"]),
            # A copy: the connector writes the server's answers into it.
            session_parameters=dict(SESSION_PARAMETERS),
            network_timeout=20,
        )
        with closing(connection), closing(connection.cursor()) as cursor:
            yield cursor

    def stores(self, batch_id: str = BATCH) -> tuple[dict[str, dict[str, Any]], list[tuple[Any, ...]]]:
        """Return what both stores hold of a batch."""
        return self.online(batch_id), self.warehouse(batch_id)

    def run_by_glue(self, arguments: LoadArguments, **more: str) -> dict[str, Any]:
        """Run the script as a Glue job run and return how the run ended."""
        glue, job = self.aws("glue"), self.deployment.load_job
        passed = arguments.glue_arguments() | {"--extra-py-files": self._upload()} | more
        run_id = glue.start_job_run(JobName=job, Arguments=passed)["JobRunId"]
        deadline = time.monotonic() + _JOB_SECONDS
        while True:
            run = glue.get_job_run(JobName=job, RunId=run_id)["JobRun"]
            if run["JobRunState"] in _ENDED:
                return run
            assert time.monotonic() < deadline, run
            time.sleep(0.2)

    def run_in_process(
        self, arguments: LoadArguments, script: Path, *options: str, job_run_id: str
    ) -> subprocess.CompletedProcess[str]:
        """Run a script with a load's command line in a separate process, which may be killed."""
        return subprocess.run(
            self.command(arguments, script, *options, job_run_id=job_run_id),
            cwd=ROOT,
            env=self.script_environment,
            capture_output=True,
            text=True,
            timeout=_JOB_SECONDS,
            check=False,
        )

    @staticmethod
    def command(arguments: LoadArguments, script: Path, *options: str, job_run_id: str) -> list[str]:
        """Return the command that runs a script with a load's command line."""
        pairs = [text for pair in arguments.glue_arguments().items() for text in pair]
        return [sys.executable, str(script), *options, *pairs, "--JOB_RUN_ID", job_run_id]

    @property
    def script_environment(self) -> dict[str, str]:
        """The environment of a script in a separate process."""
        inherited = {name: value for name, value in os.environ.items() if name != "PYTHONDONTWRITEBYTECODE"}
        stack = {name: value for name, value in self.environment.items() if name.startswith("AWS_")}
        # Glue makes its Spark session outside of the script too.
        spark = {
            "PYSPARK_SUBMIT_ARGS": "--master local[2] pyspark-shell",
            "PYSPARK_PYTHON": sys.executable,
            "SPARK_LOCAL_IP": "127.0.0.1",
        }
        return inherited | stack | spark | {"PYTHONPATH": str(ROOT)}

    def _upload(self) -> str:
        """Put the script and its archive on S3 and return the archive's address."""
        s3, bucket = self.aws("s3"), self.deployment.data_bucket
        script = (ROOT / "glue_scripts" / "load_predictions.py").read_bytes()
        s3.put_object(Bucket=bucket, Key=self.deployment.load_script_key, Body=script)
        buffer = io.BytesIO()
        with zipfile.ZipFile(buffer, "w") as archive:
            for package in ("prediction_contract", "glue_scripts"):
                for path in sorted((ROOT / package).rglob("*")):
                    if path.suffix in {".py", ".json"}:
                        archive.write(path, str(path.relative_to(ROOT)))
        key = "code/glue_scripts/tests.zip"
        s3.put_object(Bucket=bucket, Key=key, Body=buffer.getvalue())
        return f"s3://{bucket}/{key}"
