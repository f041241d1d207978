"""Tests of finding a project and validating its `[tool.mlpipe]` table."""

from __future__ import annotations

import subprocess
from typing import TYPE_CHECKING

import pytest

from model_declaration.project import Project, ProjectError, ProjectService
from tests.projects import EXAMPLE, new_project

if TYPE_CHECKING:
    from pathlib import Path

SERVICE = '[[tool.mlpipe.services]]\nname = "weather"\nmodule = "acme.weather"\n'


def project_with_settings(root: Path, settings: str) -> Path:
    """Write a project with these lines in its [tool.mlpipe] table, and return its folder."""
    made = new_project(root)
    marker = made.root / "pyproject.toml"
    marker.write_text(f"{marker.read_text()}\n{settings}\n")
    return made.root


def test_project_is_found_by_variable_or_parent_folders(tmp_path: Path) -> None:
    """MLPIPE_PROJECT takes precedence over the folder that a command runs in."""
    here, there = new_project(tmp_path / "here"), new_project(tmp_path / "there", "other")
    assert Project.find({}, here.defs).root == here.root
    named = Project.find({"MLPIPE_PROJECT": str(there.root)}, here.defs)
    assert (named.root, named.package, named.location_name) == (there.root, "other", "other")


def test_repository_root_points_to_its_project(tmp_path: Path) -> None:
    """A repository's root finds the project it names, but does not follow a second reference."""
    made = new_project(tmp_path / "teams" / "acme")
    (tmp_path / "pyproject.toml").write_text('[tool.mlpipe]\nproject = "teams/acme"\n')
    assert Project.find({}, tmp_path) == Project.find({}, made.root) == made
    (tmp_path / "teams" / "pyproject.toml").write_text('[tool.mlpipe]\nproject = ".."\n')
    with pytest.raises(ProjectError, match="names yet another project"):
        Project.at(tmp_path / "teams")


def test_error_outside_a_project_says_what_to_do(tmp_path: Path) -> None:
    """Outside a project, or with a pyproject.toml without the table, the error says what to do."""
    (tmp_path / "pyproject.toml").write_text("[tool.other]\n")
    with pytest.raises(ProjectError, match="mlpipe init"):
        Project.find({}, tmp_path)
    with pytest.raises(ProjectError, match=r"has no table \[tool.mlpipe\]"):
        Project.find({"MLPIPE_PROJECT": str(tmp_path)}, tmp_path)


def test_example_declares_a_service_and_sample_data() -> None:
    """The example's pyproject.toml names its weather service and its sample data."""
    assert EXAMPLE.services == (ProjectService("weather", "flights.weather_service"),)
    assert EXAMPLE.sample_data == "flights.sample_data:objects"


@pytest.mark.parametrize(
    ("settings", "told"),
    [
        ('sampledata = "a:b"', r"\[tool.mlpipe\] sampledata: unknown setting"),
        ('sample_data = "acme.sample_data"', "sample_data: 'acme.sample_data' does not name an object"),
        ("requires = 1", "requires: it is not a text"),
        ("services = 5", r"services: write each service as \[\[tool.mlpipe.services\]\]"),
        ('[[tool.mlpipe.services]]\nname = "Weather"\nmodule = "a"', "services: each service needs a name"),
        ('[[tool.mlpipe.services]]\nname = "weather"', "services: each service needs a name"),
        ('[[tool.mlpipe.services]]\nname = "weather"\nmodule = "-c"', "services: each service needs a name"),
        ('sample_data = "acme..sample_data:objects"', "sample_data: 'acme..sample_data:objects' does not"),
        (
            '[[tool.mlpipe.services]]\nname = "aws"\nmodule = "a"',
            "services: the platform itself uses the name aws",
        ),
        (
            '[[tool.mlpipe.services]]\nname = "token"\nmodule = "a"',
            "services: the platform itself uses the name token",
        ),
        (f"{SERVICE}{SERVICE}", "services: two services have the same name"),
    ],
)
def test_invalid_setting_is_named(tmp_path: Path, settings: str, told: str) -> None:
    """An invalid setting of [tool.mlpipe] is refused with its name."""
    with pytest.raises(ProjectError, match=told):
        Project.at(project_with_settings(tmp_path / "acme", settings))


def test_git_ignores_the_state_folder(tmp_path: Path) -> None:
    """Git ignores the state folder without an entry in the repository's .gitignore."""
    made = new_project(tmp_path)
    (made.make_state_folder() / "stack").mkdir()
    (made.stack_folder / "secret").touch()
    assert made.make_state_folder() == tmp_path / ".mlpipe"
    subprocess.run(["git", "init", "-q", str(tmp_path)], check=True)
    listed = ["git", "-C", str(tmp_path), "status", "--porcelain", "--untracked-files=all"]
    assert ".mlpipe" not in subprocess.check_output(listed, text=True)


@pytest.mark.parametrize("package", ["infra", "sagemaker_scripts", "prediction_contract", "mlpipe"])
def test_package_name_of_the_platform_is_refused(tmp_path: Path, package: str) -> None:
    """A project package with a platform package's name is refused, since it would replace it in jobs."""
    with pytest.raises(ProjectError, match=f"root_module: {package} is one of the platform's own packages"):
        new_project(tmp_path, package)


def test_folder_with_colon_is_refused(tmp_path: Path) -> None:
    """A project folder with a colon is refused, since it cannot be on Python's path."""
    with pytest.raises(ProjectError, match=r"holds ':'.* Move the project"):
        new_project(tmp_path / "a:b")


def test_unwritable_state_folder_error_says_what_to_do(tmp_path: Path) -> None:
    """The error for a state folder that cannot be created says what to do."""
    made = new_project(tmp_path)
    made.state_folder.touch()
    with pytest.raises(ProjectError, match=r"\.mlpipe cannot be written: File exists. Make the folder"):
        made.make_state_folder()


@pytest.mark.parametrize(
    "settings", ["[tool]\ndg = 5", "[tool.dg]\nproject = 5", "[tool.dg.project]\nroot_module = 5"]
)
def test_project_without_package_is_refused(tmp_path: Path, settings: str) -> None:
    """A project without a valid root_module is refused, whatever type its tables have."""
    (tmp_path / "pyproject.toml").write_text(f"{settings}\n[tool.mlpipe]\n")
    with pytest.raises(ProjectError, match="names no package as root_module"):
        Project.at(tmp_path)
