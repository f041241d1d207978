"""Fixtures for tests of the load, each with a new model on the session's stack."""

from __future__ import annotations

import uuid
from typing import TYPE_CHECKING, Any

import pytest

from glue_scripts import aws_clients, settings
from glue_scripts.load_predictions import main
from tests.glue.load_platform import LoadPlatform

if TYPE_CHECKING:
    from collections.abc import Callable, Iterator

    from prediction_contract.jobs.job_arguments import LoadArguments
    from prediction_contract.manifests.load_report import LoadReport
    from tests.stack_runs import LocalStack


@pytest.fixture
def make_platform(local_stack: LocalStack, aws_client: Callable[[str], Any]) -> Callable[[], LoadPlatform]:
    """Return a function that makes a new model with its online table."""

    def make() -> LoadPlatform:
        made = LoadPlatform(local_stack.environment, aws_client, f"loading_{uuid.uuid4().hex[:8]}")
        made.create_online_table()
        return made

    return make


@pytest.fixture
def platform(make_platform: Callable[[], LoadPlatform]) -> LoadPlatform:
    """A new model with its online table."""
    return make_platform()


@pytest.fixture
def load(
    platform: LoadPlatform, monkeypatch: pytest.MonkeyPatch
) -> Iterator[Callable[[LoadArguments], LoadReport]]:
    """Return the job's main function for this process, with the stack's environment."""
    for name, value in platform.environment.items():
        if name.startswith("AWS_"):
            monkeypatch.setenv(name, value)
    # Java would outlive the test, with the environment of this one.
    monkeypatch.setattr(settings, "_has_spark", lambda _environment: False)
    _forget_clients()

    def run(arguments: LoadArguments) -> LoadReport:
        pairs = [text for pair in arguments.glue_arguments().items() for text in pair]
        return main([*pairs, "--JOB_RUN_ID", f"jr_{arguments.load_attempt}"])

    yield run
    _forget_clients()


def _forget_clients() -> None:
    """Clear cached clients, so that no test uses those of another test's environment."""
    aws_clients.client.cache_clear()
    aws_clients.bulk_dynamodb.cache_clear()
