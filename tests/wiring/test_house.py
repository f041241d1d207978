"""The code base stays navigable: unique names, small folders and files, no circular imports."""

from __future__ import annotations

import ast
import gzip
from collections import defaultdict
from graphlib import CycleError, TopologicalSorter
from pathlib import Path
from typing import TYPE_CHECKING

import grimp
import pytest

from infra.packaging import PLATFORM
from tests.conftest import pytest_make_parametrize_id

if TYPE_CHECKING:
    from collections.abc import Iterable

PACKAGES = (
    "mlpipe",
    "prediction_contract",
    "prediction_batches",
    "model_declaration",
    "aws_wire",
    "mlpipe_dagster",
    "sagemaker_scripts",
    "glue_scripts",
    "api_lambda",
    "infra",
)
MAX_MODULES_OF_A_FOLDER = 14
MAX_LINES_OF_A_MODULE = 450
# Every deployable has these two.
OF_EVERY_DEPLOYABLE = {"Settings", "SettingsError"}


def modules(package: str) -> list[Path]:
    """Return a package's modules without `__init__` and `__main__`."""
    found = (PLATFORM / package).rglob("*.py")
    return [path.relative_to(PLATFORM) for path in found if path.stem not in {"__init__", "__main__"}]


def duplicates(named: Iterable[tuple[str, Path]]) -> dict[str, list[str]]:
    """Return the names that occur more than once, with their files."""
    places: dict[str, list[str]] = defaultdict(list)
    for name, path in named:
        places[name].append(str(path))
    return {name: sorted(paths) for name, paths in places.items() if len(paths) > 1}


@pytest.mark.parametrize("package", PACKAGES)
def test_module_names_are_unique_in_their_package(package: str) -> None:
    """A module's name in an import or a traceback identifies one file."""
    doubled = duplicates((path.stem, path) for path in modules(package))
    assert not doubled, "Rename all but one of them, so that the name says what the file holds."


def test_public_class_names_are_unique_in_the_product() -> None:
    """A class's name identifies it without its module."""
    named = (
        (node.name, path)
        for package in PACKAGES
        for path in modules(package)
        for node in ast.parse((PLATFORM / path).read_text(encoding="utf-8")).body
        if isinstance(node, ast.ClassDef) and not node.name.startswith("_")
    )
    doubled = {name: paths for name, paths in duplicates(named).items() if name not in OF_EVERY_DEPLOYABLE}
    assert not doubled, "Rename all but one of them, or make one class of them in a package below both."


@pytest.mark.parametrize("package", PACKAGES)
def test_folders_hold_few_modules(package: str) -> None:
    """A folder's listing fits on one screen."""
    folders: dict[Path, int] = defaultdict(int)
    for path in modules(package):
        folders[path.parent] += 1
    crowded = {str(folder): count for folder, count in folders.items() if count > MAX_MODULES_OF_A_FOLDER}
    assert not crowded, (
        "Put what belongs to one concern into a folder below, or a small module into its caller."
    )


@pytest.mark.parametrize("package", PACKAGES)
def test_modules_are_short(package: str) -> None:
    """A longer module usually holds two concerns."""
    lengths = {
        str(path): len((PLATFORM / path).read_text(encoding="utf-8").splitlines())
        for path in modules(package)
    }
    long = {path: lines for path, lines in lengths.items() if lines > MAX_LINES_OF_A_MODULE}
    assert not long, "Ask which two things it is, and give each a module."


def test_imports_are_not_circular() -> None:
    """Modules depend on each other in one direction, imports for type annotations included."""
    graph = grimp.build_graph(*PACKAGES, cache_dir=None)
    imports = {module: graph.find_modules_directly_imported_by(module) for module in graph.modules}
    try:
        TopologicalSorter(imports).prepare()
    except CycleError as error:
        circle = " -> ".join(reversed(error.args[1]))
        pytest.fail(f"{circle}: move what they need of one another into a module below both.")


def test_ids_of_gzip_parameters_do_not_depend_on_time() -> None:
    """Xdist runs no tests if its workers collect different names."""
    first, second = (gzip.compress(b"line", mtime=seconds) for seconds in (1, 2))
    name = pytest_make_parametrize_id(first)
    assert name is not None
    assert name == pytest_make_parametrize_id(second)
