"""The zip of wheels holds the locked packages that the job imports, in the layout that Glue documents."""

from __future__ import annotations

import ast
import hashlib
import io
import platform
import subprocess
import sys
import zipfile
from importlib.metadata import packages_distributions
from pathlib import Path

import pytest
from packaging.tags import Tag, compatible_tags, cpython_tags
from packaging.utils import canonicalize_name, parse_wheel_filename

from infra import glue_wheels
from infra.glue_wheels import build_glue_wheels, locked_releases, wheels_digest, zip_of_wheels
from infra.local.provisioning.provisioned_stack import stand_in_wheels
from infra.packaging import PLATFORM, PackagingError, build_glue_archive
from tests.projects import EXAMPLE

ARCHIVES = EXAMPLE.packages
# Glue provides Spark.
GLUES_OWN = {"pyspark", "py4j"}
OURS = {"glue_scripts", "aws_wire", "prediction_contract"}


def imported_packages() -> set[str]:
    """Return the third-party distributions that the job's code imports."""
    modules: set[str] = set()
    for path in (file for package in OURS for file in (PLATFORM / package).rglob("*.py")):
        for node in ast.walk(ast.parse(path.read_text(encoding="utf-8"))):
            if isinstance(node, ast.Import):
                modules |= {alias.name for alias in node.names}
            elif isinstance(node, ast.ImportFrom) and node.module and not node.level:
                modules.add(node.module)
    tops = {name.partition(".")[0] for name in modules} - OURS - GLUES_OWN - sys.stdlib_module_names
    known = packages_distributions()
    # Several distributions share the folder `snowflake`.
    names = ("snowflake-connector-python" if top == "snowflake" else known[top][0] for top in tops)
    return {str(canonicalize_name(name)) for name in names}


def glues_tags() -> set[Tag]:
    """Return the wheel tags that Glue 5 supports: CPython 3.11 on Amazon Linux 2023 with glibc 2.34."""
    platforms = [f"manylinux_2_{minor}_x86_64" for minor in range(5, 35)]
    platforms += ["manylinux1_x86_64", "manylinux2010_x86_64", "manylinux2014_x86_64"]
    return {
        *cpython_tags((3, 11), ["cp311"], platforms),
        *compatible_tags((3, 11), "cp311", platforms),
    }


def test_lock_contains_all_imported_packages() -> None:
    """A package that only tests have installed is missing on Glue, and every load would fail."""
    imported = imported_packages()
    assert {"boto3", "dagster-pipes", "deltalake", "snowflake-connector-python"} <= imported
    assert imported - locked_releases().keys() == set()


def test_job_and_tests_use_the_same_releases() -> None:
    """The job ships with the versions that the tests ran with."""
    tested = (PLATFORM / "requirements" / "dev.lock").read_text(encoding="utf-8").splitlines()
    for name, version in locked_releases().items():
        assert any(line.startswith((f"{name}=={version} ", f"{name}[")) for line in tested), (name, version)


def test_archive_has_the_layout_that_glue_installs() -> None:
    """It holds wheels and requirements pinned by hash, and the same wheels give the same bytes."""
    content = stand_in_wheels()
    with zipfile.ZipFile(io.BytesIO(content)) as archive:
        files = {name: archive.read(name) for name in archive.namelist()}
    requirements = files.pop("wheels/requirements.txt").decode().splitlines()
    assert len(requirements) == len(files) == len(locked_releases())
    empty = hashlib.sha256(b"").hexdigest()
    assert f"deltalake=={locked_releases()['deltalake']} --hash=sha256:{empty}" in requirements
    assert all(name.startswith("wheels/") and name.endswith(".whl") for name in files)
    assert stand_in_wheels() == content


@pytest.mark.parametrize("change", ["missing", "doubled", "foreign"])
def test_wheels_that_differ_from_the_lock_are_refused(change: str) -> None:
    """Missing, duplicate or unlocked wheels are errors that name the lock file."""
    with zipfile.ZipFile(io.BytesIO(stand_in_wheels())) as archive:
        names = [name.removeprefix("wheels/") for name in archive.namelist() if name.endswith(".whl")]
    wheels = dict.fromkeys(names, b"")
    if change == "missing":
        del wheels[next(name for name in wheels if name.startswith("deltalake"))]
    elif change == "doubled":
        wheels[f"deltalake-{locked_releases()['deltalake']}-cp310-abi3-any.whl"] = b""
    else:
        wheels["deltalake-0.0.1-py3-none-any.whl"] = b""
    with pytest.raises(PackagingError, match=r"glue\.lock.*Run `make lock`"):
        zip_of_wheels(wheels)


def test_changed_lock_changes_the_digest(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    """Running jobs keep their wheels, and the next job gets the new ones."""
    before = wheels_digest()
    changed = tmp_path / "glue.lock"
    changed.write_bytes(glue_wheels.LOCK.read_bytes() + b"\n")
    monkeypatch.setattr(glue_wheels, "LOCK", changed)
    assert wheels_digest() != before


@pytest.mark.slow
def test_locked_wheels_are_made_for_glue() -> None:
    """Every wheel has its locked hash and supports Glue's Python and processor."""
    locked = glue_wheels.LOCK.read_text(encoding="utf-8")
    with zipfile.ZipFile(build_glue_wheels(ARCHIVES).path) as archive:
        for name in archive.namelist():
            if name.endswith(".whl"):
                assert hashlib.sha256(archive.read(name)).hexdigest() in locked
                assert parse_wheel_filename(name.removeprefix("wheels/"))[3] & glues_tags(), name


@pytest.mark.slow
@pytest.mark.skipif(
    (sys.platform, platform.machine(), sys.version_info[:2]) != ("linux", "x86_64", (3, 11)),
    reason="only Glue's own platform imports its wheels",
)
def test_job_imports_only_from_its_wheels(tmp_path: Path) -> None:
    """The archive installs without an index, and all job modules can be imported with it."""
    with zipfile.ZipFile(build_glue_wheels(ARCHIVES).path) as archive:
        archive.extractall(tmp_path)
    wheels, installed = tmp_path / "wheels", tmp_path / "installed"
    uv = str(Path(sys.executable).with_name("uv"))
    install = [uv, "pip", "install", "--quiet", "--no-index", "--require-hashes", "--find-links", str(wheels)]
    install += ["--target", str(installed), "--requirement", str(wheels / "requirements.txt")]
    subprocess.run(install, timeout=120, check=True)
    program = """
import importlib, pkgutil, sys
code, third_parties = sys.argv[1:]
sys.path[:0] = [code, third_parties]
for found in pkgutil.walk_packages([f"{code}/glue_scripts"], "glue_scripts."):
    print(importlib.import_module(found.name).__name__)
import dagster_pipes
"""
    code = str(build_glue_archive(ARCHIVES).archive.path)
    imported = [sys.executable, "-S", "-s", "-c", program, code, str(installed)]
    done = subprocess.run(imported, cwd=tmp_path, env={}, stdout=subprocess.PIPE, timeout=120, check=True)
    assert "glue_scripts.load_predictions" in done.stdout.decode().splitlines()
