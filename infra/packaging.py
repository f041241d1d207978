"""Build the archives of the Lambda function, the Glue job and the SageMaker jobs: `mlpipe package`.

The same sources and lock file give the same bytes. An archive's name contains the digest of its sources, so
existing archives are not built again.
"""

from __future__ import annotations

import argparse
import gzip
import hashlib
import io
import os
import platform as host_platform
import shutil
import stat
import subprocess
import sys
import tarfile
import tempfile
import zipfile
from dataclasses import dataclass
from pathlib import Path
from typing import TYPE_CHECKING, Literal, get_args

import uv

from model_declaration.project import Project, ProjectError, job_files
from prediction_contract.jobs.code_digest import PYTHON_VERSION, code_digest, deployed_files, source_files

if TYPE_CHECKING:
    from collections.abc import Callable, Mapping

Platform = Literal["host", "aarch64", "x86_64"]
# The folder of the platform's packages: the checkout, or a folder in the installed wheel.
PLATFORM = Path(__file__).resolve().parents[1]
LARGEST_API_ARCHIVE = 8 * 1024 * 1024

_LOCK = PLATFORM / "requirements" / "api.lock"
_INSTALL_SECONDS = 600
_KEPT_ARCHIVES = 4
# The earliest time that a zip can hold.
_ZIP_MOMENT = (1980, 1, 1, 0, 0, 0)
_FILE_MODE = stat.S_IFREG | 0o644
_LIBRARY_MODE = stat.S_IFREG | 0o755
_COMPILE_SECONDS = 120
# The folder into which Lambda unpacks an archive, for the paths in tracebacks.
_TASK_ROOT = "/var/task"


class PackagingError(Exception):
    """An archive cannot be built. The message names the cause and the remedy."""


@dataclass(frozen=True, slots=True)
class Archive:
    """A built archive.

    Attributes:
        path: The archive's path.
        sha256: The SHA-256 of its bytes, in hex.
        size: Its size in bytes.
    """

    path: Path
    sha256: str
    size: int


@dataclass(frozen=True, slots=True)
class CodeTree:
    """Code as files, and as one archive of the same files.

    Attributes:
        files: The contents by path, with `/` between parts.
        archive: The archive of all files; a zip for Glue, a `tar.gz` for SageMaker.
        digest: SHA-256 of the files, in hex. It does not depend on the machine's compression library.
    """

    files: Mapping[str, bytes]
    archive: Archive
    digest: str


def build_api_archive(out_dir: Path, *, platform: Platform = "host") -> Archive:
    """Build the Lambda's zip: its packages, their locked dependencies, and the byte code of both.

    A function cannot write to its code's folder, so without byte code every cold start would compile it.

    Args:
        out_dir: The folder for archives.
        platform: The function's platform; `host` is this machine's.

    Raises:
        PackagingError: A package is missing, the dependencies cannot be installed, or the zip is too large.
    """
    sources = platform_files("api_lambda")
    machine = _machine(platform)
    lock = _LOCK.read_bytes()
    digest = code_digest(sources, machine.encode(), lock, sys.version.encode())
    path = out_dir / f"api_lambda-{machine}-{digest[:16]}.zip"
    if not path.exists():
        packages = _installed(out_dir, machine, lock)
        files = {**packages, **sources}
        write_archive(path, zipped({**files, **_byte_code(files)}))
    archive = archive_at(path)
    if archive.size > LARGEST_API_ARCHIVE:
        raise PackagingError(
            f"{path} has {archive.size} bytes; at most {LARGEST_API_ARCHIVE} are allowed. Remove a package "
            "from the group `api` of pyproject.toml, or exclude files of a package that are not imported."
        )
    return archive


def build_glue_archive(out_dir: Path) -> CodeTree:
    """Build the zip for Glue's `--extra-py-files`.

    Raises:
        PackagingError: A package is missing.
    """
    return _code_tree("glue_scripts", platform_files("glue_scripts"), out_dir, "zip", zipped)


def build_sagemaker_code(project: Project, out_dir: Path) -> CodeTree:
    """Build the code of SageMaker jobs: files for processing inputs, a `tar.gz` for training jobs.

    Args:
        project: The project whose package is added to the platform's.
        out_dir: The folder for archives.

    Raises:
        PackagingError: A package is missing.
    """
    return _code_tree("sagemaker_scripts", sagemaker_files(project), out_dir, "tar.gz", _tar_gz)


