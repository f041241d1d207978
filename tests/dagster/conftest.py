"""Each test gets its own stage on the local stack and a model small enough to read at a glance."""

from __future__ import annotations

import uuid
from typing import TYPE_CHECKING

import dagster as dg
import pytest

from infra.definitions import resource_definitions
from infra.local.provisioning.provisioned_queues import ensure_queue
from infra.local.provisioning.provisioned_storage import ensure_bucket, ensure_table
from mlpipe_dagster.resources.platform import Platform
from model_declaration.declaration import ModelDeclaration
from tests.dagster.cli_calls import CommandLine
from tests.dagster.sensor_daemon import SensorDaemon
from tests.dagster.small_model import SmallModel, declaration
from tests.projects import new_project

if TYPE_CHECKING:
    from collections.abc import Iterator
    from pathlib import Path

    from tests.stack_runs import LocalStack

MINIMAL_ENVIRONMENT = {
    "MLPIPE_STAGE": "local",
    "MLPIPE_ACCOUNT_ID": "000000000000",
    "MLPIPE_SAGEMAKER_IMAGE_REPOSITORY": "registry.example/jobs",
    "MLPIPE_SAGEMAKER_CODE_PREFIX": "code/sagemaker_scripts/0123456789abcdef0/",
    "MLPIPE_WEATHER_URL": "http://127.0.0.1:1/",
    "AWS_REGION": "us-east-1",
    "SNOWFLAKE_ACCOUNT": "local",
    "SNOWFLAKE_USER": "mlpipe",
    "SNOWFLAKE_PASSWORD": "not-to-be-shown",
    "SNOWFLAKE_DATABASE": "MLPIPE_LOCAL",
    "SNOWFLAKE_SCHEMA": "PREDICTIONS",
    "SNOWFLAKE_WAREHOUSE": "MLPIPE_LOCAL_LOAD",
    "SNOWFLAKE_PORT": "1",
}


@pytest.fixture
def minimal_environment() -> dict[str, str]:
    """Return the smallest environment that the settings accept."""
    return dict(MINIMAL_ENVIRONMENT)


@pytest.fixture
def platform(local_stack: LocalStack, monkeypatch: pytest.MonkeyPatch) -> Platform:
    """Make a platform with its own bucket, queue and registry, configured by the environment."""
    for name, value in local_stack.environment.items():
        monkeypatch.setenv(name, value)
    monkeypatch.setenv("MLPIPE_STAGE", f"t{uuid.uuid4().hex[:8]}")
    for of_the_stack in ("MLPIPE_DATA_BUCKET", "MLPIPE_DONE_QUEUE_URL"):
        monkeypatch.delenv(of_the_stack)
    deployment = Platform().settings.deployment
    queue = ensure_queue(Platform().client("sqs"), resource_definitions.done_file_queue(deployment))
    monkeypatch.setenv("MLPIPE_DONE_QUEUE_URL", queue)
    made = Platform()
    ensure_bucket(made.client("s3"), resource_definitions.data_bucket(deployment), deployment.region)
    ensure_table(made.client("dynamodb"), resource_definitions.registry_table(deployment))
    return made


@pytest.fixture
def model() -> ModelDeclaration:
    """Declare a new model."""
    return declaration(f"m{uuid.uuid4().hex[:12]}")


@pytest.fixture
def small_model(platform: Platform, model: ModelDeclaration) -> SmallModel:
    """Put the same model on the platform, where its batches can be brought to any state."""
    return SmallModel(platform, model)


@pytest.fixture
def command_line(
    small_model: SmallModel,
    tmp_path: Path,
    monkeypatch: pytest.MonkeyPatch,
    capsys: pytest.CaptureFixture[str],
) -> CommandLine:
    """Make the `mlpipe` command with the small model declared."""
    # The checkout's `.env` must not be read.
    monkeypatch.chdir(tmp_path)
    made = CommandLine(new_project(tmp_path / "project"), capsys)
    made.declare(small_model.name)
    return made


@pytest.fixture
def daemon(small_model: SmallModel) -> Iterator[SensorDaemon]:
    """Yield a stand-in for Dagster's daemon with an empty instance."""
    with dg.DagsterInstance.ephemeral() as instance:
        yield SensorDaemon(small_model, instance)
