"""Tests that a project's tests run in the environment of the model that they test."""

from __future__ import annotations

import os
import subprocess
import sys
from typing import TYPE_CHECKING

import pytest

from infra.environments.project_tests import NoTestsError, groups_of_tests
from infra.packaging import PLATFORM
from model_declaration.project import Project
from tests.infra.environments.small_locks import write_stale_lock
from tests.projects import new_project

if TYPE_CHECKING:
    from pathlib import Path

_SECONDS = 240
TIDES = """
import sys

def test_where_it_runs():
    import pandas, acme, acme.defs.tides.predict
    assert open(".mlpipe/sample_data/raw/tides.csv").read() == "high"
    assert "environments" in sys.prefix
    assert "dagster" not in sys.modules

def test_that_fails():
    assert False, "on purpose"
"""
OTHER = """
import sys

def test_where_it_runs():
    import acme
    assert sys.executable == {python!r}
"""


@pytest.fixture
def project(tmp_path: Path) -> Project:
    """Return a project of two models, one with its own requirements, and three test files."""
    made = new_project(tmp_path / "acme")
    for model, more in (("tides", ""), ("waves", "  requirements: boosting\n")):
        folder = made.defs / model
        folder.mkdir()
        (folder / "defs.yaml").write_text(f"type: mlpipe.PredictionPipeline\nattributes:\n  a: b\n{more}")
        (folder / "predict.py").touch()
    generator = "def objects():\n    yield 'raw/tides.csv', b'high'\n"
    (made.package_folder / "sample_data.py").write_text(generator)
    with (made.root / "pyproject.toml").open("a") as marker:
        marker.write('sample_data = "acme.sample_data:objects"\n')
    made = Project.at(made.root)
    tests = made.root / "tests"
    tests.mkdir()
    (tests / "test_tides.py").write_text(TIDES)
    (tests / "test_waves.py").write_text("")
    (tests / "test_declarations.py").write_text(OTHER.format(python=sys.executable))
    return made


def test_tests_are_grouped_by_model_requirements(project: Project) -> None:
    """Tests of a model run with its requirements or the base of all jobs, and others with the platform."""
    tests = project.root / "tests"
    assert [(group.family, group.selected) for group in groups_of_tests(project, [])] == [
        (None, (str(tests / "test_declarations.py"),)),
        ("base", (str(tests / "test_tides.py"),)),
        ("boosting", (str(tests / "test_waves.py"),)),
    ]
    named = f"{tests / 'test_waves.py'}::test_a"
    assert [group.selected for group in groups_of_tests(project, [named])] == [(named,)]


def test_project_without_tests_is_an_error(project: Project) -> None:
    """A project without tests is reported instead of passing."""
    for file in (project.root / "tests").iterdir():
        file.unlink()
    with pytest.raises(NoTestsError, match="There are no tests in"):
        groups_of_tests(project, [])


def run_tests(project: Project, *arguments: str) -> subprocess.CompletedProcess[str]:
    """Run a project's tests as the command does."""
    return subprocess.run(
        [sys.executable, "-m", "infra.environments.project_tests", *arguments],
        cwd=PLATFORM,
        env={**os.environ, "MLPIPE_PROJECT": str(project.root)},
        stdout=subprocess.PIPE,
        stderr=subprocess.STDOUT,
        text=True,
        timeout=_SECONDS,
        check=False,
    )


@pytest.mark.timeout(600)
def test_each_test_runs_in_its_environment(project: Project) -> None:
    """Each test runs in its model's environment, failures fail the command, and options reach pytest."""
    (project.root / "tests" / "test_waves.py").unlink()
    done = run_tests(project, "-q")
    assert done.returncode == 1
    assert "on purpose" in done.stdout
    assert "1 failed, 1 passed" in done.stdout
    done = run_tests(project, "-q", "-k", "where_it_runs")
    assert done.returncode == 0, done.stdout
    done = run_tests(project, str(project.root / "tests" / "test_tides.py"), "-k", "where_it_runs")
    assert done.returncode == 0, done.stdout
    assert "platform" not in done.stdout.splitlines()[0]
    # The program runs in the platform's folder, which has a subfolder of this name.
    done = run_tests(project, "-k", "infra")
    assert done.returncode == 5, done.stdout


def test_missing_or_stale_lock_is_reported(project: Project) -> None:
    """If a model's requirements are missing or not locked again, the message names file and command."""
    waves = str(project.root / "tests" / "test_waves.py")
    done = run_tests(project, waves)
    assert done.returncode == 1
    assert "requirements/boosting.in does not exist" in done.stdout
    assert "`mlpipe lock`" in done.stdout
    write_stale_lock(project, "boosting")
    done = run_tests(project, waves)
    assert done.returncode == 1
    assert "boosting.lock is out of date: boosting.in has changed" in done.stdout
    assert "`mlpipe lock boosting`" in done.stdout
