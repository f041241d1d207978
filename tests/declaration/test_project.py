"""A project is found in one way, and its marker is judged member by member."""

from __future__ import annotations

import subprocess
from typing import TYPE_CHECKING

import pytest

from model_declaration.project import Project, ProjectError, ProjectService
from tests.projects import EXAMPLE, new_project

if TYPE_CHECKING:
    from pathlib import Path

SERVICE = '[[tool.mlpipe.services]]\nname = "weather"\nmodule = "acme.weather"\n'


def marked(root: Path, settings: str) -> Path:
    """Write a project whose table [tool.mlpipe] holds these lines, and return its folder."""
    made = new_project(root)
    marker = made.root / "pyproject.toml"
    marker.write_text(f"{marker.read_text()}\n{settings}\n")
    return made.root


def test_a_project_is_found_upwards_or_named(tmp_path: Path) -> None:
    """The variable goes before the folder that a command runs in."""
    here, there = new_project(tmp_path / "here"), new_project(tmp_path / "there", "other")
    assert Project.find({}, here.defs).root == here.root
    named = Project.find({"MLPIPE_PROJECT": str(there.root)}, here.defs)
    assert (named.root, named.package, named.location_name) == (there.root, "other", "other")


def test_a_repository_names_the_folder_of_its_project(tmp_path: Path) -> None:
    """From its root as from the project's own folder it is the same project; one step, no more."""
    made = new_project(tmp_path / "teams" / "acme")
    (tmp_path / "pyproject.toml").write_text('[tool.mlpipe]\nproject = "teams/acme"\n')
    assert Project.find({}, tmp_path) == Project.find({}, made.root) == made
    (tmp_path / "teams" / "pyproject.toml").write_text('[tool.mlpipe]\nproject = ".."\n')
    with pytest.raises(ProjectError, match="names yet another project"):
        Project.at(tmp_path / "teams")


def test_outside_of_any_project_the_error_says_what_to_do(tmp_path: Path) -> None:
    """A marker without the table is none."""
    (tmp_path / "pyproject.toml").write_text("[tool.other]\n")
    with pytest.raises(ProjectError, match="mlpipe init"):
        Project.find({}, tmp_path)
    with pytest.raises(ProjectError, match=r"has no table \[tool.mlpipe\]"):
        Project.find({"MLPIPE_PROJECT": str(tmp_path)}, tmp_path)


def test_the_example_brings_a_service_and_sample_data() -> None:
    """Both are named in its marker."""
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
def test_a_fault_is_told_with_its_member(tmp_path: Path, settings: str, told: str) -> None:
    """File, table and member are named."""
    with pytest.raises(ProjectError, match=told):
        Project.at(marked(tmp_path / "acme", settings))


def test_git_ignores_what_the_platform_writes(tmp_path: Path) -> None:
    """Also in a repository whose own .gitignore says nothing of it."""
    made = new_project(tmp_path)
    (made.make_state_folder() / "stack").mkdir()
    (made.stack_folder / "secret").touch()
    assert made.make_state_folder() == tmp_path / ".mlpipe"
    subprocess.run(["git", "init", "-q", str(tmp_path)], check=True)
    listed = ["git", "-C", str(tmp_path), "status", "--porcelain", "--untracked-files=all"]
    assert ".mlpipe" not in subprocess.check_output(listed, text=True)


@pytest.mark.parametrize("package", ["infra", "sagemaker_scripts", "prediction_contract", "mlpipe"])
def test_a_package_that_is_called_like_one_of_the_platforms_is_refused(tmp_path: Path, package: str) -> None:
    """Its files would take the place of the platform's in the jobs' code."""
    with pytest.raises(ProjectError, match=f"root_module: {package} is one of the platform's own packages"):
        new_project(tmp_path, package)


def test_a_folder_that_pythons_path_cannot_hold_is_refused(tmp_path: Path) -> None:
    """Jobs and the local stack would not find the package."""
    with pytest.raises(ProjectError, match=r"holds ':'.* Move the project"):
        new_project(tmp_path / "a:b")


def test_a_state_folder_that_cannot_be_written_is_named(tmp_path: Path) -> None:
    """The message says what to make of it."""
    made = new_project(tmp_path)
    made.state_folder.touch()
    with pytest.raises(ProjectError, match=r"\.mlpipe cannot be written: File exists. Make the folder"):
        made.make_state_folder()


@pytest.mark.parametrize(
    "settings", ["[tool]\ndg = 5", "[tool.dg]\nproject = 5", "[tool.dg.project]\nroot_module = 5"]
)
def test_a_project_without_a_package_is_named(tmp_path: Path, settings: str) -> None:
    """Whatever stands in the place of its tables."""
    (tmp_path / "pyproject.toml").write_text(f"{settings}\n[tool.mlpipe]\n")
    with pytest.raises(ProjectError, match="names no package as root_module"):
        Project.at(tmp_path)
