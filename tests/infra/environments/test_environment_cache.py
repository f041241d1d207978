"""Tests that environments are created completely, once, and exactly as their lock file says."""

from __future__ import annotations

import contextlib
import os
import shutil
import signal
import socket
import subprocess
import sys
import time
from pathlib import Path
from typing import TYPE_CHECKING

import pytest

from infra.environments import environment_cache
from infra.environments.environment_cache import (
    EnvironmentCreationError,
    cache_folder,
    environment_of,
    make_environment,
)
from tests.infra.environments.small_locks import ROOT, locked, write_lock

if TYPE_CHECKING:
    from collections.abc import Iterator

MAKE = """
import sys
from pathlib import Path
from infra.environments.environment_cache import make_environment
print(make_environment(Path(sys.argv[1]), Path(sys.argv[2]), say=print).folder)
"""


def start_creation(lock: Path, cache: Path, **variables: str) -> subprocess.Popen[str]:
    """Start a process that creates an environment."""
    return subprocess.Popen(
        [sys.executable, "-c", MAKE, str(lock), str(cache)],
        cwd=ROOT,
        env={**os.environ, **variables},
        stdout=subprocess.PIPE,
        stderr=subprocess.STDOUT,
        text=True,
    )


@contextlib.contextmanager
def silent_registry(cache: Path) -> Iterator[dict[str, str]]:
    """Give the variables of a registry that never answers and of an empty uv cache."""
    with socket.socket() as listener:
        listener.bind(("127.0.0.1", 0))
        listener.listen(64)
        yield {
            "UV_DEFAULT_INDEX": f"http://127.0.0.1:{listener.getsockname()[1]}/simple",
            "UV_CACHE_DIR": str(cache / "uv"),
            "NO_PROXY": "127.0.0.1",
        }


def no_partial_environment(cache: Path) -> bool:
    """Return whether no partly created environment is left in the cache."""
    return not list(cache.glob("environments/.*.making-*"))


def test_environment_holds_only_its_lock_and_is_reused(tmp_path: Path) -> None:
    """An environment has its locked packages with byte code, none of the platform's, and is made once."""
    lock, messages = write_lock(tmp_path, "iniconfig"), []
    made = make_environment(lock, tmp_path / "cache", say=messages.append)
    program = "import iniconfig, sys; print(iniconfig.__file__); print(iniconfig.__cached__); import pandas"
    ran = subprocess.run(
        [made.python, "-c", program], capture_output=True, text=True, timeout=60, check=False
    )
    source, compiled = ran.stdout.splitlines()
    assert Path(source).is_relative_to(made.folder)
    assert Path(compiled).is_file()
    assert "No module named 'pandas'" in ran.stderr
    assert (made.packages / "iniconfig").is_dir()
    before = made.folder.stat()
    assert make_environment(lock, tmp_path / "cache", say=messages.append) == made
    assert made.folder.stat() == before
    assert messages == ["  Installing the packages of iniconfig.lock, once for all projects"]


def test_changed_lock_gives_another_environment(tmp_path: Path) -> None:
    """A lock with another package has its own environment, but a changed comment makes no difference."""
    lock = write_lock(tmp_path, "iniconfig")
    before = environment_of(lock, tmp_path)
    lock.write_text(f"# made of something else\n{lock.read_text()}")
    assert environment_of(lock, tmp_path) == before
    lock.write_text(f"{lock.read_text()}{locked('six')}")
    assert environment_of(lock, tmp_path) != before


def test_two_processes_create_one_environment(tmp_path: Path) -> None:
    """If two processes need the same environment, one installs it and both get it."""
    lock, cache = write_lock(tmp_path, "iniconfig"), tmp_path / "cache"
    said = [
        process.communicate(timeout=120)[0]
        for process in [start_creation(lock, cache), start_creation(lock, cache)]
    ]
    folder = str(environment_of(lock, cache).folder)
    assert [text.splitlines()[-1] for text in said] == [folder, folder]
    assert "".join(said).count("Installing") == 1
    assert no_partial_environment(cache)


def test_killed_creation_leaves_no_partial_environment(tmp_path: Path) -> None:
    """The next creation makes the environment complete and removes what the killed one left."""
    lock, cache = write_lock(tmp_path, "iniconfig"), tmp_path / "cache"
    with silent_registry(tmp_path) as variables:
        killed = start_creation(lock, cache, **variables)
        deadline = time.monotonic() + 60
        while not list(cache.glob("environments/.*.making-*/whole/pyvenv.cfg")):
            assert time.monotonic() < deadline, "the making did not begin"
            time.sleep(0.05)
        killed.send_signal(signal.SIGKILL)
        killed.wait(timeout=30)
    assert not environment_of(lock, cache).folder.exists()
    made = make_environment(lock, cache, say=print)
    subprocess.run([made.python, "-c", "import iniconfig"], check=True, timeout=60)
    assert no_partial_environment(cache)


