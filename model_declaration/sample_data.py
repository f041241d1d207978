"""A project's sample data: the objects that its generator yields, in a folder laid out like the data bucket.

The generator runs in a process of its own, so that two projects do not share imports. It yields the key and
bytes of each object. It may take `as_of`, a partition as text, and then yields the objects that existed when
that partition began.
"""

from __future__ import annotations

import fcntl
import hashlib
import importlib
import inspect
import os
import shutil
import subprocess
import sys
import tempfile
import traceback
from collections.abc import Callable, Iterable, Iterator
from contextlib import contextmanager
from pathlib import Path, PurePosixPath

from model_declaration.project import VARIABLE, Project
from prediction_contract.errors import ContractError

_SECONDS = 300
_SHOWN_LINES = 12


class SampleDataError(ContractError):
    """A project has no sample data, or its generator failed."""


def sample_data_folder(project: Project, *, as_of: str | None = None) -> Path:
    """Return the folder of a project's sample data, which is rewritten if the generator has changed.

    Args:
        project: The project.
        as_of: A partition, for the objects that existed when it began, if the generator supports it; None for
            all objects.

    Raises:
        SampleDataError: The project names no generator, or the generator failed.
    """
    if project.sample_data is None:
        raise SampleDataError(
            f"The project {project.root} has no sample data",
            remedy="Name its generator as sample_data in [tool.mlpipe], or pass --data with a folder laid "
            "out like the data bucket",
        )
    name = "sample_data" if as_of is None else f"sample_data_as_of_{as_of.replace(':', '-')}"
    folder = project.state_folder / name
    written = project.state_folder / f"{name}.digest"
    project.make_state_folder()
    with _locked(project.state_folder / "sample_data.lock"):
        digest = _generator_digest(project)
        if not (folder.is_dir() and written.is_file() and written.read_text() == digest):
            written.unlink(missing_ok=True)
            _rewrite(project, folder, as_of)
            written.write_text(digest)
    return folder


def _rewrite(project: Project, folder: Path, as_of: str | None) -> None:
    scratch = Path(tempfile.mkdtemp(prefix=f"{folder.name}-", dir=folder.parent))
    try:
        _run_generator(project, scratch, as_of)
        shutil.rmtree(folder, ignore_errors=True)
        scratch.rename(folder)
    finally:
        shutil.rmtree(scratch, ignore_errors=True)


def _run_generator(project: Project, folder: Path, as_of: str | None) -> None:
    command = [sys.executable, "-m", __name__, str(folder), *([] if as_of is None else [as_of])]
    # The project's own package takes precedence over this process's import path.
    path = os.pathsep.join([str(project.source_folder), *filter(None, sys.path)])
    try:
        done = subprocess.run(
            command,
            env={
                **os.environ,
                VARIABLE: str(project.root),
                "PYTHONPATH": path,
                # An edit of equal size within the same second would be taken for the cached byte code.
                "PYTHONDONTWRITEBYTECODE": "1",
            },
            cwd=project.root,
            capture_output=True,
            text=True,
            timeout=_SECONDS,
            check=False,
        )
    except subprocess.TimeoutExpired as error:
        raise SampleDataError(
            f"{project.sample_data} did not finish in {_SECONDS} seconds", remedy="Make it yield less"
        ) from error
    if done.returncode:
        lines = done.stderr.strip().splitlines()
        raise SampleDataError(
            f"The sample data of {project.root} cannot be written: {' | '.join(lines[-_SHOWN_LINES:])}",
            remedy=f"Correct {project.sample_data}",
        )


def _generator_digest(project: Project) -> str:
    """Return a digest of the project's modules outside its models, on which a generator may depend."""
    digest = hashlib.sha256(str(project.sample_data).encode())
    for path in sorted(project.package_folder.rglob("*.py")):
        if project.defs not in path.parents:
            digest.update(f"\0{path.relative_to(project.package_folder)}\0".encode() + path.read_bytes())
    return digest.hexdigest()


@contextmanager
def _locked(path: Path) -> Iterator[None]:
    """Keep two commands from writing the same folder; the lock also ends with its process."""
    with path.open("w") as file:
        fcntl.flock(file, fcntl.LOCK_EX)
        yield


def _generator(named: str) -> Callable[..., Iterable[tuple[str, bytes]]]:
    module, _, name = named.partition(":")
    found = getattr(importlib.import_module(module), name, None)
    if not callable(found):
        raise TypeError(f"{module} has no function {name}")
    return found  # type: ignore[no-any-return]  # each yielded object is checked


def _write_objects(objects: Iterable[tuple[str, bytes]], folder: Path) -> None:
    for key, content in objects:
        parts = PurePosixPath(key).parts if isinstance(key, str) else ()
        if not parts or key != "/".join(parts) or key.startswith("/") or ".." in parts:
            raise ValueError(f"{key!r} is not an object key, such as raw/orders/dt=2013-02-01/part.csv")
        if not isinstance(content, bytes):
            raise TypeError(f"the content of {key} is {type(content).__name__} instead of bytes")
        target = folder / key
        if target.exists():
            raise ValueError(f"{key} was yielded twice")
        target.parent.mkdir(parents=True, exist_ok=True)
        target.write_bytes(content)


def main(arguments: list[str]) -> int:
    """Write the sample data of the project that the environment names; return the exit status."""
    folder, as_of = Path(arguments[0]), (arguments[1:] or [None])[0]
    try:
        project = Project.at(Path(os.environ[VARIABLE]))
        generator = _generator(str(project.sample_data))
        takes_as_of = as_of is not None and "as_of" in inspect.signature(generator).parameters
        _write_objects(generator(as_of=as_of) if takes_as_of else generator(), folder)
    except Exception as error:  # noqa: BLE001  # any error of the project's own function is shown
        own = [frame for frame in traceback.extract_tb(error.__traceback__) if frame.filename != __file__]
        shown = [f"{frame.filename}:{frame.lineno} in {frame.name}: {frame.line}" for frame in own]
        sys.stderr.write("\n".join([*shown[-_SHOWN_LINES:], f"{type(error).__name__}: {error}"]))
        return 1
    return 0


if __name__ == "__main__":
    sys.exit(main(sys.argv[1:]))