def sagemaker_files(project: Project) -> dict[str, bytes]:
    """Return the files of SageMaker jobs' code by path, with the project's files.

    Raises:
        PackagingError: A package is missing.
    """
    return {**platform_files("sagemaker_scripts"), **job_files(project.package_folder)}


def _code_tree(
    deployable: str,
    sources: Mapping[str, bytes],
    out_dir: Path,
    ending: str,
    pack: Callable[[Mapping[str, bytes]], bytes],
) -> CodeTree:
    digest = code_digest(sources)
    path = out_dir / f"{deployable}-{digest[:16]}.{ending}"
    if not path.exists():
        write_archive(path, pack(sources))
    return CodeTree(sources, archive_at(path), digest)


def platform_files(deployable: str) -> dict[str, bytes]:
    """Return the files of a deployable's packages by path, without caches and editors' files.

    Raises:
        PackagingError: A package is missing.
    """
    files = deployed_files(deployable, PLATFORM)
    if files is None:
        raise PackagingError(
            f"{PLATFORM} lacks packages of {deployable}. Run this in a complete checkout or installation."
        )
    return files


def _machine(platform: Platform) -> str:
    if platform != "host":
        return platform
    machine = host_platform.machine().lower()
    return {"arm64": "aarch64", "amd64": "x86_64"}.get(machine, machine) + f"-{sys.platform}"


def _installed(out_dir: Path, machine: str, lock: bytes) -> dict[str, bytes]:
    """Return the files of the locked packages, installed once per lock and machine."""
    kept = out_dir / f"packages-{machine}-{hashlib.sha256(lock).hexdigest()[:16]}"
    if not kept.is_dir():
        out_dir.mkdir(parents=True, exist_ok=True)
        with tempfile.TemporaryDirectory(dir=out_dir, prefix=".install-") as scratch:
            target = Path(scratch) / "packages"
            _install(target, machine)
            try:
                target.rename(kept)
            except OSError:
                # A concurrent build finished first; its files are the same.
                if not kept.is_dir():
                    raise
    return {path: content for path, content in source_files(kept, kept).items() if _is_needed(path)}


def _is_needed(path: str) -> bool:
    """Return False for files that no import needs: programs, and installation records with local paths."""
    top, _, rest = path.partition("/")
    return top != "bin" and not (
        top.endswith(".dist-info") and rest in {"RECORD", "INSTALLER", "REQUESTED", "direct_url.json"}
    )


def _install(target: Path, machine: str) -> None:
    command = [uv.find_uv_bin(), "pip", "install", "--quiet", "--no-compile", "--no-deps", "--require-hashes"]
    command += ["--only-binary", ":all:", "--link-mode", "copy", "--target", str(target)]
    command += ["--python", sys.executable, "--python-version", PYTHON_VERSION]
    if machine in get_args(Platform):
        command += ["--python-platform", f"{machine}-manylinux2014"]
    run_installer([*command, "--requirements", str(_LOCK)], _LOCK, machine)


def run_installer(command: list[str], lock: Path, machine: str) -> None:
    """Run a package installer.

    Args:
        command: The command line.
        lock: The lock file, for the message.
        machine: The machine type of the packages, for the message.

    Raises:
        PackagingError: The installer fails or takes too long.
    """
    try:
        done = subprocess.run(command, capture_output=True, text=True, timeout=_INSTALL_SECONDS, check=False)
    except subprocess.TimeoutExpired as error:
        raise PackagingError(
            f"Installing the packages of {lock} took longer than {_INSTALL_SECONDS} s. Run this again."
        ) from error
    if done.returncode != 0:
        raise PackagingError(
            f"The packages of {lock} cannot be installed for {machine}: {done.stderr.strip()[-1000:]}. "
            "Check that the package registry answers, then run this again."
        )


