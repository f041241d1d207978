"""Build the zip of wheels from which Glue installs the load job's packages, without a package index.

AWS documents the format: a folder `wheels` with the wheels and a `requirements.txt`, in an archive whose name
ends in `.gluewheels.zip`.
"""

from __future__ import annotations

import hashlib
import re
import sys
import tempfile
import zipfile
from pathlib import Path
from typing import TYPE_CHECKING

from infra.packaging import (
    PLATFORM,
    PYTHON_VERSION,
    Archive,
    PackagingError,
    archive_at,
    run_installer,
    write_archive,
    zipped,
)

if TYPE_CHECKING:
    from collections.abc import Mapping

LOCK = PLATFORM / "requirements" / "glue.lock"
# The platforms of Amazon Linux 2023, on which Glue 5.1 runs.
_PLATFORMS = ("manylinux_2_28_x86_64", "manylinux2014_x86_64")
_LOCKED = re.compile(r"^([a-z0-9-]+)==(\S+)", re.MULTILINE)
# Change this when the archive's format changes.
_FORMAT = b"1"


def locked_releases() -> dict[str, str]:
    """Return the locked version of each of the job's packages, by name."""
    return dict(_LOCKED.findall(LOCK.read_text(encoding="utf-8")))


def wheels_digest() -> str:
    """Return the hex digest that names the archive, made from the lock file alone."""
    parts = (_FORMAT, PYTHON_VERSION.encode(), ",".join(_PLATFORMS).encode(), LOCK.read_bytes())
    return hashlib.sha256(b"\0".join(parts)).hexdigest()


def build_glue_wheels(out_dir: Path) -> Archive:
    """Build the archive of the locked wheels; downloads 80 MB, once per lock file.

    Args:
        out_dir: The folder for archives.

    Raises:
        PackagingError: A wheel cannot be downloaded, or its hash differs from the locked one.
    """
    path = out_dir / f"glue-{wheels_digest()[:16]}.gluewheels.zip"
    if not path.exists():
        write_archive(path, zip_of_wheels(_downloaded(out_dir)))
    return archive_at(path)


def zip_of_wheels(wheels: Mapping[str, bytes]) -> bytes:
    """Return the archive of wheels, with requirements that pin each wheel by its hash.

    Args:
        wheels: The wheels' contents by file name.

    Raises:
        PackagingError: There is not exactly one wheel for each locked release.
    """
    found = {_release(name): content for name, content in wheels.items()}
    locked = locked_releases()
    if found.keys() != locked.items() or len(found) != len(wheels):
        differing = sorted(f"{name} {version}" for name, version in found.keys() ^ set(locked.items()))
        raise PackagingError(
            f"The wheels differ from {LOCK}: {', '.join(differing)}. Run `make lock`, then build again."
        )
    # If a requirements file has hashes, the installer checks all of them.
    requirements = "".join(
        f"{name}=={version} --hash=sha256:{hashlib.sha256(content).hexdigest()}\n"
        for (name, version), content in sorted(found.items())
    )
    files = {f"wheels/{name}": content for name, content in wheels.items()}
    # A wheel is compressed already.
    return zipped({**files, "wheels/requirements.txt": requirements.encode()}, zipfile.ZIP_STORED)


def _release(wheel: str) -> tuple[str, str]:
    """Return the name and version in a wheel's file name."""
    name, version = wheel.split("-")[:2]
    return name.replace("_", "-").lower(), version


def _downloaded(out_dir: Path) -> dict[str, bytes]:
    command = [sys.executable, "-m", "pip", "download", "--quiet", "--no-deps", "--require-hashes"]
    command += ["--only-binary", ":all:", "--implementation", "cp", "--python-version", PYTHON_VERSION]
    for platform in _PLATFORMS:
        command += ["--platform", platform]
    out_dir.mkdir(parents=True, exist_ok=True)
    with tempfile.TemporaryDirectory(dir=out_dir, prefix=".download-") as scratch:
        run_installer([*command, "--dest", scratch, "--requirement", str(LOCK)], LOCK, "Glue")
        return {path.name: path.read_bytes() for path in Path(scratch).iterdir()}
