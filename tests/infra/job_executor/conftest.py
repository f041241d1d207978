"""Fixtures: a real emulator and real executor processes."""

from __future__ import annotations

import json
import subprocess
import uuid
from typing import TYPE_CHECKING

import pytest

from tests.infra.job_executor.job_stack import (
    BUCKET,
    ROOT,
    Aws,
    Executor,
    answers,
    eventually,
    free_port,
    make_client,
)
from tests.infra.job_executor.pipeline_stack import Pipelines
from tests.infra.local_servers import stack_python

if TYPE_CHECKING:
    from collections.abc import Iterator
    from pathlib import Path


@pytest.fixture(scope="session")
def aws(tmp_path_factory: pytest.TempPathFactory) -> Iterator[Aws]:
    """Run an emulator for the whole session, with two roles and a bucket."""
    home = tmp_path_factory.mktemp("ministack")
    port = free_port()
    environment = {
        "PATH": "/usr/bin:/bin",
        "HOME": str(home),
        "PYTHONPATH": str(ROOT),
        "GATEWAY_PORT": str(port),
        "BIND_HOST": "127.0.0.1",
        "MINISTACK_REGION": "us-east-1",
        "IOT_MTLS_ENABLED": "0",
        "SFTP_ENABLED": "0",
    }
    with (home / "log").open("wb") as log:
        process = subprocess.Popen(
            [stack_python(), "-m", "infra.local.emulators.aws_server"],
            cwd=home,
            env=environment,
            stdout=log,
            stderr=log,
        )
    url = f"http://127.0.0.1:{port}"
    try:
        eventually(lambda: answers(f"{url}/_ministack/health"), what="the emulator answers")
        assert process.poll() is None, (home / "log").read_text()
        iam = make_client("iam", url)
        roles = {}
        for service in ("glue", "sagemaker"):
            trust = {
                "Effect": "Allow",
                "Principal": {"Service": f"{service}.amazonaws.com"},
                "Action": "sts:AssumeRole",
            }
            document = json.dumps({"Version": "2012-10-17", "Statement": [trust]})
            made = iam.create_role(RoleName=f"{service}-jobs", AssumeRolePolicyDocument=document)
            roles[service] = made["Role"]["Arn"]
        make_client("s3", url).create_bucket(Bucket=BUCKET)
        yield Aws(url, roles["glue"], roles["sagemaker"])
    finally:
        process.terminate()
        process.wait(timeout=60)


@pytest.fixture(scope="session")
def executor(aws: Aws, tmp_path_factory: pytest.TempPathFactory) -> Iterator[Executor]:
    """Run one executor for the whole session, with minutes shortened to two seconds."""
    options = ("--seconds-per-minute", "2", "--stop-grace-seconds", "5", "--instance-limit", "4")
    running = Executor(aws.url, tmp_path_factory.mktemp("executor"), options).start()
    yield running
    assert running.stop() == 0


@pytest.fixture(scope="session")
def pipelines(executor: Executor, aws: Aws) -> Pipelines:
    """Return pipelines on the session's executor, with their model package group created."""
    found = Pipelines(executor, aws)
    found.create_group()
    return found


@pytest.fixture
def own_executor(aws: Aws, tmp_path: Path) -> Iterator[Executor]:
    """Run an executor for one test, which may kill it."""
    running = Executor(aws.url, tmp_path / "state", ("--stop-grace-seconds", "5")).start()
    yield running
    if running.process is not None and running.process.poll() is None:
        running.stop()


@pytest.fixture
def name() -> str:
    """Return a unique job name."""
    return f"job-{uuid.uuid4().hex[:12]}"
