"""A stage of its own on the local stack for each test, and a model small enough to be read at a glance."""

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
    """What the settings need at least."""
    return dict(MINIMAL_ENVIRONMENT)


@pytest.fixture
def platform(local_stack: LocalStack, monkeypatch: pytest.MonkeyPatch) -> Platform:
    """A platform with bucket, queue and registry of its own, reached by the environment as Dagster does."""
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
    """A declared model that no other test has."""
    return declaration(f"m{uuid.uuid4().hex[:12]}")


@pytest.fixture
def small_model(platform: Platform, model: ModelDeclaration) -> SmallModel:
    """The same model on the platform: its batches can be delivered and brought to any state."""
    return SmallModel(platform, model)


@pytest.fixture
def command_line(
    small_model: SmallModel,
    tmp_path: Path,
    monkeypatch: pytest.MonkeyPatch,
    capsys: pytest.CaptureFixture[str],
) -> CommandLine:
    """The `mlpipe` command; it finds the small model declared."""
    # No `.env` of the checkout may have a say.
    monkeypatch.chdir(tmp_path)
    made = CommandLine(new_project(tmp_path / "project"), capsys)
    made.declare(small_model.name)
    return made


@pytest.fixture
def daemon(small_model: SmallModel) -> Iterator[SensorDaemon]:
    """What lets the sensor look, with runs of its own."""
    with dg.DagsterInstance.ephemeral() as instance:
        yield SensorDaemon(small_model, instance)
