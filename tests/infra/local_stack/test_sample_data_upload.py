"""`mlpipe data` uploads the project's sample data to the local stack."""

from __future__ import annotations

from typing import TYPE_CHECKING, Any

import pytest

from infra.local.sample_data import main, upload_objects, upload_sample_data
from infra.local.stack.environment_file import write_environment_file
from model_declaration.project import Project
from tests.infra.test_source_access import CHURN, churn_project

if TYPE_CHECKING:
    from collections.abc import Callable
    from pathlib import Path

    from tests.stack_runs import LocalStack

MARKER = """
[tool.dg.project]
root_module = "acme"

[tool.mlpipe]
sample_data = "acme.sample_data:objects"
"""
GENERATOR = """
def objects():
    for day in (1, 2):
        for table in ("orders", "customers"):
            yield f"raw/{table}/dt=2026-01-0{day}/part.csv", f"{table} {day}".encode()
"""


@pytest.fixture
def project(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> Path:
    """The folder of a project with four objects of sample data, as commands find it."""
    package = tmp_path / "src" / "acme"
    package.mkdir(parents=True)
    (tmp_path / "pyproject.toml").write_text(MARKER)
    (package / "__init__.py").touch()
    (package / "sample_data.py").write_text(GENERATOR)
    monkeypatch.setenv("MLPIPE_PROJECT", str(tmp_path))
    return tmp_path


@pytest.mark.stack
def test_repeated_upload_writes_only_differences(
    local_stack: LocalStack,
    aws_client: Callable[[str], Any],
    project: Path,
    capsys: pytest.CaptureFixture[str],
) -> None:
    """Equal objects are skipped and altered ones restored; a copy is kept in the project."""
    file = local_stack.state_directory.with_name(f"{local_stack.state_directory.name}.env")
    bucket = local_stack.environment["MLPIPE_DATA_BUCKET"]
    said = []
    for _ in range(2):
        assert main(["--env-file", str(file)]) == 0
        said.append(capsys.readouterr().out.split(" ", 1)[0])
    assert said == ["4", "0"]
    s3 = aws_client("s3")
    key = "raw/orders/dt=2026-01-02/part.csv"
    for altered in (b"orders 3", b"longer than before"):
        s3.put_object(Bucket=bucket, Key=key, Body=altered)
        assert main(["--env-file", str(file)]) == 0
        assert capsys.readouterr().out.startswith("1 objects")
        assert s3.get_object(Bucket=bucket, Key=key)["Body"].read() == b"orders 2"
    assert (project / ".mlpipe" / "sample_data" / key).read_bytes() == b"orders 2"


def test_upload_with_stack_down_says_what_to_do(
    project: Path, tmp_path: Path, capsys: pytest.CaptureFixture[str], monkeypatch: pytest.MonkeyPatch
) -> None:
    """The `.env` outlives its stack; the message names the command that starts it."""
    monkeypatch.setenv("AWS_MAX_ATTEMPTS", "1")
    file = tmp_path / "down.env"
    values = {
        "AWS_ENDPOINT_URL": "http://127.0.0.1:1",
        "AWS_ENDPOINT_URL_GLUE": "http://127.0.0.1:1",
        "AWS_REGION": "us-east-1",
        "MLPIPE_DATA_BUCKET": "data",
    }
    write_environment_file(file, values)
    assert main(["--env-file", str(file)]) == 1
    printed = capsys.readouterr().err
    assert printed.startswith("mlpipe data: Could not connect to the endpoint URL")
    assert "Start the stack by `mlpipe up`" in printed
    assert (project / ".mlpipe" / "sample_data").is_dir()


@pytest.mark.stack
def test_source_bucket_gets_objects_of_its_sources(
    aws_client: Callable[[str], Any], local_stack: LocalStack, tmp_path: Path
) -> None:
    """Objects go to a source's bucket by the prefix of its path; the data bucket gets all of them."""
    orders = {"format": "parquet", "path": "acme/orders/dt={date}/part.csv", "bucket": "acme-orders"}
    model = {**CHURN["model"], "bucket": None}
    made = churn_project(tmp_path / "acme", sources={"orders": orders}, model=model)
    neighbour = '    yield "acme/orders-secret/x.csv", b"x"\n'
    (made.package_folder / "sample_data.py").write_text(GENERATOR.replace("raw/", "acme/") + neighbour)
    with (made.root / "pyproject.toml").open("a") as marker:
        marker.write('sample_data = "acme.sample_data:objects"\n')
    project = Project.at(made.root)
    s3, bucket = aws_client("s3"), local_stack.environment["MLPIPE_DATA_BUCKET"]
    s3.create_bucket(Bucket="acme-orders")
    upload_sample_data(project, s3, bucket)
    listed = s3.list_objects_v2(Bucket="acme-orders")["Contents"]
    assert [each["Key"] for each in listed] == [f"acme/orders/dt=2026-01-0{day}/part.csv" for day in (1, 2)]
    assert s3.list_objects_v2(Bucket=bucket, Prefix="acme/customers/dt=2026")["KeyCount"] == 2


@pytest.mark.stack
def test_objects_of_any_depth_are_uploaded_once(
    local_stack: LocalStack, aws_client: Callable[[str], Any]
) -> None:
    """Keys without folders and with nested folders are uploaded, and skipped the second time."""
    bucket = local_stack.environment["MLPIPE_DATA_BUCKET"]
    objects = [("top.csv", b"1"), ("raw/top.csv", b"2"), ("raw/deep/er/part.csv", b"3")]
    assert [upload_objects(aws_client("s3"), bucket, objects) for _ in range(2)] == [3, 0]


def test_upload_without_stack_says_what_to_do(project: Path, capsys: pytest.CaptureFixture[str]) -> None:
    """A missing environment file is reported with the command that writes it."""
    assert main(["--env-file", str(project / "missing.env")]) == 1
    assert "Run `mlpipe up` first" in capsys.readouterr().err


def test_project_without_sample_data_is_refused(project: Path, capsys: pytest.CaptureFixture[str]) -> None:
    """The command reports that the project declares no sample data."""
    text = (project / "pyproject.toml").read_text()
    (project / "pyproject.toml").write_text(text.replace("sample_data = ", "requires = "))
    assert main([]) == 1
    assert "has no sample data" in capsys.readouterr().err
