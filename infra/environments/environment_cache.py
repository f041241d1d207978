"""Environments in the user's cache, one per lock file and Python version.

All projects of a user share them. An environment is made in a scratch folder and then renamed, so it is
always complete. If two processes need the same one, the second waits for the first.
"""

from __future__ import annotations

import contextlib
import fcntl
import hashlib
import platform
import shutil
import subprocess
import sys
import sysconfig
import tempfile
import time
from dataclasses import dataclass
from pathlib import Path
from typing import TYPE_CHECKING

import uv

from prediction_contract.errors import ContractError

if TYPE_CHECKING:
    from collections.abc import Callable, Iterator, Mapping

CACHE_VARIABLES = ("MLPIPE_CACHE", "XDG_CACHE_HOME")
_MAKING_SECONDS = 900
_WAITING_SECONDS = 960
_LOOK_SECONDS = 0.2
_SHOWN_CHARACTERS = 2000
_KEY_DIGITS = 16
_LOCK_NAME = "requirements.lock"
# How programs report a full disk, uv and npm among them.
_FULL_DISK = ("No space left on device", "ENOSPC", "Disk quota exceeded")
_REMEDY_OF_FULL_DISK = "Free disk space or set MLPIPE_CACHE to another folder, then run this again"
_REMEDY = "Check that the package registry answers, then run this again"


class EnvironmentCreationError(ContractError):
    """An environment cannot be made from its lock file."""


@dataclass(frozen=True, slots=True)
class MadeEnvironment:
    """An environment made from a lock file.

    Attributes:
        folder: The environment's folder.
    """

    folder: Path

    @property
    def python(self) -> Path:
        """The path of the environment's Python."""
        return self.folder / "bin" / "python"

    @property
    def packages(self) -> Path:
        """The folder of the environment's packages."""
        return self.folder / "site-packages"

    def program(self, name: str) -> Path:
        """Return the path of a program that one of the packages installed."""
        return self.folder / "bin" / name


def cache_folder(variables: Mapping[str, str]) -> Path:
    """Return the platform's folder in the user's cache.

    Args:
        variables: Environment variables, such as `os.environ`; `MLPIPE_CACHE` overrides the folder.
    """
    own, shared = (variables.get(name) for name in CACHE_VARIABLES)
    if own:
        return Path(own).resolve()
    return (Path(shared) if shared else Path.home() / ".cache").resolve() / "mlpipe"


def environment_of(lock: Path, cache: Path) -> MadeEnvironment:
    """Return the environment of a lock file, which may not exist yet.

    Raises:
        EnvironmentCreationError: The lock file does not exist.
    """
    digest = hashlib.sha256(_pins(_content(lock))).hexdigest()[:_KEY_DIGITS]
    kind = f"{platform.python_version()}-{sysconfig.get_platform()}"
    return MadeEnvironment(cache / "environments" / f"{digest}-{kind}")


def make_environment(
    lock: Path, cache: Path, *, say: Callable[[str], None], compiled: bool = True
) -> MadeEnvironment:
    """Return the environment of a lock file, and make it if it does not exist.

    Args:
        lock: A lock file for uv: pins with hashes.
        cache: The folder returned by `cache_folder`.
        say: Receives a message when packages are installed, which may take minutes.
        compiled: Whether all byte code is compiled now, or at each module's first import.

    Raises:
        EnvironmentCreationError: The packages cannot be installed, the cache cannot be written, or another
            process took too long to make the environment.
    """
    environment = environment_of(lock, cache)
    content = _content(lock)
    if _is_made(environment, content):
        return environment
    folder = environment.folder
    with creation_lock(folder, say=say):
        if not _is_made(environment, content):
            say(f"  Installing the packages of {lock.name}, once for all projects")
            with scratch_folder(folder) as scratch:
                _install(lock, content, scratch, compiled=compiled)
                # An unusable environment: its Python is gone, or it belongs to another lock file.
                shutil.rmtree(folder, ignore_errors=True)
                scratch.rename(folder)
    return environment


@contextlib.contextmanager
def creation_lock(folder: Path, *, say: Callable[[str], None]) -> Iterator[None]:
    """Hold the lock for making a folder of the cache; wait if another process holds it.

    Raises:
        EnvironmentCreationError: The other process did not end in time, or the cache cannot be written.
    """
    try:
        folder.parent.mkdir(parents=True, exist_ok=True)
        with _locked(folder, say):
            yield
    except OSError as error:
        raise EnvironmentCreationError(
            f"{folder} cannot be created: {error}", remedy="Fix it, or set MLPIPE_CACHE to another folder"
        ) from error


