"""The environment of a job's process: what AWS would give it and nothing of the executor's own."""

from __future__ import annotations

import os
import sys
from pathlib import Path
from typing import TYPE_CHECKING

if TYPE_CHECKING:
    from infra.local.job_executor.aws_access import AwsCredentials
    from infra.local.job_executor.executor_settings import ExecutorSettings


def base_environment(
    settings: ExecutorSettings, credentials: AwsCredentials, *, own_url: str, home: Path
) -> dict[str, str]:
    """Build the variables that every job has.

    Args:
        settings: Region and endpoints.
        credentials: The job's role.
        own_url: Address of the executor, the endpoint of Glue and SageMaker.
        home: Directory of this process; its home and temporary directory lie there, so that no AWS profile
            of the person at the laptop is ever read.
    """
    environment = {
        "AWS_ACCESS_KEY_ID": credentials.access_key_id,
        "AWS_SECRET_ACCESS_KEY": credentials.secret_access_key,
        "AWS_SESSION_TOKEN": credentials.session_token or "",
        "AWS_REGION": settings.region,
        "AWS_DEFAULT_REGION": settings.region,
        "AWS_ENDPOINT_URL": settings.aws_endpoint_url,
        "AWS_ENDPOINT_URL_GLUE": own_url,
        "AWS_ENDPOINT_URL_SAGEMAKER": own_url,
        "AWS_EC2_METADATA_DISABLED": "true",
        "PATH": os.pathsep.join([str(Path(sys.executable).parent), "/usr/local/bin:/usr/bin:/bin"]),
        "HOME": str(home / "work"),
        "TMPDIR": str(home / "tmp"),
        "LANG": "C.UTF-8",
        "TZ": "UTC",
        # Both services' images set it: output arrives while the script runs.
        "PYTHONUNBUFFERED": "1",
    }
    if "JAVA_HOME" in os.environ:
        environment["JAVA_HOME"] = os.environ["JAVA_HOME"]
    return environment
