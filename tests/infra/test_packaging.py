"""Archives are complete and small, and the same sources give the same bytes."""

from __future__ import annotations

import gzip
import hashlib
import io
import json
import subprocess
import sys
import sysconfig
import tarfile
import zipfile
from pathlib import Path
from typing import Any

import pytest

from infra import packaging
from infra.packaging import PackagingError
from tests.projects import EXAMPLE

KEPT = EXAMPLE.packages


def members(path: Path) -> dict[str, bytes]:
    """Return the files of an archive."""
    if path.suffix == ".zip":
        with zipfile.ZipFile(path) as archive:
            return {name: archive.read(name) for name in archive.namelist()}
    with tarfile.open(path) as archive:
        found = {entry.name: archive.extractfile(entry) for entry in archive.getmembers()}
        return {name: content.read() for name, content in found.items() if content}


def test_api_archive_runs_without_the_checkout(tmp_path: Path) -> None:
    """The zip alone is imported, answers a health check and does not load slow modules at the start."""
    archive = packaging.build_api_archive(KEPT)
    assert archive.size <= packaging.LARGEST_API_ARCHIVE
    assert archive.sha256 == hashlib.sha256(archive.path.read_bytes()).hexdigest()
    with zipfile.ZipFile(archive.path) as opened:
        opened.extractall(tmp_path)
    program = """
import types
from api_lambda.handler import handler
answer = handler({"httpMethod": "GET", "path": "/healthz"}, types.SimpleNamespace(aws_request_id="r"))
assert answer["statusCode"] == 200, answer
import cryptography, sys
print(cryptography.__file__)
assert not {"boto3", "botocore", "orjson", "dagster"} & set(sys.modules)
# What only some requests need comes with them.
assert not {"http.client", "email", "ssl", "urllib.request", "asyncio"} & set(sys.modules)
"""
    variables = {
        "AWS_REGION": "us-east-1",
        "AWS_ACCESS_KEY_ID": "a",
        "AWS_SECRET_ACCESS_KEY": "b",
        "MLPIPE_STAGE": "local",
        "MLPIPE_ACCOUNT_ID": "000000000000",
        "MLPIPE_TOKEN_ISSUER": "https://issuer.example",
        "MLPIPE_JWKS_URL": "https://issuer.example/jwks.json",
        "MLPIPE_TOKEN_CLIENT_IDS": "c",
    }
    # Isolated and without site-packages, so only the zip's modules can be imported.
    done = subprocess.run(
        [sys.executable, "-S", "-s", "-c", program],
        cwd=tmp_path,
        env=variables,
        capture_output=True,
        text=True,
        timeout=60,
        check=False,
    )
    assert done.returncode == 0, done.stderr
    assert done.stdout.splitlines()[-1].startswith(str(tmp_path))


def test_api_archive_holds_no_trace_of_the_build_machine() -> None:
    """It has no programs or installation records, and its entries have fixed order, times and permissions."""
    with zipfile.ZipFile(packaging.build_api_archive(KEPT).path) as archive:
        entries = archive.infolist()
    names = [entry.filename for entry in entries]
    assert names == sorted(names)
    assert {entry.date_time for entry in entries} == {(1980, 1, 1, 0, 0, 0)}
    assert {entry.external_attr >> 16 for entry in entries} == {0o100644, 0o100755}
    assert [name for name in names if name.endswith(("RECORD", "INSTALLER")) or "/bin/" in name] == []
    assert {"api_lambda/handler.py", "prediction_contract/stores/serving_record.py"} <= set(names)
    assert {name.split("/")[0] for name in names if name.endswith(".py")} <= {
        "api_lambda",
        "aws_wire",
        "prediction_contract",
        "cryptography",
        "cffi",
        "pycparser",
    }


