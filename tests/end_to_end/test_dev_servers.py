"""`dagster dev` and `dg dev` in the project's folder on a running local stack."""

from __future__ import annotations

import json
import os
import signal
import subprocess
import urllib.error
import urllib.request
from contextlib import contextmanager, suppress
from typing import TYPE_CHECKING, Any

import pytest

from tests.infra.local_servers import free_port
from tests.projects import EXAMPLE
from tests.stack_runs import PROJECT_ROOT, wait_until

if TYPE_CHECKING:
    from collections.abc import Iterator
    from pathlib import Path

    from tests.stack_runs import LocalStack

pytestmark = [pytest.mark.slow, pytest.mark.stack, pytest.mark.timeout(600)]

_READY_SECONDS = 240
_QUESTION = """{
  assetNodes { assetKey { path } }
  instance { daemonHealth { allDaemonStatuses { daemonType required healthy } } }
}"""


@pytest.fixture
def project(local_stack: LocalStack, tmp_path: Path) -> Path:
    """Return a copy of the project's folder with the stack's `.env`."""
    for path in (EXAMPLE.root / "src", EXAMPLE.root / "pyproject.toml", PROJECT_ROOT / "workspace.yaml"):
        (tmp_path / path.name).symlink_to(path)
    home = tmp_path / "dagster_home"
    home.mkdir()
    instance = PROJECT_ROOT / "mlpipe_dagster" / "instances" / "local.yaml"
    (home / "dagster.yaml").write_bytes(instance.read_bytes())
    lines = [f"{name}={value}\n" for name, value in local_stack.environment.items()]
    (tmp_path / ".env").write_text("".join([*lines, f"DAGSTER_HOME={home}\n"]))
    return tmp_path


@contextmanager
def served(project: Path, *words: str) -> Iterator[str]:
    """Run a server until it is interrupted, and yield its address."""
    port = free_port()
    log = project / "served.log"
    environment = {name: value for name, value in os.environ.items() if not name.startswith("AWS_")}
    with log.open("wb") as output:
        process = subprocess.Popen(
            [str(PROJECT_ROOT / ".venv" / "bin" / words[0]), *words[1:], "--port", str(port)],
            cwd=project,
            env={**environment, "DAGSTER_HOME": str(project / "dagster_home")},
            stdout=output,
            stderr=subprocess.STDOUT,
            start_new_session=True,
        )
    try:
        yield f"http://127.0.0.1:{port}"
        process.send_signal(signal.SIGINT)
        assert process.wait(60) in {0, -signal.SIGINT, 130}, log.read_text()[-4000:]
    finally:
        with suppress(ProcessLookupError):
            os.killpg(process.pid, signal.SIGKILL)
        process.wait(30)


def query_dagster(url: str) -> dict[str, Any] | None:
    """Return the served assets and the daemons' health, or None while nothing responds."""
    request = urllib.request.Request(
        f"{url}/graphql",
        data=json.dumps({"query": _QUESTION}).encode(),
        headers={"Content-Type": "application/json"},
    )
    opener = urllib.request.build_opener(urllib.request.ProxyHandler({}))
    try:
        with opener.open(request, timeout=60) as answer:
            return json.load(answer)["data"]
    except (urllib.error.URLError, ConnectionError, TimeoutError):
        return None


@pytest.mark.parametrize("words", [("dagster", "dev"), ("dg", "dev")], ids=" ".join)
def test_dev_command_serves_models_and_runs_daemons(words: tuple[str, ...], project: Path) -> None:
    """Without any flag the models are loaded and the sensor, schedule, run and backfill daemons work."""
    answer: dict[str, Any] = {}

    def is_ready() -> bool:
        answer.update(query_dagster(url) or {})
        daemons = answer.get("instance", {}).get("daemonHealth", {}).get("allDaemonStatuses", [])
        return bool(answer.get("assetNodes")) and all(
            daemon["healthy"] for daemon in daemons if daemon["required"]
        )

    with served(project, *words) as url:
        wait_until(is_ready, seconds=_READY_SECONDS, what=f"{' '.join(words)} serves with healthy daemons")
    keys = {"/".join(node["assetKey"]["path"]) for node in answer["assetNodes"]}
    assert {"flight_delay/publication", "airport_congestion/publication"} <= keys
    daemons = {each["daemonType"] for each in answer["instance"]["daemonHealth"]["allDaemonStatuses"]}
    assert {"SENSOR", "SCHEDULER", "QUEUED_RUN_COORDINATOR", "BACKFILL"} <= daemons
