"""Dagster's own commands on a running local stack: load one table, from the newest or a named batch."""

from __future__ import annotations

import json
import os
import subprocess
import time
from decimal import Decimal
from pathlib import Path
from typing import TYPE_CHECKING, Any

import boto3
import pytest

from mlpipe_dagster.done_files.registration import register_done_file
from mlpipe_dagster.resources.platform import Platform
from prediction_contract.naming.resource_names import Deployment
from prediction_contract.naming.s3_layout import done_key
from tests.end_to_end.delivered_batch import MODEL, deliver_batch
from tests.projects import EXAMPLE
from tests.stack_runs import PROJECT_ROOT

if TYPE_CHECKING:
    from tests.stack_runs import LocalStack

pytestmark = [pytest.mark.slow, pytest.mark.stack]

OLDER, NEWER = "1.25", "2.50"


@pytest.fixture(scope="module")
def environment(local_stack: LocalStack, tmp_path_factory: pytest.TempPathFactory) -> dict[str, str]:
    """Return the stack's variables with a new Dagster home."""
    home = tmp_path_factory.mktemp("dagster_home")
    instance = PROJECT_ROOT / "mlpipe_dagster" / "instances" / "local.yaml"
    (home / "dagster.yaml").write_bytes(instance.read_bytes())
    return {**os.environ, **local_stack.environment, "DAGSTER_HOME": str(home)}


@pytest.fixture(scope="module")
def project(environment: dict[str, str], tmp_path_factory: pytest.TempPathFactory) -> Path:
    """Return a copy of the project's folder with the stack's `.env`, which `dg` prefers to the shell."""
    folder = tmp_path_factory.mktemp("project")
    for path in (EXAMPLE.root / "src", EXAMPLE.root / "pyproject.toml", PROJECT_ROOT / "workspace.yaml"):
        (folder / path.name).symlink_to(path)
    names = [name for name in environment if name.startswith(("AWS_", "MLPIPE_", "SNOWFLAKE_"))]
    lines = [f"{name}={environment[name]}\n" for name in sorted(names)]
    (folder / ".env").write_text("".join(lines))
    return folder


def two_batches(environment: dict[str, str], partition: str) -> tuple[str, str]:
    """Deliver two batches of a partition and register them, as the sensor does."""
    with pytest.MonkeyPatch.context() as patched:
        for name, value in environment.items():
            patched.setenv(name, value)
        platform = Platform()
        bucket = platform.settings.data_bucket
        older = deliver_batch(bucket, partition, "older", minutes=OLDER)
        # Batch ids have a resolution of one second.
        time.sleep(1.1)
        newer = deliver_batch(bucket, partition, "newer", minutes=NEWER)
        for batch_id in (older, newer):
            assert (
                register_done_file(platform.bucket, platform.registry, done_key(MODEL, batch_id)).refusal
                is None
            )
        return older, newer


def command(project: Path, environment: dict[str, str], *words: str) -> str:
    """Run a command of the environment and return its output."""
    done = subprocess.run(
        [str(PROJECT_ROOT / ".venv" / "bin" / words[0]), *words[1:]],
        cwd=project,
        env=environment,
        stdout=subprocess.PIPE,
        stderr=subprocess.STDOUT,
        text=True,
        timeout=280,
        check=False,
    )
    assert done.returncode == 0, done.stdout[-4000:]
    return done.stdout


def stored_minutes(environment: dict[str, str]) -> dict[str, str]:
    """Return the expected delay of one flight in the online table, by batch."""
    deployment = Deployment(
        environment["MLPIPE_STAGE"], environment["MLPIPE_ACCOUNT_ID"], environment["AWS_DEFAULT_REGION"]
    )
    client = boto3.client(
        "dynamodb",
        endpoint_url=environment["AWS_ENDPOINT_URL"],
        region_name=deployment.region,
        aws_access_key_id=environment["AWS_ACCESS_KEY_ID"],
        aws_secret_access_key=environment["AWS_SECRET_ACCESS_KEY"],
    )
    found: dict[str, Any] = client.query(
        TableName=deployment.online_table(MODEL),
        KeyConditionExpression="entity_id = :entity",
        ExpressionAttributeValues={":entity": {"S": "AA-1141-JFK"}},
    )
    return {item["batch_id"]["S"]: item["expected_delay_minutes"]["N"] for item in found["Items"]}


def test_materializing_one_table_loads_the_newest_batch(project: Path, environment: dict[str, str]) -> None:
    """`dagster asset materialize` of the DynamoDB table loads only the partition's newest batch."""
    older, newer = two_batches(environment, "2013-02-02")
    words = ("dagster", "asset", "materialize", "--select", f"{MODEL}/dynamodb", "--partition", "2013-02-02")
    assert "RUN_SUCCESS" in command(project, environment, *words)
    stored = stored_minutes(environment)
    assert Decimal(stored[newer]) == Decimal(NEWER)
    assert older not in stored


def test_dg_launch_loads_the_configured_batch(
    project: Path, environment: dict[str, str], tmp_path: Path
) -> None:
    """`dg launch` of the Snowflake table with a configured batch loads that one, not the newer one."""
    older, newer = two_batches(environment, "2013-02-03")
    config = tmp_path / "run.json"
    config.write_text(json.dumps({"ops": {f"{MODEL}__load": {"config": {"batch_id": older}}}}))
    words = ("dg", "launch", "--assets", f"{MODEL}/snowflake", "--partition", "2013-02-03")
    assert "RUN_SUCCESS" in command(project, environment, *words, "--config", str(config))
    stored = stored_minutes(environment)
    assert Decimal(stored[older]) == Decimal(OLDER)
    assert newer not in stored
