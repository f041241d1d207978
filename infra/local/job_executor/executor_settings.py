"""Settings of the job executor, read once from its command line."""

from __future__ import annotations

import argparse
import os
from dataclasses import dataclass
from pathlib import Path

# The emulator's account id.
ACCOUNT_ID = "000000000000"


@dataclass(frozen=True, kw_only=True)
class ExecutorSettings:
    """The executor's settings.

    Args:
        port: The loopback port; 0 for any free port, which is printed at the start.
        state_dir: The folder of the durable state and of the job processes' files.
        aws_endpoint_url: The endpoint of all AWS services except Glue and SageMaker.
        region: AWS region of ARNs, credentials and job environments.
        access_key_id: The id of the executor's own key, for reading and assuming roles and writing logs.
        secret_access_key: The secret of that key.
        seconds_per_minute: Length of a minute of Glue's `Timeout`, in seconds; tests shorten it.
        stop_grace_seconds: Time between SIGTERM and SIGKILL; 120 s on SageMaker.
        instance_limit: The quota of instances of running processing jobs, and the same for training jobs.
        host_stagger_seconds: Time between the starts of two hosts of a job. The first host starts last.
        enforce_iam: Whether a pipeline's role must be allowed to make the pipeline's calls.
    """

    port: int
    state_dir: Path
    aws_endpoint_url: str
    region: str = "us-east-1"
    access_key_id: str
    secret_access_key: str
    seconds_per_minute: float = 60.0
    stop_grace_seconds: float = 120.0
    instance_limit: int = 20
    host_stagger_seconds: float = 1.0
    enforce_iam: bool = False


def parse_settings(argv: list[str]) -> ExecutorSettings:
    """Build the settings from command line arguments and the two AWS key variables.

    Without these variables the emulator's well-known root key is used.
    """
    parser = argparse.ArgumentParser(
        prog="python -m infra.local.job_executor",
        description="Run Glue and SageMaker jobs as local processes, behind AWS's APIs.",
        argument_default=argparse.SUPPRESS,
    )
    parser.add_argument("--port", type=int, required=True, help="loopback port; 0 chooses a free one")
    parser.add_argument("--state-dir", type=lambda text: Path(text).resolve(), required=True)
    parser.add_argument("--aws-endpoint-url", required=True)
    parser.add_argument("--region")
    parser.add_argument("--seconds-per-minute", type=float)
    parser.add_argument("--stop-grace-seconds", type=float)
    parser.add_argument("--instance-limit", type=int)
    parser.add_argument("--host-stagger-seconds", type=float)
    parser.add_argument("--enforce-iam", action="store_true")
    return ExecutorSettings(
        **vars(parser.parse_args(argv)),
        access_key_id=os.environ.get("AWS_ACCESS_KEY_ID", "test"),
        secret_access_key=os.environ.get("AWS_SECRET_ACCESS_KEY", "test"),
    )
