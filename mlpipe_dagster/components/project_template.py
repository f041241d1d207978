"""Creates a new project, or a model in one, from the files of `template/` with names filled in."""

from __future__ import annotations

import importlib.util
import keyword
import re
import sys
import sysconfig
from collections.abc import Iterator, Mapping
from dataclasses import dataclass
from pathlib import Path
from typing import Self

from mlpipe_dagster.installed_platform import VERSION
from model_declaration.declaration_files import COMPONENT
from model_declaration.project import MARKER, PLATFORM_PACKAGES
from prediction_contract.errors import ContractError
from prediction_contract.naming.batch import ModelName

TEMPLATE = Path(__file__).with_name("template")
_SUFFIX = ".template"
_MARK = re.compile(r"<% ([a-z_]+) %>")
_PACKAGE = re.compile("[a-z][a-z0-9_]{0,40}")
# With the leading dot, the template's own file would hide other files from git.
_RENAMED = {"gitignore": ".gitignore"}
# Names used beside the package, and libraries of jobs that may not be installed here.
_RESERVED = PLATFORM_PACKAGES | {
    "tests",
    "requirements",
    "sagemaker",
    "sklearn",
    "skops",
    "polars",
    "xgboost",
    "lightgbm",
    "onnx",
    "onnxruntime",
    "safetensors",
}
_TESTS = "test_model.py"
_MARKER_TABLE = '\n[tool.mlpipe]\nrequires = "{requires}"\ncreated_with = "{version}"\n'
# The file as create-dagster writes it, without changes.
_UNCHANGED_DEFINITIONS = re.compile(
    r"from pathlib import Path\s+from dagster import definitions, load_from_defs_folder\s+@definitions\s+"
    r"def defs\(\):\s+return load_from_defs_folder\(path_within_project=Path\(__file__\)\.parent\)\s*"
)


class TemplateError(ContractError):
    """A project cannot be created at the requested place."""


def suitable_versions() -> str:
    """Return the version range for a new project; it excludes the next minor version, which may break it."""
    major, minor, *_ = VERSION.split(".")
    return f">={major}.{minor},<{major}.{int(minor) + 1}"


@dataclass(frozen=True, slots=True)
class TemplateNames:
    """The names that replace placeholders in a template's files.

    Attributes:
        project: The project's name.
        package: The name of its Python package.
        model: The name of its model.
        component: The component's type in `defs.yaml`.
    """

    project: str
    package: str
    model: str
    component: str = COMPONENT

    @classmethod
    def of(cls, project: str, model: str) -> Self:
        """Return the names for a project that is named after its folder.

        Raises:
            TemplateError: The project's name does not make a valid package name.
            InvalidNameError: The model's name is invalid.
        """
        package = project.lower().replace("-", "_").replace(".", "_")
        if (
            not _PACKAGE.fullmatch(package)
            or keyword.iskeyword(package)
            or package in sys.stdlib_module_names | _RESERVED
            or _is_installed(package)
        ):
            raise TemplateError(
                f"The project name {project[:80]!r} is not possible: the Python package {package[:80]!r} "
                "would be invalid or hide another one",
                remedy="Use letters, digits and hyphens, and no existing package's name; for example acme",
            )
        return cls(project, package, str(ModelName(model)))

    @property
    def marks(self) -> Mapping[str, str]:
        """The value of each placeholder in a template."""
        return {
            "project": self.project,
            "package": self.package,
            "model": self.model,
            "type": self.component,
            "requires": suitable_versions(),
            "version": VERSION,
        }


def _is_installed(package: str) -> bool:
    """Return whether an installed library has this name; a project in editable mode does not count."""
    found = importlib.util.find_spec(package)
    if found is None:
        return False
    places = [found.origin or "", *(found.submodule_search_locations or ())]
    libraries = [Path(sysconfig.get_path(each)).resolve() for each in ("purelib", "platlib")]
    return any(library in Path(place).resolve().parents for place in places for library in libraries)


def write_project(root: Path, names: TemplateNames) -> list[Path]:
    """Write a runnable project in the layout of `create-dagster`; return its files.

    Raises:
        TemplateError: The folder is not empty.
    """
    if root.exists() and (not root.is_dir() or any(root.iterdir())):
        raise TemplateError(f"{root} is not empty", remedy="Name a folder that does not exist yet")
    package = root / "src" / names.package
    written = [
        *_write(TEMPLATE / "project", root, names),
        *_write(TEMPLATE / "package", package, names),
        *write_model(package / "defs" / names.model, names),
        *write_model_tests(root, names),
    ]
    for folder in (package, package / "defs", root / "tests"):
        (folder / "__init__.py").write_text("", encoding="utf-8")
        written.append(folder / "__init__.py")
    return sorted(written)


def write_model(folder: Path, names: TemplateNames) -> list[Path]:
    """Write a model's declaration and functions, skip existing files, and return the written ones."""
    return _write(TEMPLATE / "model", folder, names)


def write_model_tests(root: Path, names: TemplateNames) -> list[Path]:
    """Write tests of a model's functions into a project, skip existing ones, and return the written ones."""
    return _write(TEMPLATE / "model_tests", root / "tests", names)


def complete_project(root: Path, package_folder: Path, names: TemplateNames) -> list[Path]:
    """Turn a `create-dagster` project into a project of the platform; return the files that changed.

    `pyproject.toml` gets the table `[tool.mlpipe]`, and the package gets sample data if it has none.
    `definitions.py` gets the platform's two lines if it is unchanged since `create-dagster` wrote it.
    """
    changed = []
    sample_data = package_folder / "sample_data.py"
    marker = root / MARKER
    text = marker.read_text(encoding="utf-8") if marker.is_file() else ""
    if "[tool.mlpipe]" not in text:
        table = _MARKER_TABLE.format(requires=suitable_versions(), version=VERSION)
        if not sample_data.exists():
            table += f'sample_data = "{names.package}.sample_data:objects"\n'
            changed += _write_file(TEMPLATE / "package" / f"sample_data.py{_SUFFIX}", sample_data, names)
        marker.write_text(text.rstrip("\n") + "\n" + table, encoding="utf-8")
        changed.append(marker)
    definitions = package_folder / "definitions.py"
    if not definitions.exists() or _UNCHANGED_DEFINITIONS.fullmatch(definitions.read_text(encoding="utf-8")):
        definitions.unlink(missing_ok=True)
        changed += _write_file(TEMPLATE / "package" / f"definitions.py{_SUFFIX}", definitions, names)
    return changed


def _write(template: Path, folder: Path, names: TemplateNames) -> list[Path]:
    return [
        written
        for path in _files(template)
        for written in _write_file(path, folder / _target(path.relative_to(template), names), names)
    ]


def _files(template: Path) -> Iterator[Path]:
    return iter(sorted(path for path in template.rglob(f"*{_SUFFIX}") if path.is_file()))


def _target(path: Path, names: TemplateNames) -> Path:
    name = path.name.removesuffix(_SUFFIX)
    # `mlpipe test` finds the environment of the tests by this name.
    return path.with_name({_TESTS: f"test_{names.model}.py", **_RENAMED}.get(name, name))


def _write_file(template: Path, target: Path, names: TemplateNames) -> list[Path]:
    """Write one file unless it exists."""
    if target.exists():
        return []
    marks = names.marks
    target.parent.mkdir(parents=True, exist_ok=True)
    text = _MARK.sub(lambda found: marks[found[1]], template.read_text(encoding="utf-8"))
    target.write_text(text, encoding="utf-8")
    return [target]
