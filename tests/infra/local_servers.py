"""Start the local stack's servers on free ports for a test session, and stop them with it."""

from __future__ import annotations

import contextlib
import dataclasses
import os
import socket
import subprocess
import sys
import time
import urllib.error
import urllib.request
from pathlib import Path
from typing import TYPE_CHECKING, Any

from infra.environments.environment_cache import cache_folder
from infra.environments.platform_environments import make_platform_environment
from infra.local.provisioning import provision
from prediction_contract.naming.resource_names import Deployment
from tests.projects import EXAMPLE

if TYPE_CHECKING:
    from collections.abc import Callable, Iterator, Sequence

ROOT = Path(__file__).parents[2]
READY_SECONDS = 120.0
STOP_SECONDS = 60.0
REGION = "us-east-1"
QUIET_SECONDS = 2
DEPLOYMENT = Deployment("local", "000000000000", REGION)


@dataclasses.dataclass(frozen=True, slots=True)
class LocalServers:
    """Addresses of the servers that provisioning uses."""

    aws: str
    jobs: str
    snowflake_port: int


def stack_python() -> Path:
    """Return the Python that has the packages of the emulators."""
    return make_platform_environment("stack", cache_folder(os.environ), say=print).python


def free_port() -> int:
    """Return a loopback port that was free a moment ago."""
    with socket.socket() as listener:
        listener.bind(("127.0.0.1", 0))
        return int(listener.getsockname()[1])


def answers_http(url: str) -> bool:
    """Whether a server answers at the address, even with an error."""
    opener = urllib.request.build_opener(urllib.request.ProxyHandler({}))
    try:
        with opener.open(url, timeout=5):
            return True
    except urllib.error.HTTPError:
        return True
    except OSError:
        return False


@contextlib.contextmanager
def running(
    command: Sequence[str | Path], *, home: Path, environment: dict[str, str], ready: Callable[[], bool]
) -> Iterator[None]:
    """Run a server in a clean environment until the block ends.

    Raises:
        RuntimeError: The server ended or was not ready in time; the message ends with its log.
    """
    log = home / "log"
    clean = {"PATH": "/usr/bin:/bin", "HOME": str(home), "PYTHONPATH": str(ROOT), **environment}
    with log.open("wb") as output:
        process = subprocess.Popen(list(command), cwd=home, env=clean, stdout=output, stderr=output)
    try:
        deadline = time.monotonic() + READY_SECONDS
        while not ready():
            if process.poll() is not None or time.monotonic() > deadline:
                raise RuntimeError(f"{command[0]} is not ready: {log.read_text()[-2000:]}")
            time.sleep(0.1)
        # If another process holds the port, ours has ended.
        if process.poll() is not None:
            raise RuntimeError(f"{command[0]} ended at its start: {log.read_text()[-2000:]}")
        yield
    finally:
        process.terminate()
        try:
            process.wait(timeout=STOP_SECONDS)
        except subprocess.TimeoutExpired:
            process.kill()
            process.wait(timeout=STOP_SECONDS)


@contextlib.contextmanager
def aws_emulator(home: Path) -> Iterator[str]:
    """Run the AWS emulator and give its address."""
    port = free_port()
    url = f"http://127.0.0.1:{port}"
    environment = {
        "GATEWAY_PORT": str(port),
        "BIND_HOST": "127.0.0.1",
        "MINISTACK_REGION": REGION,
        "STATE_DIR": str(home / "state"),
        "S3_DATA_DIR": str(home / "s3"),
        "IOT_MTLS_ENABLED": "0",
        "SFTP_ENABLED": "0",
    }
    with running(
        [stack_python(), "-m", "infra.local.emulators.aws_server"],
        home=home,
        environment=environment,
        ready=lambda: answers_http(f"{url}/_ministack/health"),
    ):
        yield url


@contextlib.contextmanager
def job_executor(home: Path, aws_url: str) -> Iterator[str]:
    """Run the job executor and give its address."""
    port = free_port()
    url = f"http://127.0.0.1:{port}"
    options = ("--port", str(port), "--state-dir", str(home / "state"), "--aws-endpoint-url", aws_url)
    with running(
        [sys.executable, "-m", "infra.local.job_executor", *options, "--region", REGION],
        home=home,
        environment={},
        ready=lambda: answers_http(f"{url}/health"),
    ):
        yield url


@contextlib.contextmanager
def snowflake_stand_in(home: Path, aws_url: str) -> Iterator[int]:
    """Run the Snowflake emulator and give its port."""
    port = free_port()
    databases = home / "databases"
    databases.mkdir()
    options = ("--port", str(port), "--database-directory", str(databases), "--s3-endpoint-url", aws_url)
    with running(
        [stack_python(), "-m", "infra.local.emulators.snowflake_server", *options],
        home=home,
        environment={},
        ready=lambda: answers_http(f"http://127.0.0.1:{port}/"),
    ):
        yield port


def provision_on(servers: LocalServers) -> dict[str, str]:
    """Provision the session's servers."""
    return provision(
        aws_endpoint_url=servers.aws,
        jobs_endpoint_url=servers.jobs,
        snowflake_host="127.0.0.1",
        snowflake_port=servers.snowflake_port,
        service_urls={"weather": "http://127.0.0.1:1"},
        project=EXAMPLE,
    )


def drain(sqs: Any, url: str) -> None:
    """Delete all messages of a queue."""
    while messages := receive(sqs, url, wait_seconds=1):
        for message in messages:
            sqs.delete_message(QueueUrl=url, ReceiptHandle=message["ReceiptHandle"])


def receive(sqs: Any, url: str, *, wait_seconds: int = QUIET_SECONDS) -> list[dict[str, Any]]:
    """Return up to ten messages of a queue, waiting for the first one."""
    answer = sqs.receive_message(QueueUrl=url, MaxNumberOfMessages=10, WaitTimeSeconds=wait_seconds)
    return answer.get("Messages", [])
