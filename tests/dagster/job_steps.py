"""Small jobs on the real job executor, run by the clients inside real Dagster steps."""

# No postponed annotations: Dagster compares the context's annotation itself.
import json
import textwrap
import urllib.request
import uuid
from collections.abc import Callable
from contextlib import nullcontext
from typing import Any

import boto3
import dagster as dg
from botocore.config import Config

from infra.local.provisioning.provisioned_jobs import ensure_role
from infra.permissions import role_definitions
from mlpipe_dagster.job_clients.pipes_over_s3 import TidyContextInjector, TidyMessageReader
from mlpipe_dagster.job_clients.polling import Polling
from mlpipe_dagster.resources.platform import Platform
from prediction_contract.naming.s3_layout import PIPES_PREFIX

QUICK = Polling(first_pause=0.1, longest_pause=0.5, deadline_seconds=90, patience_seconds=30)

# Opens Pipes with parameters from argv if there are any, else from the environment.
_OPENS_PIPES = """
    import boto3, sys, time
    from dagster_pipes import (
        PipesCliArgsParamsLoader, PipesEnvVarParamsLoader, PipesS3ContextLoader, PipesS3MessageWriter,
        open_dagster_pipes,
    )
    client = boto3.client("s3")
    in_argv = any(argument.startswith("--dagster-pipes") for argument in sys.argv)
    with open_dagster_pipes(
        params_loader=PipesCliArgsParamsLoader() if in_argv else PipesEnvVarParamsLoader(),
        context_loader=PipesS3ContextLoader(client=client),
        message_writer=PipesS3MessageWriter(client=client, interval=0.2),
    ) as pipes:
"""
REPORTS = f"""{_OPENS_PIPES}
        pipes.report_custom_message({{"rows": pipes.get_extra("rows")}})
"""
# Reports progress, and continues once an object exists whose key begins with `go-on`.
WAITS_AFTER_REPORT = f"""{_OPENS_PIPES}
        pipes.report_custom_message({{{{"kind": "progress", "step": "survey", "rows": 5}}}})
        deadline = time.monotonic() + 120
        while not client.list_objects_v2(Bucket="{{bucket}}", Prefix="go-on").get("Contents"):
            assert time.monotonic() < deadline
            time.sleep(0.1)
        pipes.report_custom_message({{{{"rows": 7}}}})
"""
FAILS = """
    print("what led to it")
    raise ValueError("no such batch")
"""
SLEEPS = """
    import time
    print("asleep", flush=True)
    time.sleep({seconds})
"""


def in_step(
    function: Callable[[dg.AssetExecutionContext], Any], instance: dg.DagsterInstance | None = None
) -> Any:
    """Return what a function returns inside a Dagster step, or raise its error."""
    returned: list[Any] = []

    @dg.asset(name=f"step_{uuid.uuid4().hex}")
    def step(context: dg.AssetExecutionContext) -> dg.MaterializeResult[Any]:
        returned.append(function(context))
        return dg.MaterializeResult()

    with dg.DagsterInstance.ephemeral() if instance is None else nullcontext(instance) as used:
        dg.materialize([step], instance=used)
    return returned[0]


def log_lines(instance: dg.DagsterInstance) -> list[str]:
    """Return the lines that the steps of an instance's runs have logged so far."""
    return [
        entry.user_message
        for run in instance.get_runs()
        for entry in instance.all_logs(run.run_id)
        if not entry.is_dagster_event
    ]


def upload(platform: Platform, script: str) -> str:
    """Put a script on S3, and return its address."""
    key = f"code/{uuid.uuid4().hex}/script.py"
    platform.bucket.put(key, textwrap.dedent(script).encode())
    return f"s3://{platform.settings.data_bucket}/{key}"


def pipes(platform: Platform) -> dict[str, Any]:
    """Return the arguments that both clients share."""
    s3, bucket = platform.client("s3"), platform.settings.data_bucket
    return {
        "logs_client": platform.client("logs"),
        "context_injector": TidyContextInjector(bucket=bucket, client=s3),
        "message_reader": TidyMessageReader(bucket=bucket, client=s3, interval=0.2),
        "polling": QUICK,
    }


def pipes_objects(platform: Platform) -> list[str]:
    """Return the keys of the objects that Pipes left."""
    listed = platform.client("s3").list_objects_v2(Bucket=platform.settings.data_bucket, Prefix=PIPES_PREFIX)
    return [item["Key"] for item in listed.get("Contents", [])]


def single_attempt_client(platform: Platform, service: str) -> Any:
    """Return a boto3 client that never retries by itself."""
    return boto3.client(
        service,
        region_name=platform.settings.deployment.region,
        config=Config(retries={"total_max_attempts": 1, "mode": "standard"}),
    )


def ensure_roles(platform: Platform) -> None:
    """Create the roles of the test's stage."""
    for role in role_definitions.all_roles(platform.settings.deployment, ()):
        ensure_role(platform.client("iam"), role, platform.settings.deployment.account_id)


def fault(endpoint: str, **what: Any) -> None:
    """Make the job executor fail at its next calls."""
    answer = urllib.request.Request(
        f"{endpoint}/_executor/faults",
        data=json.dumps(what).encode(),
        headers={"Content-Type": "application/json"},
        method="POST",
    )
    with urllib.request.urlopen(answer, timeout=30) as response:
        assert response.status < 300


def forget_faults(endpoint: str) -> None:
    """End all faults of the job executor."""
    request = urllib.request.Request(f"{endpoint}/_executor/faults", method="DELETE")
    with urllib.request.urlopen(request, timeout=30) as response:
        assert response.status < 300


def let_job_finish(platform: Platform) -> None:
    """Let a job with WAITS_AFTER_REPORT continue."""
    platform.bucket.put("go-on", b"")


class FinishJobOnceShown:
    """A sleep function that lets the job finish once the Dagster run shows its message."""

    def __init__(self, platform: Platform, instance: dg.DagsterInstance, shown: str) -> None:
        self._platform = platform
        self._instance = instance
        self._shown = shown
        self.was_shown = False

    def __call__(self, seconds: float) -> None:
        """Sleep, then check the run's log."""
        QUICK.sleep(seconds)
        if not self.was_shown and self._shown in log_lines(self._instance):
            self.was_shown = True
            let_job_finish(self._platform)
