"""Sample data: the objects that a project's generator yields are stored in a folder like the bucket's."""

from __future__ import annotations

from typing import TYPE_CHECKING

import pytest

from model_declaration.project import Project
from model_declaration.sample_data import SampleDataError, sample_data_folder

if TYPE_CHECKING:
    from pathlib import Path

_MARKER = """
[project]
name = "acme"

[tool.dg.project]
root_module = "acme"

[tool.mlpipe]
sample_data = "acme.sample_data:objects"
"""


def project_with(root: Path, generator: str) -> Project:
    """Return a project whose sample data module has this text."""
    package = root / "src" / "acme"
    package.mkdir(parents=True)
    (root / "pyproject.toml").write_text(_MARKER)
    (package / "__init__.py").touch()
    (package / "sample_data.py").write_text(generator)
    return Project.at(root)


def files(folder: Path) -> dict[str, bytes]:
    """Return the files below a folder by key."""
    return {
        path.relative_to(folder).as_posix(): path.read_bytes() for path in folder.rglob("*") if path.is_file()
    }


def test_objects_are_stored_under_their_keys(tmp_path: Path) -> None:
    """Each object is written to the file of its key below the project's state folder."""
    project = project_with(
        tmp_path, "def objects():\n    yield 'raw/orders/dt=2013-02-01/a.csv', b'id\\n1\\n'\n"
    )
    folder = sample_data_folder(project)
    assert folder == tmp_path / ".mlpipe" / "sample_data"
    assert files(folder) == {"raw/orders/dt=2013-02-01/a.csv": b"id\n1\n"}


def test_unchanged_generators_do_not_run_again(tmp_path: Path) -> None:
    """Sample data is generated again only when the project's code has changed."""
    project = project_with(tmp_path, "def objects():\n    yield 'a', b'1'\n")
    (sample_data_folder(project) / "a").write_bytes(b"kept")
    assert files(sample_data_folder(project)) == {"a": b"kept"}
    (project.package_folder / "sample_data.py").write_text("def objects():\n    yield 'b', b'2'\n")
    assert files(sample_data_folder(project)) == {"b": b"2"}


def test_generators_may_take_as_of(tmp_path: Path) -> None:
    """A generator with an `as_of` argument gets the partition, and its data is kept apart."""
    project = project_with(tmp_path, "def objects(as_of=None):\n    yield 'a', str(as_of).encode()\n")
    assert files(sample_data_folder(project)) == {"a": b"None"}
    assert files(sample_data_folder(project, as_of="2013-02-01")) == {"a": b"2013-02-01"}
    assert files(sample_data_folder(project)) == {"a": b"None"}


@pytest.mark.parametrize(
    ("generator", "told"),
    [
        ("def objects():\n    yield '../a', b''\n", "'../a' is not an object key"),
        ("def objects():\n    yield '/a', b''\n", "'/a' is not an object key"),
        ("def objects():\n    yield 'a', 'text'\n", "the content of a is str instead of bytes"),
        ("def objects():\n    yield 'a', b''\n    yield 'a', b''\n", "a was yielded twice"),
        ("def others(): ...\n", "acme.sample_data has no function objects"),
        ("def objects():\n    return 1 / 0\n", "sample_data.py:2 in objects"),
    ],
)
def test_error_names_the_generator(tmp_path: Path, generator: str, told: str) -> None:
    """An error of a generator names it and its line, and leaves no folder."""
    project = project_with(tmp_path, generator)
    with pytest.raises(SampleDataError, match=r"Correct acme\.sample_data:objects") as caught:
        sample_data_folder(project)
    assert told in str(caught.value)
    assert [path.name for path in project.state_folder.iterdir() if path.is_dir()] == []


def test_error_without_sample_data_says_what_to_do(tmp_path: Path) -> None:
    """The error of a project without sample data points to the option that replaces it."""
    project = project_with(tmp_path, "")
    (tmp_path / "pyproject.toml").write_text(_MARKER.replace('sample_data = "acme.sample_data:objects"', ""))
    with pytest.raises(SampleDataError, match="pass --data"):
        sample_data_folder(Project.at(project.root))
