"""Handles of the emulator and executor processes, and helpers that build and await jobs."""

from __future__ import annotations

import json
import os
import secrets
import socket
import subprocess
import sys
import textwrap
import time
import urllib.error
import urllib.request
import uuid
from dataclasses import dataclass, field
from pathlib import Path
from typing import TYPE_CHECKING, Any

import boto3
from botocore.config import Config

if TYPE_CHECKING:
    from collections.abc import Callable

ROOT = Path(__file__).resolve().parents[3]
BUCKET = "jobs"
# An image whose environment is the tests' own Python.
IMAGE = "local/python"
MODEL_ARCHIVE = f"s3://{BUCKET}/models/m/candidates/j/output/model.tar.gz"
DEADLINE_SECONDS = 90.0
GLUE_ENDED = {"SUCCEEDED", "FAILED", "TIMEOUT", "STOPPED", "ERROR"}
SAGEMAKER_ENDED = {"Completed", "Failed", "Stopped"}


def eventually(look: Callable[[], Any], *, what: str, seconds: float = DEADLINE_SECONDS) -> Any:
    """Poll until `look` returns a truthy value and return it, or fail naming what was awaited."""
    deadline = time.monotonic() + seconds
    while time.monotonic() < deadline:
        if found := look():
            return found
        time.sleep(0.1)
    raise AssertionError(f"not within {seconds:.0f} s: {what}")


def http(method: str, url: str, body: bytes | None = None, **headers: str) -> tuple[int, bytes]:
    """Send one request and return status and body, also of an error response."""
    request = urllib.request.Request(url, data=body, method=method, headers=headers)
    try:
        with urllib.request.build_opener(urllib.request.ProxyHandler({})).open(request, timeout=30) as answer:
            return answer.status, answer.read()
    except urllib.error.HTTPError as error:
        return error.code, error.read()


def answers(url: str) -> bool:
    """Return whether a URL answers with status 200."""
    try:
        return http("GET", url)[0] == 200
    except OSError:
        return False


def free_port() -> int:
    """Return a free port below the system's range for outgoing connections.

    A restarted executor needs the same port again, and an outgoing connection may have taken one of those.
    """
    while True:
        port = secrets.randbelow(12_000) + 20_000
        with socket.socket() as probe:
            try:
                probe.bind(("127.0.0.1", port))
            except OSError:
                continue
        return port


def add_images(url: str, environments: dict[str, Path]) -> dict[str, Any]:
    """Register images with an executor, each backed by an environment folder, and return all its images."""
    images = {uri: {"packages": uri, "environment": str(folder)} for uri, folder in environments.items()}
    body = json.dumps({"images": images}).encode()
    status, answer = http("POST", f"{url}/_executor/images", body, **{"Content-Type": "application/json"})
    assert status == 200, answer
    return json.loads(answer)["images"]


@dataclass
class Executor:
    """One executor process on its own state directory, restartable on the same port."""

    aws_url: str
    state_dir: Path
    options: tuple[str, ...] = ()
    port: int = field(default_factory=free_port)
    process: subprocess.Popen[bytes] | None = None

    @property
    def url(self) -> str:
        """The executor's address."""
        return f"http://127.0.0.1:{self.port}"

    def spawn(self) -> subprocess.Popen[bytes]:
        """Start the process without waiting for it."""
        environment = {key: value for key, value in os.environ.items() if key != "PYTHONDONTWRITEBYTECODE"}
        argv = [sys.executable, "-m", "infra.local.job_executor", "--port", str(self.port)]
        argv += ["--state-dir", str(self.state_dir), "--aws-endpoint-url", self.aws_url, *self.options]
        self.state_dir.mkdir(parents=True, exist_ok=True)
        with (self.state_dir / "executor.log").open("ab") as log:
            self.process = subprocess.Popen(
                argv,
                cwd=ROOT,
                stdout=log,
                stderr=log,
                env=environment | {"LEAK_ME": "secret"},
            )
        return self.process

    def start(self) -> Executor:
        """Start the process, wait until it answers and register the test image."""
        process = self.spawn()
        eventually(
            lambda: process.poll() is not None or answers(f"{self.url}/health"), what="the executor answers"
        )
        assert process.poll() is None, (self.state_dir / "executor.log").read_text()
        add_images(self.url, {IMAGE: Path(sys.prefix)})
        return self

    def kill(self) -> None:
        """Kill the process with SIGKILL."""
        assert self.process is not None
        self.process.kill()
        self.process.wait(timeout=30)

    def stop(self) -> int:
        """Stop the process with SIGTERM and return its exit code."""
        assert self.process is not None
        self.process.terminate()
        return self.process.wait(timeout=60)

    def client(self, service: str, **config: Any) -> Any:
        """Return a boto3 client of Glue or SageMaker."""
        return make_client(service, self.url, **config)


