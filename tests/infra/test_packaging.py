"""Archives: complete, small, and the same bytes from the same sources."""

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
    """Return an archive's files."""
    if path.suffix == ".zip":
        with zipfile.ZipFile(path) as archive:
            return {name: archive.read(name) for name in archive.namelist()}
    with tarfile.open(path) as archive:
        found = {entry.name: archive.extractfile(entry) for entry in archive.getmembers()}
        return {name: content.read() for name, content in found.items() if content}


def test_the_api_s_archive_answers_by_itself(tmp_path: Path) -> None:
    """The zip alone, without the checkout and its environment, imports and answers a health check."""
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
    # Isolated and without site-packages: what the zip lacks is lacking.
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


def test_the_api_s_archive_holds_no_trace_of_the_machine() -> None:
    """No program, no record of the installation; sorted, with fixed times and permissions."""
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
def test_the_api_s_archive_brings_its_byte_code(tmp_path: Path) -> None:
    """Python imports it without compiling anything, and it names Lambda's folder, not the builder's."""
    with zipfile.ZipFile(packaging.build_api_archive(KEPT).path) as archive:
        archive.extractall(tmp_path)
        names = archive.namelist()
    compiled = {name for name in names if name.endswith(".pyc")}
    for name in (name for name in names if name.endswith(".py")):
        folder, _, file = name.rpartition("/")
        assert f"{folder}/__pycache__/{file.removesuffix('.py')}.cpython-311.pyc" in compiled
    # Sources that cannot be compiled any more are not looked at.
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


def test_the_api_s_archive_is_the_same_byte_for_byte(tmp_path: Path) -> None:
    """Built again in another folder, by another process, it is the same."""
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


def test_the_same_sources_give_the_same_bytes(checkout: Path, tmp_path: Path) -> None:
    """Built twice, in other folders, after files were touched: one digest; one byte more: another."""

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
def test_job_archives_hold_their_packages(tmp_path: Path) -> None:
    """Every file, data files too, under the path that Python imports it by; tree and archive are the same."""
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
def test_a_job_imports_its_archive_alone(deployable: str, tmp_path: Path) -> None:
    """Every module comes from the archive, beside third parties' packages and without the checkout."""
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
def test_the_api_s_libraries_are_of_its_processor(platform: packaging.Platform, machine: int) -> None:
    """Each compiled library says in its ELF header that it is made for the function's processor."""
    with zipfile.ZipFile(packaging.build_api_archive(KEPT, platform=platform).path) as archive:
        headers = [archive.read(name)[:20] for name in archive.namelist() if name.endswith(".so")]
    assert headers
    assert {int.from_bytes(header[18:20], "little") for header in headers} == {machine}


@pytest.mark.usefixtures("checkout")
def test_code_is_named_alike_on_every_machine(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    """Where templates are made and where the code is uploaded, other libraries may compress."""
    here = packaging.build_sagemaker_code(EXAMPLE, tmp_path / "here")
    compressed = packaging._tar_gz
    monkeypatch.setattr(
        packaging, "_tar_gz", lambda files: gzip.compress(gzip.decompress(compressed(files)), 1)
    )
    there = packaging.build_sagemaker_code(EXAMPLE, tmp_path / "there")
    assert there.archive.sha256 != here.archive.sha256
    assert there.digest == here.digest


def test_a_missing_package_is_named(checkout: Path, tmp_path: Path) -> None:
    """An archive without its package is not built."""
    (checkout / "glue_scripts" / "__init__.py").unlink()
    with pytest.raises(PackagingError, match="glue_scripts"):
        packaging.build_glue_archive(tmp_path / "out")
    assert not (tmp_path / "out").exists()


def test_what_is_built_already_is_not_built_again(checkout: Path, tmp_path: Path) -> None:
    """An archive of the same sources is taken as it is, and old ones of its kind make room."""
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


def test_tar_archives_are_readable_and_timeless() -> None:
    """The compressed header and the entries carry no moment and no owner."""
    content = packaging._tar_gz({"b.py": b"2", "a.py": b"1"})
    assert content[4:8] == b"\0\0\0\0"
    with tarfile.open(fileobj=io.BytesIO(content)) as archive:
        assert [(each.name, each.mtime, each.uid, each.mode) for each in archive] == [
            ("a.py", 0, 0, 0o644),
            ("b.py", 0, 0, 0o644),
        ]
