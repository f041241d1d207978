"""A project's own service runs on its stack like any other component, wherever the project is stored."""

from __future__ import annotations

import os
import signal
import urllib.request
from typing import TYPE_CHECKING

import psutil
import pytest

from infra.local.stack.stack_control import StackControl
from infra.local.supervision.components import build_components, component_names
from infra.local.supervision.stack_state import StackDirectory, StackError
from tests.projects import new_project
from tests.stack_runs import StackRun, wait_until

if TYPE_CHECKING:
    from collections.abc import Callable
    from pathlib import Path

    from model_declaration.project import Project

_SERVICE = """
import argparse
import http.server
import os

import acme

parser = argparse.ArgumentParser()
parser.add_argument("--port", type=int, required=True)


class Handler(http.server.BaseHTTPRequestHandler):
    def do_GET(self):
        self.send_response(200)
        self.end_headers()
        self.wfile.write(f"{os.getcwd()} {os.environ['MLPIPE_PROJECT']}".encode())


http.server.HTTPServer(("127.0.0.1", parser.parse_args().port), Handler).serve_forever()
"""


@pytest.fixture
def project(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> Project:
    """A project with a service that is not installed, as commands find it."""
    made = new_project(tmp_path / "acme")
    marker = made.root / "pyproject.toml"
    service = '\n[[tool.mlpipe.services]]\nname = "echo"\nmodule = "acme.echo"\n'
    marker.write_text(f"{marker.read_text()}{service}")
    (made.package_folder / "echo.py").write_text(_SERVICE)
    monkeypatch.setenv("MLPIPE_PROJECT", str(made.root))
    return type(made).at(made.root)


def test_services_follow_the_standard_components(project: Project, tmp_path: Path) -> None:
    """A service sees the project's package and not the caller's environment."""
    assert component_names(project) == ("aws", "snowflake", "jobs", "echo")
    (echo,) = build_components(StackDirectory(tmp_path), project, {"echo": 4321})
    assert echo.folder == project.root
    assert echo.environment["PYTHONPATH"] == str(project.source_folder)
    assert "PYTEST_CURRENT_TEST" not in echo.environment


def test_folder_with_quote_is_refused_before_start(project: Project, tmp_path: Path) -> None:
    """The local Snowflake attaches databases by a quoted path, so a quote in it cannot work."""
    directory = StackDirectory(tmp_path / "team's")
    with pytest.raises(StackError, match=r"team's: its path contains a '\. Move the project"):
        StackControl(directory, tmp_path / ".env", project, say=print).up()
    assert not directory.root.exists()


@pytest.mark.stack
@pytest.mark.usefixtures("project")
def test_killed_service_is_reported_and_restarted(new_stack: Callable[..., StackRun], tmp_path: Path) -> None:
    """A service answers after `up`, its death is reported with a remedy, and `down` ends it."""
    run = new_stack("echo")
    assert "echo" in run.up()
    component = run.components()["echo"]
    root = tmp_path / "acme"
    address = f"http://127.0.0.1:{component['port']}/health"
    opener = urllib.request.build_opener(urllib.request.ProxyHandler({}))
    with opener.open(address, timeout=30) as answer:
        assert answer.read().decode() == f"{root} {root}"
    os.kill(component["pid"], signal.SIGKILL)
    wait_until(lambda: run.components()["echo"]["state"] == "dead", seconds=10, what="its death is noticed")
    assert "`mlpipe up` restarts it" in run.run("status").stdout
    assert "Lost: its data in memory" in run.up()
    restarted = run.components()["echo"]["pid"]
    assert psutil.pid_exists(restarted)
    run.down()
    assert not psutil.pid_exists(restarted)
    assert run.components()["echo"]["state"] == "stopped"


@pytest.mark.usefixtures("project")
def test_unknown_component_is_refused(tmp_path: Path) -> None:
    """The error lists the components that the project has."""
    done = StackRun(tmp_path / "state", ("weather",)).run("up")
    assert done.returncode == 1
    assert "There is no component weather. Choose one of aws, snowflake, jobs, echo." in done.stdout