@dataclass(frozen=True)
class Aws:
    """The emulator's address and roles, with helpers for scripts and logs."""

    url: str
    glue_role: str
    sagemaker_role: str

    def client(self, service: str) -> Any:
        """Return a boto3 client."""
        return make_client(service, self.url)

    def upload(self, script: str, name: str = "script.py") -> str:
        """Upload a script to S3 under a unique key, and return its URL."""
        key = f"scripts/{uuid.uuid4().hex}/{name}"
        self.client("s3").put_object(Bucket=BUCKET, Key=key, Body=textwrap.dedent(script).encode())
        return f"s3://{BUCKET}/{key}"

    def logs(self, group: str, prefix: str) -> list[str]:
        """Return all messages of the only log stream with a prefix."""
        client = self.client("logs")
        streams = client.describe_log_streams(logGroupName=group, logStreamNamePrefix=prefix)["logStreams"]
        assert len(streams) == 1, streams
        request = {"logGroupName": group, "logStreamName": streams[0]["logStreamName"], "startFromHead": True}
        messages, answer = [], client.get_log_events(**request)
        while answer["events"]:
            messages += [event["message"] for event in answer["events"]]
            answer = client.get_log_events(**request, nextToken=answer["nextForwardToken"])
        return messages


def add_fault(executor: Executor, **fault: Any) -> tuple[int, dict[str, Any]]:
    """Ask the executor to inject a fault, and return status and answer."""
    body = json.dumps(fault).encode()
    status, answer = http(
        "POST", f"{executor.url}/_executor/faults", body, **{"Content-Type": "application/json"}
    )
    return status, json.loads(answer)


def make_client(service: str, url: str, **config: Any) -> Any:
    """Return a boto3 client with the emulator's root key."""
    return boto3.client(
        service,
        endpoint_url=url,
        region_name="us-east-1",
        aws_access_key_id="test",
        aws_secret_access_key="test",
        config=Config(proxies={}, **config),
    )


def glue_job(executor: Executor, aws: Aws, name: str, script: str, **definition: Any) -> str:
    """Create a Glue job that runs a script, and return its name."""
    request = {"Role": aws.glue_role, "GlueVersion": "5.1"} | definition
    command = {"Name": "glueetl", "ScriptLocation": aws.upload(script)}
    executor.client("glue").create_job(Name=name, Command=command, **request)
    return name


def glue_end(executor: Executor, name: str, run_id: str) -> dict[str, Any]:
    """Wait until a Glue job run ends, and return it."""
    client = executor.client("glue")

    def look() -> dict[str, Any] | None:
        run = client.get_job_run(JobName=name, RunId=run_id)["JobRun"]
        return run if run["JobRunState"] in GLUE_ENDED else None

    return eventually(look, what=f"{run_id} ends")


def wait_for_line(aws: Aws, group: str, prefix: str, line: str) -> None:
    """Wait until a running job's log shows a line."""

    def look() -> bool:
        client = aws.client("logs")
        try:
            streams = client.describe_log_streams(logGroupName=group, logStreamNamePrefix=prefix)[
                "logStreams"
            ]
        except client.exceptions.ResourceNotFoundException:
            return False
        return bool(streams) and line in aws.logs(group, prefix)

    eventually(look, what=f"{group} {prefix} shows {line}")


def processing_request(aws: Aws, name: str, script: str, **changes: Any) -> dict[str, Any]:
    """Build a request for a processing job whose script is passed as an input, as on SageMaker."""
    uri = aws.upload(script)
    code = {"S3Uri": uri, "LocalPath": "/opt/ml/processing/input/code", "S3DataType": "S3Prefix"}
    cluster = {"InstanceCount": 1, "InstanceType": "ml.m5.large", "VolumeSizeInGB": 10}
    request = {
        "ProcessingJobName": name,
        "RoleArn": aws.sagemaker_role,
        "AppSpecification": {
            "ImageUri": IMAGE,
            "ContainerEntrypoint": ["python3", "/opt/ml/processing/input/code/script.py"],
        },
        "ProcessingResources": {"ClusterConfig": cluster},
        "ProcessingInputs": [{"InputName": "code", "S3Input": code | {"S3InputMode": "File"}}],
    }
    inputs = changes.pop("ProcessingInputs", [])
    request["ProcessingInputs"] += inputs
    return request | changes


def sagemaker_end(executor: Executor, kind: str, name: str) -> dict[str, Any]:
    """Wait with boto3's waiter until a job completes or stops, and describe it."""
    client = executor.client("sagemaker")
    waiter = client.get_waiter(f"{kind.lower()}_job_completed_or_stopped")
    waiter.wait(**{f"{kind}JobName": name}, WaiterConfig={"Delay": 1, "MaxAttempts": 90})
    return getattr(client, f"describe_{kind.lower()}_job")(**{f"{kind}JobName": name})


def package_request(group: str, **changes: Any) -> dict[str, Any]:
    """Build a request for a version of a model package group."""
    specification = {
        "Containers": [{"Image": IMAGE, "ModelDataUrl": MODEL_ARCHIVE}],
        "SupportedContentTypes": ["application/json"],
        "SupportedResponseMIMETypes": ["application/json"],
    }
    request = {
        "ModelPackageGroupName": group,
        "InferenceSpecification": specification,
        "CustomerMetadataProperties": {"digest": "0123456789abcdef"},
        "SkipModelValidation": "All",
    }
    return request | changes
