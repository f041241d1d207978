"""A platform on the local stack, and a model small enough to be read at a glance."""

from __future__ import annotations

import uuid
from collections.abc import Callable, Mapping
from typing import TYPE_CHECKING, Any

import pytest

from mlpipe_dagster.declaration import ModelDeclaration
from mlpipe_dagster.resources.platform import Platform
from tests.pipeline.small_model import declaration

if TYPE_CHECKING:
    from tests.stack_runs import LocalStack

MINIMAL_ENVIRONMENT = {
    "MLPIPE_STAGE": "local",
    "MLPIPE_ACCOUNT_ID": "000000000000",
    "MLPIPE_SAGEMAKER_IMAGE_URI": "image",
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
    """The platform of the running stack, from its environment file as Dagster reads it."""
    set_environment(monkeypatch, local_stack.environment)
    return Platform()


def set_environment(monkeypatch: pytest.MonkeyPatch, environment: Mapping[str, str]) -> None:
    """Give this process the variables of the stack's environment file."""
    for name, value in environment.items():
        monkeypatch.setenv(name, value)
    # An upload is no subject of these tests.
    monkeypatch.setenv("MLPIPE_SAGEMAKER_CODE_PREFIX", "code/sagemaker_scripts/none/")


@pytest.fixture
def model() -> ModelDeclaration:
    """A declared model that no other test has."""
    return declaration(f"m{uuid.uuid4().hex[:12]}")


@pytest.fixture
def batch_ids() -> Callable[[], str]:
    """Return a function that gives batch ids of one second, each later in order than the one before."""
    taken = iter(range(1, 1000))
    run = uuid.uuid4().hex[:5]
    return lambda: f"20261123T010203Z-{run}{next(taken):03x}"


def uploaded(platform: Platform, manifest: Any) -> str:
    """Put a manifest where the sensor looks, and return its key."""
    platform.bucket.put(manifest.key, manifest.to_bytes())
    return manifest.key
