"""Fixtures and hooks for all tests, among them local stacks started by the real commands."""

from __future__ import annotations

import signal
from typing import TYPE_CHECKING, Any

import dagster_pipes
import pytest

from tests.stack_runs import LocalStack, StackRun, aws_client_at

if TYPE_CHECKING:
    from collections.abc import Callable, Iterator
    from pathlib import Path


def pytest_configure() -> None:
    """React to Ctrl-C even in a background run, where the shell makes processes ignore it."""
    signal.signal(signal.SIGINT, signal.default_int_handler)


@pytest.hookimpl(trylast=True)
def pytest_collection_modifyitems(items: list[pytest.Item]) -> None:
    """Run the files with the longest timeouts first, so that no worker idles at the end."""
    usual = float(items[0].config.getini("timeout")) if items else 0
    given: dict[Path, float] = {}
    for item in items:
        deadline = item.get_closest_marker("timeout")
        is_slow = item.get_closest_marker("slow") is not None
        seconds = deadline.args[0] if deadline else usual if is_slow else 0
        given[item.path] = max(seconds, given.get(item.path, 0))
    # The sort is stable: files with equal timeouts keep the run's random order.
    items.sort(key=lambda item: -given[item.path])


def pytest_make_parametrize_id(val: object) -> str | None:
    """Give gzip values a fixed test id, because their bytes contain the time of compression.

    Workers that collect a second apart would find different tests, and xdist would run none of them.
    """
    return "compressed" if isinstance(val, bytes) and val.startswith(b"\x1f\x8b") else None


@pytest.fixture(autouse=True)
def own_pipes_context(monkeypatch: pytest.MonkeyPatch) -> None:
    """Give each test a new Pipes context, because a process would keep the first one."""
    monkeypatch.setattr(dagster_pipes.PipesContext, "_instance", None)


@pytest.fixture(scope="session")
def local_stack(tmp_path_factory: pytest.TempPathFactory) -> Iterator[LocalStack]:
    """A complete, provisioned stack for the session; each xdist worker has its own."""
    run = StackRun(tmp_path_factory.mktemp("stack") / "state")
    try:
        run.up()
        yield run.running()
    finally:
        run.down()


@pytest.fixture(scope="session")
def aws_client(local_stack: LocalStack) -> Callable[[str], Any]:
    """Return a function that makes a boto3 client of the stack for a service such as `dynamodb`."""
    environment = local_stack.environment

    def make(service: str) -> Any:
        endpoint = environment.get(f"AWS_ENDPOINT_URL_{service.upper()}", environment["AWS_ENDPOINT_URL"])
        return aws_client_at(endpoint, service)

    return make


@pytest.fixture
def new_stack(tmp_path: Path) -> Iterator[Callable[..., StackRun]]:
    """Return a function that makes a stack of the given components; all are stopped after the test."""
    runs: list[StackRun] = []

    def make(*only: str) -> StackRun:
        run = StackRun(tmp_path / f"stack-{len(runs)}", only)
        runs.append(run)
        return run

    yield make
    for run in runs:
        run.down()
