"""The project: the folder of a team's models, readers, stages and lock files, and how it is found.

`[tool.mlpipe]` in a `pyproject.toml` marks its folder as a project. The search goes upwards from the current
folder; `MLPIPE_PROJECT` overrides it. If a repository keeps its project in a subfolder, the `pyproject.toml`
at its root names it: `project = "examples/acme"`.
"""

from __future__ import annotations

import os
import re
import tomllib
from collections.abc import Mapping
from dataclasses import dataclass
from functools import cached_property
from pathlib import Path
from typing import Any, Self

from model_declaration.declared_models import FILE_NAME
from prediction_contract.errors import ContractError
from prediction_contract.jobs.code_digest import source_files

MARKER = "pyproject.toml"
VARIABLE = "MLPIPE_PROJECT"
_PACKAGE = re.compile("[A-Za-z_][A-Za-z0-9_]*")
_SERVICE = re.compile("[a-z][a-z0-9_]{0,40}")
_MODULE = re.compile(rf"{_PACKAGE.pattern}([.]{_PACKAGE.pattern})*")
_OBJECT = re.compile(f"{_MODULE.pattern}:{_PACKAGE.pattern}")
# The platform's own packages, which share one import path with the project's package.
PLATFORM_PACKAGES = frozenset(
    {
        "mlpipe",
        "mlpipe_dagster",
        "model_declaration",
        "prediction_batches",
        "prediction_contract",
        "api_lambda",
        "aws_wire",
        "glue_scripts",
        "infra",
        "sagemaker_scripts",
    }
)
_DEFINITIONS = "definitions.py"
_TESTS = "tests"
_MEMBERS = frozenset({"requires", "created_with", "project", "sample_data", "services"})
# Names of the local stack's own servers, processes and `_URL` variables.
_TAKEN = frozenset(
    {
        "aws",
        "snowflake",
        "jobs",
        "supervisor",
        "dagster",
        "api",
        "done_queue",
        "jwks",
        "model_events_queue",
        "token",
    }
)


class ProjectError(ContractError):
    """There is no project, or its `pyproject.toml` is wrong."""


@dataclass(frozen=True, slots=True)
class ProjectService:
    """A project's server that the local stack runs, for example a stand-in for a third party.

    It is started in the project's folder as `python -m <module> --port <port>`, serves on that port of the
    loopback address, and answers `GET /health` with 200 when it is ready.

    Attributes:
        name: The service's name; clients find its URL in `MLPIPE_<NAME>_URL`.
        module: The module to run.
    """

    name: str
    module: str


@dataclass(frozen=True)
class Project:
    """A project.

    Attributes:
        root: The project's folder, absolute.
        package: The name of its Python package, from `[tool.dg.project]`.
        package_folder: The package's folder, in `src/` or in the root.
        location_name: The name of its code location in Dagster.
        services: The servers that the local stack runs in addition to its own.
        sample_data: `module:function` that yields the key and bytes of each sample object.
        requires: The platform versions that it works with, as a version specifier; None for any.
    """

    root: Path
    package: str
    package_folder: Path
    location_name: str
    services: tuple[ProjectService, ...] = ()
    sample_data: str | None = None
    requires: str | None = None

    @classmethod
    def find(cls, environment: Mapping[str, str], folder: Path) -> Self:
        """Return the project that the environment names, or else the one that contains a folder.

        Args:
            environment: Usually `os.environ`.
            folder: Where the upward search begins.

        Raises:
            ProjectError: There is no project, or its settings are wrong.
        """
        named = environment.get(VARIABLE)
        if named:
            return cls.at(Path(named))
        beginning = folder.resolve()
        for candidate in (beginning, *beginning.parents):
            if _marked(candidate) is not None:
                return cls.at(candidate)
        raise ProjectError(
            f"Neither {beginning} nor a folder above it is a project",
            remedy=f"Run this in a project, set {VARIABLE} to its folder, or make one with `mlpipe init`",
        )

    @classmethod
    def at(cls, root: Path) -> Self:
        """Return the project in a folder, or the one that the folder's `pyproject.toml` names.

        Raises:
            ProjectError: The folder is not a project, or its settings are wrong.
        """
        root = root.resolve()
        if os.pathsep in str(root):
            raise ProjectError(
                f"The path {root} holds {os.pathsep!r}, which separates folders on Python's path",
                remedy="Move the project to a path without this character",
            )
        settings = _marked(root)
        if settings is None:
            raise ProjectError(
                f"{root / MARKER} has no table [tool.mlpipe]",
                remedy="Use the folder of a project; `mlpipe init` makes one",
            )
        if "project" in settings:
            target = root / _text(root, settings, "project")
            if "project" in (_marked(target) or {}):
                _refuse(root, "project", f"{target} names yet another project")
            return cls.at(target)
        if unknown := sorted(set(settings) - _MEMBERS):
            _refuse(root, unknown[0], f"unknown setting, use {', '.join(sorted(_MEMBERS))}")
        dagster = _within(_within(_table(root), "dg"), "project")
        package = dagster.get("root_module")
        if not isinstance(package, str) or not _PACKAGE.fullmatch(package):
            raise ProjectError(
                f"{root / MARKER} names no package as root_module of [tool.dg.project]",
                remedy="Add the setting, as `create-dagster project` does",
            )
        if package in PLATFORM_PACKAGES:
            raise ProjectError(
                f"{root / MARKER} [tool.dg.project] root_module: "
                f"{package} is one of the platform's own packages",
                remedy="Rename the project's package, in this setting and in src/",
            )
        return cls(
            root=root,
            package=package,
            package_folder=_package_folder(root, package),
            location_name=str(dagster.get("code_location_name") or _project_name(root) or package),
            services=_services(root, settings),
            sample_data=_object(root, settings, "sample_data"),
            requires=_text(root, settings, "requires") if "requires" in settings else None,
        )

    @cached_property
    def defs(self) -> Path:
        """The folder of its models, each a folder with the declaration and the functions."""
        return self.package_folder / "defs"

    @cached_property
    def state_folder(self) -> Path:
        """The folder for files that the platform writes, which git must ignore."""
        return self.root / ".mlpipe"

    @cached_property
    def stack_folder(self) -> Path:
        """The state of the project's local stack."""
        return self.state_folder / "stack"

    @cached_property
    def packages(self) -> Path:
        """The folder of code archives for deployment."""
        return self.state_folder / "packages"

    @cached_property
    def templates(self) -> Path:
        """The folder of CloudFormation templates, with one folder per stage."""
        return self.state_folder / "cdk"

    @cached_property
    def environment_file(self) -> Path:
        """The file to which the local stack writes its addresses."""
        return self.root / ".env"

    @cached_property
    def stages_file(self) -> Path:
        """The file with the accounts, regions and sizes of its stages."""
        return self.root / "stages.yaml"

    @cached_property
    def requirements(self) -> Path:
        """The folder of requirement families and their lock files."""
        return self.root / "requirements"

    @property
    def source_folder(self) -> Path:
        """The folder to put on Python's path so that the package can be imported."""
        return self.package_folder.parent

    def make_state_folder(self) -> Path:
        """Create the state folder if necessary, with a `.gitignore` of its own, and return it.

        Raises:
            ProjectError: The folder cannot be written.
        """
        ignored = self.state_folder / ".gitignore"
        try:
            self.state_folder.mkdir(exist_ok=True)
            if not ignored.exists():
                ignored.write_text("*\n", encoding="utf-8")
        except OSError as error:
            raise ProjectError(
                f"{self.state_folder} cannot be written: {error.strerror}",
                remedy="Make the folder writable; the platform keeps its files there",
            ) from error
        return self.state_folder

    def functions_package(self, model: str) -> str:
        """Return the package of a model's functions: `acme.defs.churn`."""
        return f"{self.package}.defs.{model}"


