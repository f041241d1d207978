"""The jobs' code is uploaded once, to where jobs read it, by local provisioning and by deployments."""

from __future__ import annotations

import io
import zipfile
from typing import TYPE_CHECKING, Any

import pytest
from botocore.exceptions import ClientError

from infra import code_upload, glue_wheels, packaging
from infra.code_upload import CREATOR_TAG, RETENTION_DAYS, SHARED_LOG_GROUPS, main, upload_code
from infra.glue_wheels import wheels_digest
from infra.local.provisioning.provisioned_stack import stand_in_wheels
from prediction_contract.naming.resource_names import PROCESSING_LOG_GROUP, TRAINING_LOG_GROUP, Deployment
from tests.infra.example_stages import STAGES
from tests.infra.sagemaker_models import texts, write_models
from tests.projects import EXAMPLE

if TYPE_CHECKING:
    from collections.abc import Callable, Iterator
    from pathlib import Path

    from tests.stack_runs import LocalStack

# A schema and an inputs document for each of these models.
DOCUMENTS = 2 * len(texts())

pytestmark = [pytest.mark.stack, pytest.mark.usefixtures("checkout")]


def downloaded(_: Path) -> dict[str, bytes]:
    """Return the names of the wheels without content: the real ones are 80 MB."""
    with zipfile.ZipFile(io.BytesIO(stand_in_wheels())) as archive:
        return {name.removeprefix("wheels/"): b"" for name in archive.namelist() if name.endswith(".whl")}


@pytest.fixture
def stage_bucket(
    local_stack: LocalStack, aws_client: Callable[[str], Any], monkeypatch: pytest.MonkeyPatch
) -> Iterator[str]:
    """Give the bucket of stage `dev`, with the emulator as the AWS account of the command."""
    monkeypatch.setattr(glue_wheels, "_downloaded", downloaded)
    for name, value in local_stack.environment.items():
        if name.startswith("AWS_"):
            monkeypatch.setenv(name, value)
    s3, bucket = aws_client("s3"), STAGES["dev"].deployment().data_bucket
    s3.create_bucket(Bucket=bucket)
    yield bucket
    for entry in s3.list_objects_v2(Bucket=bucket).get("Contents", []):
        s3.delete_object(Bucket=bucket, Key=entry["Key"])
    s3.delete_bucket(Bucket=bucket)


@pytest.fixture
def deployment(local_stack: LocalStack) -> Deployment:
    """Give the deployment of the local stack."""
    environment = local_stack.environment
    return Deployment("local", environment["MLPIPE_ACCOUNT_ID"], environment["AWS_REGION"])


def test_code_is_uploaded_to_where_jobs_read_it(
    aws_client: Callable[[str], Any], deployment: Deployment, tmp_path: Path
) -> None:
    """Glue finds script and archive, SageMaker tree and archive; a second upload writes the script only."""
    s3, bucket = aws_client("s3"), deployment.data_bucket
    uploaded = upload_code(s3, deployment, EXAMPLE, tmp_path / "out")
    glue, sagemaker = (
        packaging.build_glue_archive(tmp_path / "out"),
        packaging.build_sagemaker_code(EXAMPLE, tmp_path / "out"),
    )

    def stored(key: str) -> bytes:
        return s3.get_object(Bucket=bucket, Key=key)["Body"].read()

    assert stored(uploaded.load_script_key) == b"# the script\n"
    assert stored(uploaded.glue_archive_key) == glue.archive.path.read_bytes()
    assert stored(uploaded.training_code_key) == sagemaker.archive.path.read_bytes()
    listed = s3.list_objects_v2(Bucket=bucket, Prefix=uploaded.sagemaker_prefix)["Contents"]
    tree = {entry["Key"].removeprefix(uploaded.sagemaker_prefix): stored(entry["Key"]) for entry in listed}
    assert tree == sagemaker.files
    written: list[str] = []
    s3.meta.events.register(
        "provide-client-params.s3.PutObject", lambda params, **_: written.append(params["Key"])
    )
    assert upload_code(s3, deployment, EXAMPLE, tmp_path / "out") == uploaded
    assert written == [uploaded.load_script_key]