@contextlib.contextmanager
def _locked(folder: Path, say: Callable[[str], None]) -> Iterator[None]:
    deadline = time.monotonic() + _WAITING_SECONDS
    with folder.with_name(f".{folder.name}.lock").open("w") as held:
        waits = False
        while not _acquired(held.fileno()):
            if not waits:
                say(f"  Waiting for another process that is creating {folder}")
                waits = True
            if time.monotonic() > deadline:
                raise EnvironmentCreationError(
                    f"Another process has been creating {folder} for {_WAITING_SECONDS} s",
                    remedy="Stop that process, then run this again",
                )
            time.sleep(_LOOK_SECONDS)
        yield


@contextlib.contextmanager
def scratch_folder(folder: Path) -> Iterator[Path]:
    """Yield a new path next to a folder. The caller renames it to the folder once it is complete.

    The caller must hold `creation_lock`, because scratch folders of killed processes are removed.
    """
    prefix = f".{folder.name}.making-"
    for left in folder.parent.glob(f"{prefix}*"):
        shutil.rmtree(left, ignore_errors=True)
    # A new name each time: an installer may outlive the process that started it, and still write.
    with tempfile.TemporaryDirectory(dir=folder.parent, prefix=prefix, ignore_cleanup_errors=True) as scratch:
        yield Path(scratch) / "whole"


def run_installer(
    command: list[str], what: str, *, folder: Path | None = None, seconds: float, remedy: str = _REMEDY
) -> str:
    """Run a program that uses a package registry, and return its output.

    Args:
        command: The command line.
        what: The failure, for the message, such as `The packages of stack.lock cannot be installed`.
        folder: The working folder, whose configuration the program may read; None for the current one.
        seconds: The time limit.
        remedy: What the user can do if it fails.

    Raises:
        EnvironmentCreationError: The program fails or takes too long.
    """
    try:
        done = subprocess.run(
            command, cwd=folder, capture_output=True, text=True, timeout=seconds, check=False
        )
    except subprocess.TimeoutExpired as error:
        raise EnvironmentCreationError(f"{what}: no answer within {seconds:.0f} s", remedy=_REMEDY) from error
    except OSError as error:
        raise EnvironmentCreationError(
            f"{what}: {command[0]} cannot be run: {error}", remedy="Install mlpipe again"
        ) from error
    if done.returncode != 0:
        # Joins the installer's lines without its hints, which are about its own options.
        said = " ".join((done.stderr or done.stdout).partition("\nhint: ")[0].split())
        if any(each in said for each in _FULL_DISK):
            remedy = _REMEDY_OF_FULL_DISK
        raise EnvironmentCreationError(f"{what}: {said[-_SHOWN_CHARACTERS:]}", remedy=remedy)
    return done.stdout


def _content(lock: Path) -> bytes:
    try:
        return lock.read_bytes()
    except OSError as error:
        raise EnvironmentCreationError(
            f"The lock file {lock} cannot be read: {error.strerror}", remedy="Restore it"
        ) from error


def _pins(content: bytes) -> bytes:
    """Return a lock file without its comments, which change no package."""
    return b"\n".join(line for line in content.splitlines() if not line.startswith(b"#"))


def _is_made(environment: MadeEnvironment, content: bytes) -> bool:
    """Return whether the environment exists with its packages and a Python, made from this lock file."""
    try:
        kept = (environment.folder / _LOCK_NAME).read_bytes()
    except OSError:
        return False
    is_whole = environment.python.exists() and environment.packages.is_dir()
    return is_whole and _pins(kept) == _pins(content)


def _acquired(descriptor: int) -> bool:
    try:
        fcntl.flock(descriptor, fcntl.LOCK_EX | fcntl.LOCK_NB)
    except BlockingIOError:
        return False
    return True


def _install(lock: Path, content: bytes, scratch: Path, *, compiled: bool) -> None:
    program = uv.find_uv_bin()
    what = f"The packages of {lock} cannot be installed"
    deadline = time.monotonic() + _MAKING_SECONDS
    # Relocatable, because it is renamed once it is complete.
    made = [program, "venv", "--quiet", "--relocatable", "--no-project", "--python", sys.executable]
    run_installer([*made, str(scratch)], what, seconds=_MAKING_SECONDS)
    kept = scratch / _LOCK_NAME
    kept.write_bytes(content)
    sync = [program, "pip", "sync", "--quiet", "--require-hashes"]
    sync += ["--compile-bytecode"] if compiled else []
    sync += ["--python", str(scratch / "bin" / "python"), str(kept)]
    # The project in the lock file's folder may configure package indexes.
    run_installer(sync, what, folder=lock.parent, seconds=deadline - time.monotonic())
    version = f"python{sys.version_info.major}.{sys.version_info.minor}"
    # A path that does not depend on Python's version.
    (scratch / "site-packages").symlink_to(Path("lib", version, "site-packages"))
