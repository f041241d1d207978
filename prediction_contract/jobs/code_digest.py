"""The digest of the code that jobs run: an upload is named by it, and a checkout is compared with it."""

from __future__ import annotations

import hashlib
import re
from collections.abc import Mapping
from pathlib import Path

PYTHON_VERSION = "3.11"

# Each deployable's own package, and those of the project that it imports.
DEPLOYED_PACKAGES = {
    "api_lambda": ("api_lambda", "aws_wire", "prediction_contract"),
    "glue_scripts": ("glue_scripts", "aws_wire", "prediction_contract"),
    "sagemaker_scripts": ("sagemaker_scripts", "prediction_batches", "prediction_contract"),
}
# Changes with the way archives are made, so that none made another way is taken for the same.
_FORMAT = b"2"
_UPLOADED = re.compile(r"(?:^|/)code/[a-z][a-z0-9_]*/([0-9a-f]{64})[/.]")
_VERSION_DIGITS = 16
# Those that programs import lie beside one another, also where the wheel keeps the others elsewhere.
_IMPORTED = {"prediction_batches", "prediction_contract"}
_BESIDE = Path(__file__).resolve().parents[2]


def source_files(folder: Path, root: Path) -> dict[str, bytes]:
    """Return a folder's files by path below `root`, without what Python or an editor left there."""
    found = {}
    for path in sorted(folder.rglob("*")):
        parts = path.relative_to(root).parts
        hidden = any(part.startswith(".") or part == "__pycache__" for part in parts)
        if path.is_file() and not path.is_symlink() and not hidden and path.suffix != ".pyc":
            found["/".join(parts)] = path.read_bytes()
    return found


def code_digest(files: Mapping[str, bytes], *others: bytes) -> str:
    """Return a SHA-256, in hex, of everything that an archive is made of."""
    digest = hashlib.sha256()
    parts = (part for name in sorted(files) for part in (name.encode(), files[name]))
    for part in (_FORMAT, PYTHON_VERSION.encode(), *others, *parts):
        digest.update(len(part).to_bytes(8, "big") + part)
    return digest.hexdigest()


def package_folder(package: str, platform: Path) -> Path:
    """Return where a package of the platform lies; those that programs import are installed beside this one.

    Args:
        package: Its name.
        platform: The folder of the platform's packages: that of the checkout, or one in the installed wheel.
    """
    folder = platform / package
    is_installed = package in _IMPORTED and not (folder / "__init__.py").is_file()
    return _BESIDE / package if is_installed else folder


def deployed_files(deployable: str, platform: Path) -> dict[str, bytes] | None:
    """Return the files of a deployable's packages by path, or None if one is not there.

    Args:
        deployable: One of `DEPLOYED_PACKAGES`.
        platform: As `package_folder` takes it. An image of Dagster holds no code of jobs.
    """
    found: dict[str, bytes] = {}
    for package in DEPLOYED_PACKAGES[deployable]:
        folder = package_folder(package, platform)
        if not (folder / "__init__.py").is_file():
            return None
        found |= source_files(folder, folder.parent)
    return found


def deployed_digest(deployable: str, platform: Path, project_files: Mapping[str, bytes]) -> str | None:
    """Return the digest of a deployable's present code, or None if the code is not there.

    Args:
        deployable: One of `DEPLOYED_PACKAGES`.
        platform: As `package_folder` takes it.
        project_files: What of a project comes with it, by path; only the jobs of SageMaker run any.
    """
    files = deployed_files(deployable, platform)
    return None if files is None else code_digest({**files, **project_files})


def uploaded_digest(key: str) -> str | None:
    """Return the digest in the key or address of uploaded code, or None if it is named otherwise."""
    found = _UPLOADED.search(key)
    return found[1] if found else None


def code_version(digest: str) -> str:
    """Return the short form of a digest, which manifests and people use."""
    return digest[:_VERSION_DIGITS]