def test_unresponsive_registry_is_reported(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    """If the package registry never answers, creation fails with a hint at it and leaves nothing."""
    lock, cache = write_lock(tmp_path, "iniconfig"), tmp_path / "cache"
    monkeypatch.setattr(environment_cache, "_MAKING_SECONDS", 3)
    with silent_registry(tmp_path) as variables:
        for name, value in variables.items():
            monkeypatch.setenv(name, value)
        with pytest.raises(
            EnvironmentCreationError, match=r"no answer within .* s. Check that the package regis"
        ):
            make_environment(lock, cache, say=print)
    assert no_partial_environment(cache)


def test_package_with_wrong_hash_is_refused(tmp_path: Path) -> None:
    """Creation fails if a package's hash differs from the lock file."""
    lock = write_lock(tmp_path, "iniconfig")
    lines = [line for line in lock.read_text().splitlines() if "--hash" not in line]
    lock.write_text("".join(f"{line.rstrip(chr(92))}\\\n    --hash=sha256:{'0' * 64}\n" for line in lines))
    with pytest.raises(
        EnvironmentCreationError, match=f"The packages of {lock} cannot be installed: .*[Hh]ash"
    ):
        make_environment(lock, tmp_path / "cache", say=print)


def test_package_without_hash_is_refused(tmp_path: Path) -> None:
    """Creation fails if a lock file has no hash, because the registry could then return any file."""
    lock = tmp_path / "loose.lock"
    lock.write_text("iniconfig==2.1.0\n")
    with pytest.raises(EnvironmentCreationError, match="hash"):
        make_environment(lock, tmp_path / "cache", say=print)


def test_environment_without_its_python_is_recreated(tmp_path: Path) -> None:
    """An environment is created again if the Python that it was made with was removed."""
    lock = write_lock(tmp_path, "iniconfig")
    made = make_environment(lock, tmp_path / "cache", say=print)
    made.python.unlink()
    made.python.symlink_to(tmp_path / "gone")
    assert make_environment(lock, tmp_path / "cache", say=print) == made
    subprocess.run([made.python, "-c", "import iniconfig"], check=True, timeout=60)


def test_environment_without_its_packages_is_recreated(tmp_path: Path) -> None:
    """An environment is created again if its packages were removed, as by a cache cleaner."""
    lock = write_lock(tmp_path, "iniconfig")
    made = make_environment(lock, tmp_path / "cache", say=print)
    shutil.rmtree(made.folder / "lib")
    assert make_environment(lock, tmp_path / "cache", say=print) == made
    subprocess.run([made.python, "-c", "import iniconfig"], check=True, timeout=60)


def test_cache_folder_follows_environment_variables(tmp_path: Path) -> None:
    """`MLPIPE_CACHE` names the cache folder itself, and `XDG_CACHE_HOME` its parent."""
    own, shared = tmp_path / "own", tmp_path / "shared"
    assert cache_folder({"MLPIPE_CACHE": str(own), "XDG_CACHE_HOME": str(shared)}) == own
    assert cache_folder({"XDG_CACHE_HOME": str(shared)}) == shared / "mlpipe"
    assert cache_folder({}) == Path.home() / ".cache" / "mlpipe"


def test_unwritable_cache_is_reported(tmp_path: Path) -> None:
    """If the cache cannot be written, the message suggests setting MLPIPE_CACHE."""
    lock = write_lock(tmp_path, "iniconfig")
    (tmp_path / "file").touch()
    with pytest.raises(
        EnvironmentCreationError, match=r"cannot be created: .*set MLPIPE_CACHE to another folder"
    ):
        make_environment(lock, tmp_path / "file" / "cache", say=print)


def test_full_disk_is_reported() -> None:
    """If an installer reports a full disk, the message says to free space or to set MLPIPE_CACHE."""
    command = [sys.executable, "-c", "import sys; sys.exit('error: No space left on device (os error 28)')"]
    with pytest.raises(
        EnvironmentCreationError, match=r"No space left .*Free disk space or set MLPIPE_CACHE"
    ):
        environment_cache.run_installer(command, "The packages cannot be installed", seconds=60)


def test_missing_lock_is_named(tmp_path: Path) -> None:
    """The message names the lock file that is missing."""
    with pytest.raises(EnvironmentCreationError, match=r"gone.lock cannot be read: No such file"):
        make_environment(tmp_path / "gone.lock", tmp_path / "cache", say=print)