@pytest.mark.skipif(
    sys.version_info[:2] != (3, 11), reason="another Python's byte code is of no use to Lambda"
)
def test_api_archive_contains_byte_code(tmp_path: Path) -> None:
    """Lambda imports it without compiling, and tracebacks name Lambda's folder."""
    with zipfile.ZipFile(packaging.build_api_archive(KEPT).path) as archive:
        archive.extractall(tmp_path)
        names = archive.namelist()
    compiled = {name for name in names if name.endswith(".pyc")}
    for name in (name for name in names if name.endswith(".py")):
        folder, _, file = name.rpartition("/")
        assert f"{folder}/__pycache__/{file.removesuffix('.py')}.cpython-311.pyc" in compiled
    # Invalid sources prove that only the byte code is used.
    for path in (tmp_path / "api_lambda").glob("*.py"):
        path.write_text("this is no Python")
    program = "from api_lambda.routes import find_route; print(find_route('/healthz')[0].name)"
    done = subprocess.run(
        [sys.executable, "-S", "-s", "-c", program],
        cwd=tmp_path,
        env={},
        capture_output=True,
        text=True,
        timeout=60,
        check=True,
    )
    assert done.stdout.strip() == "/healthz"
    content = (tmp_path / "api_lambda" / "__pycache__" / "routes.cpython-311.pyc").read_bytes()
    assert b"/var/task/api_lambda/routes.py" in content


def test_api_archive_is_reproducible(tmp_path: Path) -> None:
    """Another process that builds it in another folder gets the same bytes."""
    first = packaging.build_api_archive(KEPT)
    program = """
import pathlib, sys
from infra.packaging import build_api_archive
print(build_api_archive(pathlib.Path(sys.argv[1])).sha256)
"""
    done = subprocess.run(
        [sys.executable, "-c", program, str(tmp_path / "elsewhere")],
        cwd=packaging.PLATFORM,
        capture_output=True,
        text=True,
        timeout=300,
        check=True,
    )
    assert done.stdout.strip() == first.sha256


def test_job_archives_change_only_with_their_sources(checkout: Path, tmp_path: Path) -> None:
    """Touched and unrelated files change no digest; an edited source changes every digest."""

    def built(out: str) -> list[str]:
        made: list[Any] = [
            packaging.build_glue_archive(tmp_path / out),
            packaging.build_sagemaker_code(EXAMPLE, tmp_path / out),
        ]
        return [text for each in made for text in (each.archive.sha256, each.digest)]

    first = built("first")
    (checkout / "prediction_contract" / "__pycache__").mkdir()
    (checkout / "prediction_contract" / "__pycache__" / "work.cpython-311.pyc").write_bytes(b"x")
    (checkout / "prediction_contract" / ".editor").write_text("x")
    for path in checkout.rglob("*.py"):
        path.chmod(0o700)
        path.touch()
    assert built("second") == first
    (checkout / "prediction_contract" / "work.py").write_text("# other\n")
    changed = built("third")
    assert all(one != other for one, other in zip(first, changed, strict=True))


@pytest.mark.usefixtures("checkout")
def test_job_archives_contain_their_packages(tmp_path: Path) -> None:
    """Code and data files are stored under their import paths, and no other packages are."""
    out = tmp_path / "out"
    for code, package, others in (
        (packaging.build_glue_archive(out), "glue_scripts", {"aws_wire", "prediction_contract"}),
        (
            packaging.build_sagemaker_code(EXAMPLE, out),
            "sagemaker_scripts",
            {"prediction_batches", "prediction_contract", "flights"},
        ),
    ):
        assert members(code.archive.path) == code.files
        assert {f"{package}/work.py", "prediction_contract/part/schema.json"} <= set(code.files)
        assert {name.split("/")[0] for name in code.files} == {package, *others}


