"""The order of the house: names that are unique, folders and files of one screen, no import circles."""

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
# Each deployable has these.
OF_EVERY_DEPLOYABLE = {"Settings", "SettingsError"}


def modules(package: str) -> list[Path]:
    """Return a package's modules; those that stand for their folder have its name and are left out."""
    found = (PLATFORM / package).rglob("*.py")
    return [path.relative_to(PLATFORM) for path in found if path.stem not in {"__init__", "__main__"}]


def alike(named: Iterable[tuple[str, Path]]) -> dict[str, list[str]]:
    """Return the names that stand more than once, with the files that have them."""
    places: dict[str, list[str]] = defaultdict(list)
    for name, path in named:
        places[name].append(str(path))
    return {name: sorted(paths) for name, paths in places.items() if len(paths) > 1}


@pytest.mark.parametrize("package", PACKAGES)
def test_a_module_has_a_name_of_its_own_in_its_package(package: str) -> None:
    """Whoever reads a module's name in an import or a traceback knows which file is meant."""
    doubled = alike((path.stem, path) for path in modules(package))
    assert not doubled, "Rename all but one of them, so that the name says what the file holds."


def test_a_public_class_has_a_name_of_its_own_in_the_product() -> None:
    """A name says what the thing is without the module that it comes from."""
    named = (
        (node.name, path)
        for package in PACKAGES
        for path in modules(package)
        for node in ast.parse((PLATFORM / path).read_text(encoding="utf-8")).body
        if isinstance(node, ast.ClassDef) and not node.name.startswith("_")
    )
    doubled = {name: paths for name, paths in alike(named).items() if name not in OF_EVERY_DEPLOYABLE}
    assert not doubled, "Rename all but one of them, or make one class of them in a package below both."


@pytest.mark.parametrize("package", PACKAGES)
def test_a_folder_holds_one_concern(package: str) -> None:
    """About a dozen modules fit on one screen of a listing."""
    folders: dict[Path, int] = defaultdict(int)
    for path in modules(package):
        folders[path.parent] += 1
    crowded = {str(folder): count for folder, count in folders.items() if count > MAX_MODULES_OF_A_FOLDER}
    assert not crowded, (
        "Put what belongs to one concern into a folder below, or a small module into its caller."
    )


@pytest.mark.parametrize("package", PACKAGES)
def test_a_module_is_one_thing(package: str) -> None:
    """A file that is longer than this is two things."""
    lengths = {
        str(path): len((PLATFORM / path).read_text(encoding="utf-8").splitlines())
        for path in modules(package)
    }
    long = {path: lines for path, lines in lengths.items() if lines > MAX_LINES_OF_A_MODULE}
    assert not long, "Ask which two things it is, and give each a module."


def test_no_import_comes_back_to_where_it_started() -> None:
    """Modules depend on one another in one direction, type annotations included."""
    graph = grimp.build_graph(*PACKAGES, cache_dir=None)
    imports = {module: graph.find_modules_directly_imported_by(module) for module in graph.modules}
    try:
        TopologicalSorter(imports).prepare()
    except CycleError as error:
        circle = " -> ".join(reversed(error.args[1]))
        pytest.fail(f"{circle}: move what they need of one another into a module below both.")


def test_a_test_is_not_named_after_the_time() -> None:
    """Xdist runs no test at all if its workers find tests of different names."""
    first, second = (gzip.compress(b"line", mtime=seconds) for seconds in (1, 2))
    name = pytest_make_parametrize_id(first)
    assert name is not None
    assert name == pytest_make_parametrize_id(second)
