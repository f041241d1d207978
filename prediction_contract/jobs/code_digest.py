"""The digest of the code that jobs run. It names an upload and tells whether a checkout has changed."""

from __future__ import annotations

import hashlib
import re
from collections.abc import Mapping
from pathlib import Path

PYTHON_VERSION = "3.11"

# The packages of each deployable: its own, and those that it imports.
DEPLOYED_PACKAGES = {
    "api_lambda": ("api_lambda", "aws_wire", "prediction_contract"),
    "glue_scripts": ("glue_scripts", "aws_wire", "prediction_contract"),
    "sagemaker_scripts": ("sagemaker_scripts", "prediction_batches", "prediction_contract"),
}
# Increased whenever archives are built differently, so that their digests differ.
_FORMAT = b"2"
_UPLOADED = re.compile(r"(?:^|/)code/[a-z][a-z0-9_]*/([0-9a-f]{64})[/.]")
_VERSION_DIGITS = 16
# Importable packages are installed side by side. The wheel keeps the other packages elsewhere.
_IMPORTED = {"prediction_batches", "prediction_contract"}
_BESIDE = Path(__file__).resolve().parents[2]


def source_files(folder: Path, root: Path) -> dict[str, bytes]:
    """Return a folder's files by path relative to `root`, without caches and hidden files."""
    found = {}
    for path in sorted(folder.rglob("*")):
        parts = path.relative_to(root).parts
        hidden = any(part.startswith(".") or part == "__pycache__" for part in parts)
        if path.is_file() and not path.is_symlink() and not hidden and path.suffix != ".pyc":
            found["/".join(parts)] = path.read_bytes()
    return found


def code_digest(files: Mapping[str, bytes], *others: bytes) -> str:
    """Return the SHA-256, in hex, of files, other contents of an archive, and the Python version."""
    digest = hashlib.sha256()
    parts = (part for name in sorted(files) for part in (name.encode(), files[name]))
    for part in (_FORMAT, PYTHON_VERSION.encode(), *others, *parts):
        digest.update(len(part).to_bytes(8, "big") + part)
    return digest.hexdigest()


def package_folder(package: str, platform: Path) -> Path:
    """Return the folder of one of the platform's packages.

    Args:
        package: The package's name.
        platform: The folder of the platform's packages, in the checkout or in the installed wheel. An
            importable package that is not in it is looked up beside this package.
    """
    folder = platform / package
    is_installed = package in _IMPORTED and not (folder / "__init__.py").is_file()
    return _BESIDE / package if is_installed else folder


def deployed_files(deployable: str, platform: Path) -> dict[str, bytes] | None:
    """Return the files of a deployable's packages by path, or None if a package is missing.

    Args:
        deployable: One of `DEPLOYED_PACKAGES`.
        platform: As in `package_folder`. In a Dagster image, the packages of the jobs are missing.
    """
    found: dict[str, bytes] = {}
    for package in DEPLOYED_PACKAGES[deployable]:
        folder = package_folder(package, platform)
        if not (folder / "__init__.py").is_file():
            return None
        found |= source_files(folder, folder.parent)
    return found


def deployed_digest(deployable: str, platform: Path, project_files: Mapping[str, bytes]) -> str | None:
    """Return the digest of a deployable's current code, or None if a package is missing.

    Args:
        deployable: One of `DEPLOYED_PACKAGES`.
        platform: As in `package_folder`.
        project_files: The project's files in the deployable, by path. Only SageMaker's jobs have any.
    """
    files = deployed_files(deployable, platform)
    return None if files is None else code_digest({**files, **project_files})


def uploaded_digest(key: str) -> str | None:
    """Return the digest in the key or address of uploaded code, or None if it has none."""
    found = _UPLOADED.search(key)
    return found[1] if found else None


def code_version(digest: str) -> str:
    """Return the short form of a digest, for manifests and people."""
    return digest[:_VERSION_DIGITS]
