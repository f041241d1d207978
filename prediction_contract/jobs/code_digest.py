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
    "sagemaker_scripts": ("sagemaker_scripts", "prediction_contract"),
}
# Changes with the way archives are made, so that none made another way is taken for the same.
_FORMAT = b"2"
_UPLOADED = re.compile(r"(?:^|/)code/[a-z][a-z0-9_]*/([0-9a-f]{64})[/.]")
_VERSION_DIGITS = 16


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


def checkout_digest(deployable: str, root: Path) -> str | None:
    """Return the digest of a deployable's code in a checkout, or None if the code is not there.

    Args:
        deployable: One of `DEPLOYED_PACKAGES`.
        root: The checkout's folder. An image of Dagster holds no code of jobs.
    """
    if not (root / deployable / "__init__.py").is_file():
        return None
    files = [source_files(root / package, root) for package in DEPLOYED_PACKAGES[deployable]]
    return code_digest({path: content for each in files for path, content in each.items()})


def uploaded_digest(key: str) -> str | None:
    """Return the digest in the key or address of uploaded code, or None if it is named otherwise."""
    found = _UPLOADED.search(key)
    return found[1] if found else None


def code_version(digest: str) -> str:
    """Return the short form of a digest, which manifests and people use."""
    return digest[:_VERSION_DIGITS]
