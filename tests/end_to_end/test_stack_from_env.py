"""The local stack works for programs that have only its `.env`.

The programs are in `plain_clients`. Concurrent deltalake commits are tested in
`tests/infra/local_stack/test_delta_concurrency.py`.
"""

from __future__ import annotations

import ast
import json
import os
import re
import subprocess
import sys
from pathlib import Path
from typing import TYPE_CHECKING, Any

import pytest

from tests.stack_runs import PROJECT_ROOT, StackRun

if TYPE_CHECKING:
    from collections.abc import Callable

    from tests.stack_runs import LocalStack

PLAIN_CLIENTS = Path(__file__).with_name("plain_clients")
PAGE = Path(__file__).parents[2] / "docs" / "local-stack.md"
_DEADLINE_SECONDS = 240
_FOREIGN = {"arro3", "boto3", "botocore", "deltalake", "snowflake"}


def run_plain(stack: LocalStack, directory: Path, program: str, *arguments: str) -> None:
    """Run a program in an empty directory with `.env`, PATH and HOME, and require success."""
    directory.mkdir()
    done = subprocess.run(
        [sys.executable, str(PLAIN_CLIENTS / program), *arguments],
        cwd=directory,
        # The home is empty, so no AWS profile and no Snowflake connection of the developer is used.
        env={"PATH": os.environ["PATH"], "HOME": str(directory), **stack.environment},
        stdout=subprocess.PIPE,
        stderr=subprocess.STDOUT,
        text=True,
        timeout=_DEADLINE_SECONDS,
        check=False,
    )
    assert done.returncode == 0, done.stdout


def test_plain_programs_import_only_public_packages() -> None:
    """They import only the standard library, AWS's, Snowflake's and Delta's packages, and one another."""
    files = sorted(PLAIN_CLIENTS.glob("*.py"))
    allowed = _FOREIGN | sys.stdlib_module_names | {file.stem for file in files}
    imported: set[str] = set()
    for file in files:
        for node in ast.walk(ast.parse(file.read_text(encoding="utf-8"))):
            if isinstance(node, ast.Import):
                imported |= {alias.name.partition(".")[0] for alias in node.names}
            elif isinstance(node, ast.ImportFrom):
                imported.add((node.module or ".").partition(".")[0])
    assert imported - allowed == set()
    assert imported >= _FOREIGN


@pytest.mark.stack
def test_each_variable_is_documented(local_stack: LocalStack) -> None:
    """The page about the stack lists exactly the variables in `.env`."""
    section = PAGE.read_text(encoding="utf-8").partition("## What `.env` holds")[2].partition("\n## ")[0]
    first_cells = [row.split("|")[1] for row in section.splitlines() if row.startswith("|")]
    explained = {name for cell in first_cells for name in re.findall(r"`([A-Z_]+)`", cell)}
    assert explained == set(local_stack.environment)


@pytest.mark.stack
def test_up_restores_missing_parts_of_a_running_stack(
    local_stack: LocalStack, aws_client: Callable[[str], Any]
) -> None:
    """`make up` restores a deleted queue and a lost `.env`, and keeps the processes."""
    run = StackRun(local_stack.state_directory)
    before = run.components()
    sqs = aws_client("sqs")
    url = local_stack.environment["MLPIPE_DONE_QUEUE_URL"]
    sqs.delete_queue(QueueUrl=url)
    run.environment_file.unlink()

    said = run.up()

    assert "The stack is up already" in said
    assert run.components() == before
    assert run.running().environment == local_stack.environment
    assert run.environment_file.stat().st_mode & 0o777 == 0o600
    attributes = sqs.get_queue_attributes(QueueUrl=url, AttributeNames=["All"])["Attributes"]
    assert {"Policy", "RedrivePolicy"} <= attributes.keys()


@pytest.mark.stack
def test_logs_and_environment_file_have_no_secrets(
    local_stack: LocalStack, aws_client: Callable[[str], Any]
) -> None:
    """Neither the token client's secret nor a token is in a log or in `.env`."""
    run = StackRun(local_stack.state_directory)
    name = local_stack.environment["MLPIPE_TOKEN_CLIENT_SECRET_NAME"]
    stored = aws_client("secretsmanager").get_secret_value(SecretId=name)["SecretString"]
    command = [sys.executable, "-m", "infra.local.access_token", "--env-file", str(run.environment_file)]
    token = subprocess.check_output(command, cwd=PROJECT_ROOT, text=True, timeout=_DEADLINE_SECONDS).strip()
    logs = sorted((run.state_directory / "logs").iterdir())
    assert {"aws.log", "jobs.log", "supervisor.log"} <= {log.name for log in logs}
    for file in (*logs, run.environment_file):
        text = file.read_text(encoding="utf-8", errors="replace")
        assert json.loads(stored)["client_secret"] not in text, file
        assert token not in text, file


@pytest.mark.stack
def test_dynamodb_s3_and_sqs_work_with_boto3(local_stack: LocalStack, tmp_path: Path) -> None:
    """DynamoDB's and S3's operations and limits work, and a done file gives exactly one message."""
    run_plain(local_stack, tmp_path / "empty", "tables_and_objects.py")


@pytest.mark.stack
def test_glue_jobs_succeed_fail_and_stop(local_stack: LocalStack, tmp_path: Path) -> None:
    """Job runs succeed, fail and are stopped, with Glue's states and logs."""
    run_plain(local_stack, tmp_path / "empty", "glue_jobs.py")


@pytest.mark.stack
@pytest.mark.drill
def test_glue_job_times_out(local_stack: LocalStack, tmp_path: Path) -> None:
    """A job run beyond its timeout ends as TIMEOUT, after a minute at the earliest, as on Glue."""
    run_plain(local_stack, tmp_path / "empty", "glue_jobs.py", "time-out")


@pytest.mark.stack
def test_processing_jobs_succeed_fail_and_stop(local_stack: LocalStack, tmp_path: Path) -> None:
    """Processing jobs complete, fail, time out and are stopped, with status, output and logs."""
    run_plain(local_stack, tmp_path / "empty", "processing_jobs.py")


@pytest.mark.stack
def test_snowflake_copies_from_s3_and_reads_back(local_stack: LocalStack, tmp_path: Path) -> None:
    """The connector logs in with its variables, and Parquet written by deltalake is loaded unchanged."""
    run_plain(local_stack, tmp_path / "empty", "warehouse.py")
