"""A service of a project runs on its stack like any other component, from wherever the project lies."""

from __future__ import annotations

import os
import signal
import urllib.request
from typing import TYPE_CHECKING

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
    """A project that is not installed, with a service, as commands find it."""
    made = new_project(tmp_path / "acme")
    marker = made.root / "pyproject.toml"
    service = '\n[[tool.mlpipe.services]]\nname = "echo"\nmodule = "acme.echo"\n'
    marker.write_text(f"{marker.read_text()}{service}")
    (made.package_folder / "echo.py").write_text(_SERVICE)
    monkeypatch.setenv("MLPIPE_PROJECT", str(made.root))
    return type(made).at(made.root)


def test_services_come_after_the_servers_of_any_stack(project: Project, tmp_path: Path) -> None:
    """They see the project's package and none of the caller's environment."""
    assert component_names(project) == ("aws", "snowflake", "jobs", "echo")
    (echo,) = build_components(StackDirectory(tmp_path), project, {"echo": 4321})
    assert echo.folder == project.root
    assert echo.environment["PYTHONPATH"] == str(project.source_folder)
    assert "PYTEST_CURRENT_TEST" not in echo.environment


def test_a_folder_that_snowflakes_stand_in_cannot_name_is_told_before_anything_starts(
    project: Project, tmp_path: Path
) -> None:
    """Its databases are attached by a path in quotes."""
    directory = StackDirectory(tmp_path / "team's")
    with pytest.raises(StackError, match=r"team's: its path contains a '\. Move the project"):
        StackControl(directory, tmp_path / ".env", project, say=print).up()
    assert not directory.root.exists()


@pytest.mark.stack
@pytest.mark.usefixtures("project")
def test_a_service_is_started_watched_and_stopped(new_stack: Callable[..., StackRun], tmp_path: Path) -> None:
    """It is ready when it answers, its death is told with what to do, and `down` ends it."""
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


@pytest.mark.usefixtures("project")
def test_a_component_that_the_project_lacks_is_told(tmp_path: Path) -> None:
    """With the names of those that it has."""
    done = StackRun(tmp_path / "state", ("weather",)).run("up")
    assert done.returncode == 1
    assert "There is no component weather. Choose one of aws, snowflake, jobs, echo." in done.stdout