@pytest.mark.parametrize("deployable", ["glue_scripts", "sagemaker_scripts"])
def test_job_archive_is_imported_without_the_checkout(deployable: str, tmp_path: Path) -> None:
    """All modules come from the archive, with only third-party packages beside it."""
    if deployable == "glue_scripts":
        path = packaging.build_glue_archive(KEPT).archive.path
    else:
        path = tmp_path / "code"
        with tarfile.open(packaging.build_sagemaker_code(EXAMPLE, KEPT).archive.path) as archive:
            archive.extractall(path, filter="data")
    program = """
import importlib, json, pkgutil, sys
code, third_parties, package = sys.argv[1:]
sys.path[:0] = [code]
# Without its .pth files, which lead to the checkout.
sys.path.append(third_parties)
names = [package, *(found.name for found in pkgutil.walk_packages([f"{code}/{package}"], f"{package}."))]
modules = [importlib.import_module(name) for name in names if "model_template" not in name]
contract = importlib.import_module("prediction_contract.manifests.manifest")
print(json.dumps([module.__file__ for module in [*modules, contract]]))
"""
    done = subprocess.run(
        [sys.executable, "-S", "-s", "-c", program, str(path), sysconfig.get_path("purelib"), deployable],
        cwd=tmp_path,
        env={},
        capture_output=True,
        text=True,
        timeout=120,
        check=False,
    )
    assert done.returncode == 0, done.stderr
    files = json.loads(done.stdout)
    assert len(files) > 5
    assert all(file.startswith(str(path)) for file in files)


@pytest.mark.parametrize(("platform", "machine"), [("aarch64", 183), ("x86_64", 62)])
def test_api_libraries_match_the_processor(platform: packaging.Platform, machine: int) -> None:
    """The ELF header of each compiled library names the function's processor."""
    with zipfile.ZipFile(packaging.build_api_archive(KEPT, platform=platform).path) as archive:
        headers = [archive.read(name)[:20] for name in archive.namelist() if name.endswith(".so")]
    assert headers
    assert {int.from_bytes(header[18:20], "little") for header in headers} == {machine}


@pytest.mark.usefixtures("checkout")
def test_code_digest_does_not_depend_on_compression(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    """Templates and uploads may be made on machines whose compression libraries differ."""
    here = packaging.build_sagemaker_code(EXAMPLE, tmp_path / "here")
    compressed = packaging._tar_gz
    monkeypatch.setattr(
        packaging, "_tar_gz", lambda files: gzip.compress(gzip.decompress(compressed(files)), 1)
    )
    there = packaging.build_sagemaker_code(EXAMPLE, tmp_path / "there")
    assert there.archive.sha256 != here.archive.sha256
    assert there.digest == here.digest


def test_missing_package_is_named(checkout: Path, tmp_path: Path) -> None:
    """No archive is built when its package is missing."""
    (checkout / "glue_scripts" / "__init__.py").unlink()
    with pytest.raises(PackagingError, match="glue_scripts"):
        packaging.build_glue_archive(tmp_path / "out")
    assert not (tmp_path / "out").exists()


def test_existing_archive_is_reused(checkout: Path, tmp_path: Path) -> None:
    """An archive of unchanged sources is not rebuilt, and old archives of its kind are deleted."""
    out = tmp_path / "out"
    first = packaging.build_glue_archive(out).archive
    moment = first.path.stat().st_mtime_ns
    assert packaging.build_glue_archive(out).archive == first
    assert first.path.stat().st_mtime_ns == moment
    built = [first]
    for number in range(10):
        (checkout / "glue_scripts" / "work.py").write_text(f"# {number}\n")
        built.append(packaging.build_glue_archive(out).archive)
    packaging.build_sagemaker_code(EXAMPLE, out)
    left = {path.name for path in out.iterdir()}
    assert built[-1].path.name in left
    assert len(left) == 5


def test_tar_archives_contain_no_times_and_owners() -> None:
    """Headers and entries have no times and no user ids, so the same files give the same bytes."""
    content = packaging._tar_gz({"b.py": b"2", "a.py": b"1"})
    assert content[4:8] == b"\0\0\0\0"
    with tarfile.open(fileobj=io.BytesIO(content)) as archive:
        assert [(each.name, each.mtime, each.uid, each.mode) for each in archive] == [
            ("a.py", 0, 0, 0o644),
            ("b.py", 0, 0, 0o644),
        ]