def job_files(package_folder: Path) -> dict[str, bytes]:
    """Return the package's files that jobs may import, by path `<package>/...`.

    Files that only Dagster reads are left out, so that an edited declaration does not change the code.
    """
    found = source_files(package_folder, package_folder.parent)
    return {path: content for path, content in found.items() if _is_for_jobs(path)}


def _is_for_jobs(path: str) -> bool:
    _, *folders, name = path.split("/")
    return not (name == FILE_NAME or _TESTS in folders or (not folders and name == _DEFINITIONS))


def _table(root: Path) -> dict[str, Any]:
    """Return the table `tool` of a folder's `pyproject.toml`; empty if there is none."""
    try:
        document = tomllib.loads((root / MARKER).read_text(encoding="utf-8"))
    except FileNotFoundError:
        return {}
    except (OSError, UnicodeDecodeError, tomllib.TOMLDecodeError) as error:
        raise ProjectError(f"{root / MARKER} cannot be read: {error}", remedy="Correct the file") from error
    tool = document.get("tool", {})
    return {**tool, "": document.get("project")} if isinstance(tool, dict) else {}


def _within(table: Mapping[str, Any], name: str) -> Mapping[str, Any]:
    """Return a nested table; empty if there is none."""
    found = table.get(name)
    return found if isinstance(found, dict) else {}


def _marked(root: Path) -> dict[str, Any] | None:
    settings = _table(root).get("mlpipe")
    return settings if isinstance(settings, dict) else None


def _project_name(root: Path) -> str | None:
    name = _within(_table(root), "").get("name")
    return name if isinstance(name, str) else None


def _package_folder(root: Path, package: str) -> Path:
    for folder in (root / "src" / package, root / package):
        if (folder / "__init__.py").is_file():
            return folder
    raise ProjectError(
        f"The project {root} has no package {package} in src/ or beside {MARKER}",
        remedy="Correct root_module of [tool.dg.project], or move the package",
    )


def _services(root: Path, settings: Mapping[str, Any]) -> tuple[ProjectService, ...]:
    services = []
    declared = settings.get("services", [])
    if not isinstance(declared, list):
        _refuse(root, "services", "write each service as [[tool.mlpipe.services]]")
    for each in declared:
        name, module = (each.get("name"), each.get("module")) if isinstance(each, dict) else (None, None)
        is_whole = isinstance(name, str) and isinstance(module, str)
        if not (is_whole and _SERVICE.fullmatch(str(name)) and _MODULE.fullmatch(str(module))):
            _refuse(root, "services", "each service needs a name of lower-case letters and a module")
        if name in _TAKEN:
            _refuse(root, "services", f"the platform itself uses the name {name}")
        services.append(ProjectService(str(name), str(module)))
    if len({each.name for each in services}) != len(services):
        _refuse(root, "services", "two services have the same name")
    return tuple(services)


def _object(root: Path, settings: Mapping[str, Any], name: str) -> str | None:
    if name not in settings:
        return None
    text = _text(root, settings, name)
    if not _OBJECT.fullmatch(text):
        _refuse(root, name, f"{text!r} does not name an object as package.module:name")
    return text


def _text(root: Path, settings: Mapping[str, Any], name: str) -> str:
    value = settings[name]
    if not isinstance(value, str) or not value:
        _refuse(root, name, "it is not a text")
    return str(value)


def _refuse(root: Path, name: str, what: str) -> None:
    raise ProjectError(f"{root / MARKER} [tool.mlpipe] {name}: {what}", remedy="Correct the file")
