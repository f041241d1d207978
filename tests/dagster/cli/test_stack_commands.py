"""`mlpipe up` and similar commands become programs of the platform, with the project and absolute paths."""

from __future__ import annotations

import os
import signal
import subprocess
import sys
from typing import TYPE_CHECKING

import pytest

from mlpipe_dagster.cli import stack_commands
from mlpipe_dagster.cli.main import main
from mlpipe_dagster.installed_platform import PLATFORM
from tests.projects import new_project

if TYPE_CHECKING:
    from pathlib import Path


class BecomesError(Exception):
    """Ends the command where its process would become another program."""


class Program:
    """The program that a command became."""

    def __init__(self) -> None:
        self.command: list[str] = []
        self.environment: dict[str, str] = {}

    def execve(self, path: str, command: list[str], environment: dict[str, str]) -> None:
        """Keep the arguments instead of replacing the process."""
        assert path == sys.executable == command[0]
        assert os.getcwd() == str(PLATFORM)  # noqa: PTH109  # where the process is, not what a path object says
        self.command, self.environment = command[1:], environment
        raise BecomesError


@pytest.fixture
def program(monkeypatch: pytest.MonkeyPatch, tmp_path: Path) -> Program:
    """The program that a command becomes, in the folder of a project without models."""
    found = Program()
    root = tmp_path / "project"
    new_project(root)
    monkeypatch.chdir(root)
    monkeypatch.delenv("MLPIPE_PROJECT", raising=False)
    monkeypatch.setattr(stack_commands.os, "execve", found.execve)
    return found


@pytest.mark.parametrize(
    ("typed", "becomes"),
    [
        ("up", "-m infra.local up"),
        ("up --enforce-iam", "-m infra.local up --enforce-iam"),
        ("down", "-m infra.local down"),
        ("status", "-m infra.local status"),
        ("dev --port 3001", "-m infra.local.dev --port 3001"),
        ("token", "-m infra.local.access_token"),
        ("data", "-m infra.local.sample_data"),
        ("demo", "-m infra.local.demo"),
        ("synth", "-m infra.local.cdk_synthesis"),
        ("synth prod", "-m infra.local.cdk_synthesis prod"),
        ("upload-code prod", "-m infra.code_upload prod"),
        ("snowflake-setup prod", "-m infra.snowflake_setup prod"),
        (
            "registry-copy prod --from restored --model demand --write",
            "-m infra.registry_copy prod --from restored --model demand --write",
        ),
        ("deploy-local", "-m infra.local.cdk_deployment"),
        ("lock", "-m infra.environments.family_locking"),
        ("lock boosting --upgrade", "-m infra.environments.family_locking boosting --upgrade"),
        ("environment cdk-cli --path", "-m infra.environments cdk-cli --path"),
        ("images", "-m infra.images.build_contexts"),
        ("test", "-m infra.environments.project_tests"),
        (
            "test pyproject.toml::test_a -- -k few -x",
            "-m infra.environments.project_tests {tmp}/project/pyproject.toml::test_a -k few -x",
        ),
        ("package --out ../out --platform aarch64", "-m infra.packaging --out {tmp}/out --platform aarch64"),
    ],
)
def test_command_becomes_a_program_of_the_platform(
    program: Program, tmp_path: Path, typed: str, becomes: str
) -> None:
    """The program gets the project of the current folder."""
    with pytest.raises(BecomesError):
        main(typed.split())
    assert " ".join(program.command) == becomes.format(tmp=tmp_path)
    assert program.environment["MLPIPE_PROJECT"] == str(tmp_path / "project")


@pytest.mark.parametrize("typed", ["--project ../other status", "status --project ../other"])
def test_project_is_named_before_or_after_the_command(
    program: Program, tmp_path: Path, monkeypatch: pytest.MonkeyPatch, typed: str
) -> None:
    """A relative folder is resolved against the caller's."""
    monkeypatch.setenv("MLPIPE_PROJECT", "/nowhere")
    new_project(tmp_path / "other", "other")
    with pytest.raises(BecomesError):
        main(typed.split())
    assert program.environment["MLPIPE_PROJECT"] == str(tmp_path / "other")


