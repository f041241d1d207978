"""The local stack for tests: real servers, started by the same commands as a person's."""

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
    """Heed interrupts, which a run in the background of a shell ignores, as does all that it starts."""
    signal.signal(signal.SIGINT, signal.default_int_handler)


@pytest.hookimpl(trylast=True)
def pytest_collection_modifyitems(items: list[pytest.Item]) -> None:
    """Start with the files that are given the most time, so that no worker idles beside them at the end."""
    usual = float(items[0].config.getini("timeout")) if items else 0
    given: dict[Path, float] = {}
    for item in items:
        deadline = item.get_closest_marker("timeout")
        is_slow = item.get_closest_marker("slow") is not None
        seconds = deadline.args[0] if deadline else usual if is_slow else 0
        given[item.path] = max(seconds, given.get(item.path, 0))
    # Files that are given as much stay in the random order of the run.
    items.sort(key=lambda item: -given[item.path])


def pytest_make_parametrize_id(val: object) -> str | None:
    """Leave the time at which a value was compressed out of its test's name.

    Workers that collect a second apart would find different tests, and xdist would run none of them.
    """
    return "compressed" if isinstance(val, bytes) and val.startswith(b"\x1f\x8b") else None


@pytest.fixture(autouse=True)
def own_pipes_context(monkeypatch: pytest.MonkeyPatch) -> None:
    """Give each test a Pipes context of its own: a process keeps the first one, and tests share a process."""
    monkeypatch.setattr(dagster_pipes.PipesContext, "_instance", None)


@pytest.fixture(scope="session")
def local_stack(tmp_path_factory: pytest.TempPathFactory) -> Iterator[LocalStack]:
    """A whole, provisioned stack for the session; under xdist each worker has its own."""
    run = StackRun(tmp_path_factory.mktemp("stack") / "state")
    try:
        run.up()
        yield run.running()
    finally:
        run.down()


@pytest.fixture(scope="session")
def aws_client(local_stack: LocalStack) -> Callable[[str], Any]:
    """Return a function that makes a boto3 client of the stack for a service, say `dynamodb`."""
    environment = local_stack.environment

    def make(service: str) -> Any:
        endpoint = environment.get(f"AWS_ENDPOINT_URL_{service.upper()}", environment["AWS_ENDPOINT_URL"])
        return aws_client_at(endpoint, service)

    return make


@pytest.fixture
def new_stack(tmp_path: Path) -> Iterator[Callable[..., StackRun]]:
    """Return a function that names a stack of the given components; each is taken down in the end."""
    runs: list[StackRun] = []

    def make(*only: str) -> StackRun:
        run = StackRun(tmp_path / f"stack-{len(runs)}", only)
        runs.append(run)
        return run

    yield make
    for run in runs:
        run.down()
