"""`make dev` accepts a port for Dagster's UI."""

from __future__ import annotations

import os
import subprocess
from pathlib import Path
from typing import Any

import pytest

from infra.local.stack import dagster_service
from infra.local.stack.dagster_service import DagsterService, running_dagster
from infra.local.supervision.stack_state import StackDirectory, StackError
from tests.projects import EXAMPLE

ROOT = Path(__file__).resolve().parents[3]


def test_requested_port_is_used(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    """Dagster serves on the requested port; a taken port is an error and is not replaced by another."""

    def started(*arguments: Any) -> DagsterService:
        return DagsterService(f"http://127.0.0.1:{arguments[-1]}", tmp_path / "log", None)

    monkeypatch.setattr(dagster_service, "_start", started)
    monkeypatch.setattr(dagster_service, "port_is_free", lambda port: port != 3457)
    directory = StackDirectory(tmp_path)
    with running_dagster(directory, EXAMPLE, {}, say=print, port=3456) as service:
        assert service.url == "http://127.0.0.1:3456"
    with (
        pytest.raises(StackError, match="Port 3457 is taken"),
        running_dagster(directory, EXAMPLE, {}, say=print, port=3457),
    ):
        pass


def test_make_dev_passes_port_argument() -> None:
    """`make dev PORT=n` passes the port; a PORT environment variable is ignored."""
    environment = {**os.environ, "PORT": "8080"}
    environment.pop("MAKEFLAGS", None)
    for arguments, command in (
        (["PORT=3456"], "mlpipe dev --port 3456"),
        ([], "mlpipe dev"),
    ):
        printed = subprocess.run(
            ["make", "--dry-run", "--no-print-directory", "dev", *arguments],
            cwd=ROOT,
            env=environment,
            capture_output=True,
            text=True,
            check=True,
        )
        assert printed.stdout.rstrip().endswith(command)