def test_relative_cache_is_resolved_against_the_callers_folder(
    program: Program, tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    """The program runs beside the platform's packages, where it must write nothing."""
    monkeypatch.setenv("MLPIPE_CACHE", "cache")
    monkeypatch.setenv("XDG_CACHE_HOME", "../shared")
    monkeypatch.setenv("PYTHONSAFEPATH", "1")
    with pytest.raises(BecomesError):
        main(["lock"])
    assert program.environment["MLPIPE_CACHE"] == str(tmp_path / "project" / "cache")
    assert program.environment["XDG_CACHE_HOME"] == str(tmp_path / "shared")
    assert "PYTHONSAFEPATH" not in program.environment


def test_ctrl_c_ends_a_command_without_a_traceback(
    program: Program, monkeypatch: pytest.MonkeyPatch, capsys: pytest.CaptureFixture[str]
) -> None:
    """The exit status is that of an interrupted program."""

    def interrupted(*_: object) -> None:
        raise KeyboardInterrupt

    monkeypatch.setattr("mlpipe_dagster.cli.main.DeploymentAccess", interrupted)
    assert main(["batches", "demand"]) == 130
    assert capsys.readouterr().err == "mlpipe batches: interrupted\n"
    assert program.command == []


def test_command_outside_of_a_project_is_a_readable_error(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch, capsys: pytest.CaptureFixture[str]
) -> None:
    """The message names `mlpipe init`, and nothing is written."""
    monkeypatch.chdir(tmp_path)
    monkeypatch.delenv("MLPIPE_PROJECT", raising=False)
    assert main(["up"]) == 1
    assert "mlpipe init" in capsys.readouterr().err
    assert list(tmp_path.iterdir()) == []


def run_typed(*words: str, folder: Path) -> subprocess.Popen[str]:
    """Start a command in a folder."""
    environment = {name: value for name, value in os.environ.items() if name != "MLPIPE_PROJECT"}
    return subprocess.Popen(
        [sys.executable, "-m", "mlpipe_dagster.cli", *words],
        cwd=folder,
        env=environment,
        stdout=subprocess.PIPE,
        stderr=subprocess.STDOUT,
        text=True,
    )


def test_exit_status_is_that_of_the_program(tmp_path: Path) -> None:
    """`mlpipe status` fails where no stack runs, and writes nothing."""
    new_project(tmp_path)
    with run_typed("status", folder=tmp_path) as typed:
        told, _ = typed.communicate(timeout=60)
    assert typed.returncode == 1
    assert "`mlpipe up` starts it" in told
    assert not (tmp_path / ".mlpipe").exists()


def test_interrupt_reaches_the_program(tmp_path: Path) -> None:
    """Ctrl-C ends the command with the program's own message and status."""
    new_project(tmp_path)
    lock = tmp_path / ".mlpipe" / "stack" / "lock"
    lock.parent.mkdir(parents=True)
    holder = (
        "import fcntl, sys, time; f = open(sys.argv[1], 'w'); fcntl.flock(f, 2); "
        "print('held', flush=True); time.sleep(60)"
    )
    with subprocess.Popen(
        [sys.executable, "-c", holder, str(lock)], stdout=subprocess.PIPE, text=True
    ) as held:
        assert held.stdout is not None
        held.stdout.readline()
        with run_typed("up", folder=tmp_path) as typed:
            assert typed.stdout is not None
            assert "Waiting for another command" in typed.stdout.readline()
            typed.send_signal(signal.SIGINT)
            told, _ = typed.communicate(timeout=60)
        held.kill()
    assert typed.returncode == 130
    assert "interrupted" in told