def _byte_code(files: Mapping[str, bytes]) -> dict[str, bytes]:
    """Return the byte code of Python files, in the form that is used without checking the source.

    Empty if this Python's version is not the function's. A new process compiles it, because the marshalled
    constants depend on what the process did before.
    """
    if f"{sys.version_info.major}.{sys.version_info.minor}" != PYTHON_VERSION:
        return {}
    with tempfile.TemporaryDirectory() as scratch:
        root = Path(scratch)
        for name in (name for name in files if name.endswith(".py")):
            (root / name).parent.mkdir(parents=True, exist_ok=True)
            (root / name).write_bytes(files[name])
        command = [
            sys.executable,
            "-S",
            "-s",
            "-m",
            "compileall",
            "-q",
            "--invalidation-mode",
            "unchecked-hash",
        ]
        done = subprocess.run(
            [*command, "-s", scratch, "-p", _TASK_ROOT, scratch],
            env={"PYTHONHASHSEED": "0"},
            capture_output=True,
            text=True,
            timeout=_COMPILE_SECONDS,
            check=False,
        )
        if done.returncode != 0:
            raise PackagingError(f"The archive's code cannot be compiled: {done.stdout[-1000:]}")
        return {path.relative_to(root).as_posix(): path.read_bytes() for path in root.rglob("*.pyc")}


def zipped(files: Mapping[str, bytes], compression: int = zipfile.ZIP_DEFLATED) -> bytes:
    """Return a zip of files; the same files give the same bytes."""
    buffer = io.BytesIO()
    with zipfile.ZipFile(buffer, "w") as archive:
        for name in sorted(files):
            entry = zipfile.ZipInfo(name, _ZIP_MOMENT)
            entry.create_system = 3
            entry.external_attr = (_LIBRARY_MODE if name.endswith(".so") else _FILE_MODE) << 16
            entry.compress_type = compression
            archive.writestr(entry, files[name], compresslevel=6)
    return buffer.getvalue()


def _tar_gz(files: Mapping[str, bytes]) -> bytes:
    buffer = io.BytesIO()
    # gzip also writes a time into its header.
    with (
        gzip.GzipFile(filename="", mode="wb", fileobj=buffer, compresslevel=9, mtime=0) as packed,
        tarfile.open(fileobj=packed, mode="w", format=tarfile.PAX_FORMAT) as archive,
    ):
        for name in sorted(files):
            entry = tarfile.TarInfo(name)
            entry.size, entry.mode, entry.mtime = len(files[name]), 0o644, 0
            archive.addfile(entry, io.BytesIO(files[name]))
    return buffer.getvalue()


def write_archive(path: Path, content: bytes) -> None:
    """Write a file atomically, because other processes may look for it."""
    path.parent.mkdir(parents=True, exist_ok=True)
    with tempfile.NamedTemporaryFile(dir=path.parent, prefix=".build-", delete=False) as scratch:
        scratch.write(content)
    # A temporary file is readable by its owner only.
    Path(scratch.name).chmod(0o644)
    shutil.move(scratch.name, path)
    _remove_older_archives(path)


def _remove_older_archives(path: Path) -> None:
    """Remove all but the newest archives of this kind, since every change of the code adds one."""
    kind = path.name.rpartition("-")[0]
    same = [other for other in path.parent.iterdir() if other.name.rpartition("-")[0] == kind]
    archives = [other for other in same if other.is_file() and other != path]
    for other in sorted(archives, key=lambda each: each.stat().st_mtime)[: -_KEPT_ARCHIVES + 1]:
        other.unlink(missing_ok=True)


def archive_at(path: Path) -> Archive:
    """Return the archive at a path."""
    content = path.read_bytes()
    return Archive(path, hashlib.sha256(content).hexdigest(), len(content))


def main(arguments: list[str] | None = None) -> int:
    """Build everything and print what was built."""
    parser = argparse.ArgumentParser(prog="python -m infra.packaging", description=__doc__)
    parser.add_argument("--out", type=Path, help="output folder; default: .mlpipe/packages in the project")
    parser.add_argument(
        "--platform",
        choices=get_args(Platform),
        default="host",
        help="platform of the Lambda function; default: this machine's",
    )
    options = parser.parse_args(arguments)
    try:
        project = Project.find(os.environ, Path.cwd())
        project.make_state_folder()
        out: Path = options.out or project.packages
        built = (
            build_api_archive(out, platform=options.platform),
            build_glue_archive(out).archive,
            build_sagemaker_code(project, out).archive,
        )
    except (PackagingError, ProjectError) as error:
        sys.stderr.write(f"mlpipe package: {error}\n")
        return 1
    except OSError as error:
        sys.stderr.write(
            f"mlpipe package: {error}. Free disk space or make the folder writable, then run this again.\n"
        )
        return 1
    for archive in built:
        sys.stdout.write(f"{archive.sha256}  {archive.size:>9}  {archive.path}\n")
    return 0


if __name__ == "__main__":
    sys.exit(main())
