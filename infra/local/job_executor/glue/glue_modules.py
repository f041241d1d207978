"""Checks what a Glue job installs before its script: only its own wheels, pinned and hashed.

Glue itself also installs from a package index. The executor refuses that, because packages from an index may
never have been tested.
"""

from __future__ import annotations

import hashlib
import re
import zipfile
from typing import TYPE_CHECKING

from infra.local.job_executor.jobs.job_records import JobExecutionError

if TYPE_CHECKING:
    from collections.abc import Mapping
    from pathlib import Path

MODULES = "--additional-python-modules"
OPTION = "--python-modules-installer-option"
REQUIREMENTS = "wheels/requirements.txt"
_PINNED = re.compile(r"([a-z0-9-]+)==(\S+) --hash=sha256:([0-9a-f]{64})")


def check_installer(arguments: Mapping[str, str]) -> str:
    """Return the zips of wheels in a job's arguments, separated by commas.

    Raises:
        JobExecutionError: The arguments allow the installer to use an index.
    """
    modules = arguments.get(MODULES, "")
    for module in filter(None, modules.split(",")):
        if not module.startswith("s3://") or not module.endswith(".gluewheels.zip"):
            raise JobExecutionError(
                f"{MODULES} has {module}, which every start would install from a package index. "
                "Use the s3:// address of a .gluewheels.zip."
            )
    if modules and arguments.get(OPTION) != "--no-index":
        raise JobExecutionError(
            f"{OPTION} is {arguments.get(OPTION)!r}, which allows a package index. Set it to --no-index."
        )
    return modules


def check_zip_of_wheels(path: Path) -> None:
    """Check that a zip of wheels holds exactly the wheels that its requirements pin, each with its hash.

    Raises:
        JobExecutionError: The zip is malformed, or wheels and requirements differ.
    """
    try:
        with zipfile.ZipFile(path) as archive:
            files = {name: archive.read(name) for name in archive.namelist()}
    except zipfile.BadZipFile as error:
        raise JobExecutionError(f"{path.name} is not a zip: {error}. Upload it again.") from error
    if REQUIREMENTS not in files:
        raise JobExecutionError(f"{path.name} has no {REQUIREMENTS}. Build it with infra.glue_wheels.")
    wanted = set()
    for line in files.pop(REQUIREMENTS).decode().splitlines():
        pinned = _PINNED.fullmatch(line)
        if pinned is None:
            raise JobExecutionError(f"{path.name}: the requirement {line!r} is not pinned with a hash.")
        wanted.add(pinned.groups())
    found = {_described(name, content) for name, content in files.items()}
    if found != wanted:
        differing = ", ".join(sorted({f"{name} {version}" for name, version, _ in found ^ wanted}))
        raise JobExecutionError(f"{path.name}: its wheels and its requirements differ: {differing}.")


def _described(name: str, content: bytes) -> tuple[str, str, str]:
    """Return name, version and SHA-256 of a wheel; for other files, values that match no requirement."""
    package, _, rest = name.removeprefix("wheels/").partition("-")
    version = rest.partition("-")[0] if name.endswith(".whl") else ""
    return package.replace("_", "-").lower(), version, hashlib.sha256(content).hexdigest()
