"""The `mlpipe` command starts fast, and imports only what a command needs."""

from __future__ import annotations

import json
import shutil
import subprocess
import sys
from pathlib import Path

import pytest

from tests.dagster.conftest import MINIMAL_ENVIRONMENT

ROOT = Path(__file__).resolve().parents[3]
HEAVY = ("boto3", "botocore", "dagster", "pandas", "pydantic", "pyarrow", "snowflake.connector", "deltalake")
PROGRAMS = (
    "up",
    "down",
    "status",
    "dev",
    "token",
    "data",
    "demo",
    "test",
    "synth",
    "package",
    "deploy-local",
)
COMMANDS = (
    "batches",
    "show",
    "diff",
    "explain",
    "quarantine",
    "publish",
    "rollback",
    "hold",
    "load",
    "models",
    "retrain",
    "promote",
    "demote",
    "challenge",
    "doctor",
)
_IMPORTED = """
import json, sys, time
began = time.process_time()
from mlpipe_dagster.cli.main import main
try:
    status = main(sys.argv[1:])
except SystemExit as ended:
    status = ended.code
took = time.process_time() - began
names = json.loads('{names}')
print(json.dumps([status, took, [name for name in names if name in sys.modules]]), file=sys.stderr)
"""


@pytest.fixture(scope="module")
def example(tmp_path_factory: pytest.TempPathFactory) -> Path:
    """The example project without the `.env` of a stack that a person may have started on it."""
    folder = tmp_path_factory.mktemp("example") / "flights"
    ignored = shutil.ignore_patterns(".env", ".mlpipe")
    return shutil.copytree(ROOT / "examples" / "flights", folder, ignore=ignored)


def run_command(*arguments: str, **environment: str) -> tuple[int, float, list[str], str]:
    """Return exit status, CPU seconds, heavy modules and output of a command in its own process."""
    done = subprocess.run(
        [sys.executable, "-c", _IMPORTED.replace("{names}", json.dumps(HEAVY)), *arguments],
        cwd=ROOT / "tests",
        env={"PATH": "/usr/bin:/bin", "PYTHONPATH": str(ROOT), **environment},
        capture_output=True,
        text=True,
        timeout=60,
        check=True,
    )
    status, took, heavy = json.loads(done.stderr.splitlines()[-1])
    return status, took, heavy, done.stdout


def test_help_names_every_command_within_a_second() -> None:
    """Help does not import Dagster, boto3 or Snowflake's connector."""
    run_command("--help")  # byte code is written by the first start
    status, took, heavy, output = run_command("--help")
    assert (status, heavy) == (0, [])
    assert took < 1
    for command in (*PROGRAMS, *COMMANDS):
        assert f"\n    {command}" in output


@pytest.mark.parametrize("command", COMMANDS)
def test_each_command_has_help(command: str) -> None:
    """Every command has its own help and the option --json."""
    done = subprocess.run(
        [sys.executable, "-m", "mlpipe_dagster.cli", command, "--help"],
        cwd=ROOT,
        capture_output=True,
        text=True,
        timeout=60,
        check=True,
    )
    assert f"usage: mlpipe {command}" in done.stdout
    assert "--json" in done.stdout


def test_batches_command_does_not_import_dagster(example: Path) -> None:
    """`mlpipe batches` asks the registry without importing Dagster or Snowflake's connector."""
    unreachable = {**MINIMAL_ENVIRONMENT, "AWS_ENDPOINT_URL": "http://127.0.0.1:1"}
    keys = {"AWS_ACCESS_KEY_ID": "test", "AWS_SECRET_ACCESS_KEY": "test"}
    status, _, heavy, output = run_command(
        "batches", "flight_delay", MLPIPE_PROJECT=str(example), **unreachable, **keys
    )
    assert (status, output) == (1, "")
    assert "boto3" in heavy
    assert not {"dagster", "snowflake.connector"} & set(heavy)


def test_command_without_a_deployment_is_a_readable_error(example: Path) -> None:
    """The message names the variable and the remedy, and the status is 1."""
    done = subprocess.run(
        [sys.executable, "-m", "mlpipe_dagster.cli", "batches", "flight_delay", "--json"],
        cwd=example,
        env={"PATH": "/usr/bin:/bin", "PYTHONPATH": str(ROOT)},
        capture_output=True,
        text=True,
        timeout=60,
        check=False,
    )
    assert (done.returncode, done.stdout) == (1, "")
    assert done.stderr.startswith("mlpipe batches: The variable MLPIPE_STAGE is not set")
    assert "mlpipe up" in done.stderr


def test_undeclared_model_is_a_readable_error() -> None:
    """A misspelt model gives an error with the declared models, not an empty list of batches."""
    done = subprocess.run(
        [sys.executable, "-m", "mlpipe_dagster.cli", "batches", "tides"],
        cwd=ROOT / "tests",
        env={"PATH": "/usr/bin:/bin", "PYTHONPATH": str(ROOT)},
        capture_output=True,
        text=True,
        timeout=60,
        check=False,
    )
    assert done.returncode == 1
    assert "No model tides is declared" in done.stderr
    assert "flight_delay" in done.stderr
