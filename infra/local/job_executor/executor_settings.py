"""Settings of the job executor, read once from its command line."""

from __future__ import annotations

import argparse
import os
from dataclasses import dataclass
from pathlib import Path


@dataclass(frozen=True, kw_only=True)
class ExecutorSettings:
    """All that the executor is told from outside.

    Args:
        port: Loopback port to listen on; 0 takes a free one, printed at start.
        state_dir: Directory of the durable state and of the job processes' files.
        aws_endpoint_url: Endpoint of everything of AWS but Glue and SageMaker.
        region: AWS region of ARNs, credentials and job environments.
        account_id: Twelve digits, the account of ARNs.
        access_key_id: Key id with which roles are read and assumed and logs are written.
        secret_access_key: Its secret.
        seconds_per_minute: Length of a minute of Glue's `Timeout`, in seconds; tests shorten it.
        stop_grace_seconds: Time between SIGTERM and SIGKILL; 120 s on SageMaker.
        instance_limit: Instances that SageMaker jobs may use at once, the account's service limit.
    """

    port: int
    state_dir: Path
    aws_endpoint_url: str
    region: str = "us-east-1"
    account_id: str = "000000000000"
    access_key_id: str = "test"
    secret_access_key: str = "test"  # noqa: S105 - the emulator's well-known root key
    seconds_per_minute: float = 60.0
    stop_grace_seconds: float = 120.0
    instance_limit: int = 20


def parse_settings(argv: list[str]) -> ExecutorSettings:
    """Build the settings from command line arguments and the two AWS key variables."""
    parser = argparse.ArgumentParser(prog="python -m infra.local.job_executor", description=__doc__)
    parser.add_argument("--port", type=int, required=True, help="loopback port; 0 takes a free one")
    parser.add_argument("--state-dir", type=Path, required=True)
    parser.add_argument("--aws-endpoint-url", required=True)
    parser.add_argument("--region", default="us-east-1")
    parser.add_argument("--account-id", default="000000000000")
    parser.add_argument("--seconds-per-minute", type=float, default=60.0)
    parser.add_argument("--stop-grace-seconds", type=float, default=120.0)
    parser.add_argument("--instance-limit", type=int, default=20)
    options = parser.parse_args(argv)
    return ExecutorSettings(
        port=options.port,
        state_dir=options.state_dir.resolve(),
        aws_endpoint_url=options.aws_endpoint_url,
        region=options.region,
        account_id=options.account_id,
        access_key_id=os.environ.get("AWS_ACCESS_KEY_ID", "test"),
        secret_access_key=os.environ.get("AWS_SECRET_ACCESS_KEY", "test"),
        seconds_per_minute=options.seconds_per_minute,
        stop_grace_seconds=options.stop_grace_seconds,
        instance_limit=options.instance_limit,
    )
