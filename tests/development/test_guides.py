"""The guides show tested files, and each of their commands is run by a test."""

from __future__ import annotations

import os
import shlex
import shutil
import subprocess
import sys
from pathlib import Path
from typing import TYPE_CHECKING

import pytest

from tests.development.copied_projects import PROJECTS, ROOT
from tests.development.guide_pages import GUIDES, GuidePage, file_of

if TYPE_CHECKING:
    from collections.abc import Iterator

# The maximum number of lines that a person writes for each model.
_MOST_LINES = {"demand": 60, "dock_load": 60, "churn": 25}
# It needs a bucket and the AWS CLI; `mlpipe data` uploads the same files.
_NOT_RUN = ("aws s3 cp ",)
# Commands of the other pages by their first words, and the test that runs each of them.
_RUN_BY = {
    "dg scaffold defs": "wiring/test_created_project.py",
    "mlpipe try": "development/test_trials.py",
    "mlpipe check": "development/test_project_check.py",
    "mlpipe up": "end_to_end/test_first_models.py",
    "mlpipe data": "end_to_end/test_first_models.py",
    "dagster asset materialize": "end_to_end/test_first_models.py",
    "dg launch": "end_to_end/test_first_models.py",
    "mlpipe load": "end_to_end/test_first_models.py",
    "mlpipe batches": "dagster/cli/test_cli_documents.py",
}
# Commands of a shell, an HTTP client and AWS.
_OF_OTHERS = ("set -a;", "curl ", "aws sagemaker ", "  --")
_PROGRAMS = Path(sys.executable).parent


@pytest.mark.parametrize("name", GUIDES)
def test_guide_shows_the_tested_files(name: str) -> None:
    """Readers copy exactly the files that the tests run."""
    page = GuidePage.read(name)
    assert {path for path in page.files if path.endswith("defs.yaml")}
    assert {path: file_of(path).read_text(encoding="utf-8") for path in page.files} == page.files


def test_guides_show_complete_models() -> None:
    """The guides leave out no file of a model, so the models run as shown."""
    shown = {file_of(path) for name in GUIDES for path in GuidePage.read(name).files}
    defs = PROJECTS / "bikes" / "src" / "bikes" / "defs"
    written = {path for path in defs.glob("*/*") if path.suffix in {".py", ".yaml"}}
    assert written | set((PROJECTS / "bikes" / "requirements").glob("*.in")) == shown


@pytest.mark.parametrize("model", _MOST_LINES)
def test_model_needs_few_lines(model: str) -> None:
    """A model's declaration, functions and requirements stay below its line limit."""
    files = [
        path for path in (PROJECTS / "bikes" / "src" / "bikes" / "defs" / model).iterdir() if path.is_file()
    ]
    family = {"demand": "boosting", "dock_load": "polars", "churn": "churn"}[model]
    files.append(PROJECTS / "bikes" / "requirements" / f"{family}.in")
    lines = [line for path in files for line in path.read_text(encoding="utf-8").splitlines() if line.strip()]
    assert len(lines) <= _MOST_LINES[model]


@pytest.fixture
def clean_project(tmp_path: Path) -> Iterator[Path]:
    """A new project of `mlpipe init`, with the guides' sample data added to its own."""
    run("mlpipe init acme", tmp_path)
    package = tmp_path / "acme" / "src" / "acme"
    own = package / "sample_data.py"
    own.rename(package / "orders_data.py")
    bikes = PROJECTS / "bikes" / "src" / "bikes"
    shutil.copy(bikes / "sample_data.py", package / "bikes_data.py")
    for name in ("churn.ubj", "customers.parquet"):
        shutil.copy(bikes / name, package)
    own.write_text(
        "from acme import bikes_data, orders_data\n\n\n"
        "def objects():\n    yield from orders_data.objects()\n    yield from bikes_data.objects()\n"
    )
    yield tmp_path / "acme"
    # Only the environments are large, and they link into the package cache.
    shutil.rmtree(tmp_path / "acme" / ".mlpipe", ignore_errors=True)


def run(command: str, folder: Path) -> str:
    """Run a command as a person types it, and return what it printed."""
    path = f"{_PROGRAMS}{os.pathsep}{os.environ['PATH']}"
    outer = ("MLPIPE_PROJECT", "PYTHONPATH")
    environment = {name: value for name, value in os.environ.items() if name not in outer}
    done = subprocess.run(
        shlex.split(command),
        cwd=folder,
        env={**environment, "PATH": path},
        capture_output=True,
        text=True,
        timeout=300,
        check=False,
    )
    assert done.returncode == 0, f"{command}\n{done.stdout}\n{done.stderr}"
    return done.stdout


@pytest.mark.slow
@pytest.mark.timeout(900)
@pytest.mark.parametrize("name", GUIDES)
def test_guide_can_be_followed_in_a_new_project(name: str, clean_project: Path) -> None:
    """A reader who writes the files and runs the commands gets a model that can be tried."""
    page = GuidePage.read(name)
    for path, content in page.files.items():
        target = clean_project / path
        target.parent.mkdir(parents=True, exist_ok=True)
        target.write_text(content, encoding="utf-8")
    commands = [each for each in page.commands if not each.startswith(_NOT_RUN)]
    assert {shlex.split(each)[1] for each in commands} == {"lock", "try", "check"}
    printed = {each: run(each, clean_project) for each in commands}
    [tried] = [text for command, text in printed.items() if command.startswith("mlpipe try")]
    assert "rows that would be quarantined\nnone" in tried


@pytest.mark.parametrize("name", ["project", "adding-a-model"])
def test_each_command_of_other_pages_is_run_by_a_test(name: str) -> None:
    """A new command on these pages needs an entry that names its test."""
    for command in GuidePage.read(name).commands:
        if command.startswith(_OF_OTHERS):
            continue
        [(words, test)] = [each for each in _RUN_BY.items() if command.startswith(each[0])]
        content = (ROOT / "tests" / test).read_text(encoding="utf-8")
        assert all(f'"{word}"' in content for word in words.split()[1:]), (command, test)