def test_deployment_uploads_code_of_a_stage(
    aws_client: Callable[[str], Any],
    stage_bucket: str,
    tmp_path: Path,
    monkeypatch: pytest.MonkeyPatch,
    capsys: pytest.CaptureFixture[str],
) -> None:
    """The command prints the addresses of code, wheels and documents; without the bucket it fails."""
    monkeypatch.setenv("MLPIPE_PROJECT", str(write_models(tmp_path / "project").root))
    arguments = ["--out", str(tmp_path / "out")]
    assert main(["prod", *arguments]) == 1
    assert STAGES["prod"].deployment().data_bucket in capsys.readouterr().err
    assert main(["dev", *arguments]) == 0
    listed = aws_client("s3").list_objects_v2(Bucket=stage_bucket)["Contents"]
    stored = {f"s3://{stage_bucket}/{entry['Key']}" for entry in listed}
    said = capsys.readouterr().out.split()
    assert len(said) == 5 + DOCUMENTS
    assert f"s3://{stage_bucket}/{STAGES['dev'].deployment().glue_wheels_key(wheels_digest())}" in stored
    assert all(any(address.startswith(place) for address in stored) for place in said)


@pytest.mark.usefixtures("stage_bucket")
def test_deployment_creates_shared_log_groups(
    aws_client: Callable[[str], Any],
    tmp_path: Path,
    monkeypatch: pytest.MonkeyPatch,
    capsys: pytest.CaptureFixture[str],
) -> None:
    """Log groups get a retention even after a failed try; a group made by others is only reported."""
    logs = aws_client("logs")
    monkeypatch.setenv("MLPIPE_PROJECT", str(write_models(tmp_path / "project").root))
    arguments = ["dev", "--out", str(tmp_path / "out")]

    def retentions() -> dict[str, int | None]:
        groups = logs.describe_log_groups(logGroupNamePrefix="/aws/sagemaker/")["logGroups"]
        return {each["logGroupName"]: each.get("retentionInDays") for each in groups}

    def refuse(_: Any) -> None:
        raise ClientError({"Error": {"Code": "AccessDeniedException", "Message": "no"}}, "PutRetentionPolicy")

    for name in SHARED_LOG_GROUPS:
        logs.delete_log_group(logGroupName=name)
    with monkeypatch.context() as patched:
        patched.setattr(code_upload, "create_shared_log_groups", refuse)
        assert main(arguments) == 1
    printed = capsys.readouterr()
    assert len(printed.out.split()) == 5 + DOCUMENTS
    assert printed.err.startswith("The code was uploaded, but creating the log groups ")
    assert "logs:CreateLogGroup" in printed.err
    assert "logs:PutRetentionPolicy" in printed.err
    # An earlier try created the group and ended before it set the retention.
    logs.create_log_group(logGroupName=TRAINING_LOG_GROUP, tags=dict([CREATOR_TAG]))
    assert main(arguments) == 0
    assert capsys.readouterr().err == ""
    assert retentions() == dict.fromkeys(SHARED_LOG_GROUPS, RETENTION_DAYS)
    logs.delete_log_group(logGroupName=PROCESSING_LOG_GROUP)
    logs.create_log_group(logGroupName=PROCESSING_LOG_GROUP)
    assert main(arguments) == 0
    printed = capsys.readouterr()
    assert f"--log-group-name {PROCESSING_LOG_GROUP} --retention-in-days {RETENTION_DAYS}" in printed.err
    assert TRAINING_LOG_GROUP not in printed.err
    assert retentions() == {PROCESSING_LOG_GROUP: None, TRAINING_LOG_GROUP: RETENTION_DAYS}
    logs.put_retention_policy(logGroupName=PROCESSING_LOG_GROUP, retentionInDays=RETENTION_DAYS)
