"""A release consists of a wheel and of a source archive that builds the same wheel again."""

from __future__ import annotations

import hashlib
import os
import subprocess
import sys
import tarfile
from pathlib import Path

import pytest

from mlpipe_dagster.installed_platform import VERSION

ROOT = Path(__file__).resolve().parents[2]
WHEEL, SOURCES = f"mlpipe-{VERSION}-py3-none-any.whl", f"mlpipe-{VERSION}.tar.gz"

pytestmark = pytest.mark.slow


def digests(folder: Path) -> dict[str, str]:
    """Return the digest of each file in a folder by name."""
    return {path.name: hashlib.sha256(path.read_bytes()).hexdigest() for path in folder.iterdir()}


@pytest.fixture(scope="module")
def released(tmp_path_factory: pytest.TempPathFactory) -> Path:
    """The folder that `make dist` has filled."""
    folder = tmp_path_factory.mktemp("released")
    command = ["make", "--no-print-directory", "dist", f"DIST={folder}"]
    done = subprocess.run(command, cwd=ROOT, capture_output=True, text=True, timeout=280, check=False)
    assert done.returncode == 0, done.stdout + done.stderr
    assert done.stdout.splitlines()[-1] == f"mlpipe {VERSION}"
    assert set(digests(folder)) == {WHEEL, SOURCES}
    return folder


def test_source_archive_contains_all_tracked_files(released: Path) -> None:
    """The archive alone is enough to test, to build and to render the documentation."""
    git = ["git", "ls-files", "--cached"]
    kept = set(subprocess.check_output(git, cwd=ROOT, text=True).splitlines())
    with tarfile.open(released / SOURCES) as archive:
        held = {name.partition("/")[2] for name in archive.getnames()}
    assert {path for path in kept - held if (ROOT / path).is_file()} == set()


def test_source_archive_builds_identical_files(released: Path, tmp_path: Path) -> None:
    """Folder, file modes, umask and time zone do not change wheel and source archive."""
    with tarfile.open(released / SOURCES) as archive:
        archive.extractall(tmp_path, filter="data")
    root, built = tmp_path / f"mlpipe-{VERSION}", tmp_path / "built"
    for path in root.rglob("*"):
        path.chmod(path.stat().st_mode & 0o700)
    moment = subprocess.check_output(["git", "log", "-1", "--format=%ct"], cwd=ROOT, text=True).strip()
    subprocess.run(
        [sys.executable, "-m", "hatchling", "build", "--directory", str(built)],
        cwd=root,
        env={**os.environ, "SOURCE_DATE_EPOCH": moment, "TZ": "Asia/Tokyo"},
        umask=0o077,
        capture_output=True,
        timeout=120,
        check=True,
    )
    assert digests(built) == digests(released)
