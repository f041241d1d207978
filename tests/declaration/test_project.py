"""A project is found by its marker, and its errors say which file and member is wrong."""

from __future__ import annotations

import subprocess
from pathlib import Path

import pytest

from model_declaration.project import Project, ProjectError, job_files
from tests.projects import new_project


def test_a_project_is_found_upwards_unless_it_is_named(tmp_path: Path) -> None:
    """From any folder below; the environment goes before the folder."""
    here, there = (new_project(tmp_path / name, name) for name in ("acme", "other"))
    assert Project.find({}, here.defs).root == here.root
    assert Project.find({"MLPIPE_PROJECT": str(there.root)}, here.defs).package == "other"


def test_without_a_project_the_error_says_what_to_do(tmp_path: Path) -> None:
    """A marker of another tool is none."""
    (tmp_path / "pyproject.toml").write_text("[tool.other]\n")
    with pytest.raises(ProjectError, match=r"is a project.*mlpipe init"):
        Project.find({}, tmp_path)
    with pytest.raises(ProjectError, match=r"has no table \[tool.mlpipe\]"):
        Project.find({"MLPIPE_PROJECT": str(tmp_path)}, tmp_path)


def test_a_repository_names_the_folder_of_its_project(tmp_path: Path) -> None:
    """Once: the named one names no other."""
    made = new_project(tmp_path / "examples" / "acme")
    marker = tmp_path / "pyproject.toml"
    marker.write_text('[tool.mlpipe]\nproject = "examples/acme"\n')
    assert Project.find({}, tmp_path) == made
    (tmp_path / "examples" / "pyproject.toml").write_text('[tool.mlpipe]\nproject = "acme"\n')
    marker.write_text('[tool.mlpipe]\nproject = "examples"\n')
    with pytest.raises(ProjectError, match="names another project in its turn"):
        Project.find({}, tmp_path)


def test_the_package_lies_below_src_or_beside_the_marker(tmp_path: Path) -> None:
    """As Dagster's own projects have it; what they call their location is taken from them."""
    made = new_project(tmp_path / "acme")
    assert (made.package_folder, made.location_name) == (made.root / "src" / "acme", "acme")
    (made.root / "src" / "acme").rename(made.root / "acme")
    marker = made.root / "pyproject.toml"
    marker.write_text(
        marker.read_text().replace(
            '"acme"\n\n[tool.mlpipe]', '"acme"\ncode_location_name = "shop"\n\n[tool.mlpipe]'
        )
    )
    moved = Project.at(made.root)
    assert (moved.package_folder, moved.location_name) == (made.root / "acme", "shop")
    assert moved.functions_package("churn") == "acme.defs.churn"


@pytest.mark.parametrize(
    ("table", "told"),
    [
        ("colour = 1", r"\[tool.mlpipe\] colour: it is none of "),
        ('sample_data = "acme"', "sample_data: 'acme' does not name an object"),
        ("requires = 1", "requires: it is no text"),
        ('[[tool.mlpipe.services]]\nname = "Stock"\nmodule = "acme.stock"', "services: "),
    ],
)
def test_a_wrong_member_is_told_with_its_file(tmp_path: Path, table: str, told: str) -> None:
    """And nothing of the project is used."""
    marker = new_project(tmp_path / "acme").root / "pyproject.toml"
    marker.write_text(f"{marker.read_text()}{table}\n")
    with pytest.raises(ProjectError, match=f"{marker}.*{told}"):
        Project.at(marker.parent)


def test_a_package_that_is_missing_is_named(tmp_path: Path) -> None:
    """Dagster's table is read, and the folder is looked for."""
    made = new_project(tmp_path / "acme")
    (made.package_folder / "__init__.py").unlink()
    with pytest.raises(ProjectError, match="has no package acme"):
        Project.at(made.root)
    (made.root / "pyproject.toml").write_text("[tool.mlpipe]\n")
    with pytest.raises(ProjectError, match="names no package as root_module"):
        Project.at(made.root)


def test_jobs_get_what_they_may_import(tmp_path: Path) -> None:
    """Functions and modules beside them; not what Dagster alone reads, tests, or what git ignores."""
    made = new_project(tmp_path / "acme")
    model = made.defs / "churn"
    for path in (
        *(model / name for name in ("defs.yaml", "train.py", "notes.txt", "tests/test_train.py")),
        *(made.package_folder / name for name in ("readers.py", "scratch/dump.csv", "__pycache__/x.pyc")),
    ):
        path.parent.mkdir(parents=True, exist_ok=True)
        path.write_text("")
    kept = {"acme/__init__.py", "acme/defs/__init__.py", "acme/readers.py"}
    kept |= {f"acme/defs/churn/{name}" for name in ("train.py", "notes.txt")}
    assert set(job_files(made.package_folder)) == kept | {"acme/scratch/dump.csv"}
    subprocess.run(["git", "init", "--quiet", str(made.root)], check=True, timeout=60)
    (made.root / ".gitignore").write_text("scratch/\n")
    assert set(job_files(made.package_folder)) == kept
    (made.root / ".gitignore").write_text("*\n")
    assert set(job_files(made.package_folder)) == kept | {"acme/scratch/dump.csv"}
