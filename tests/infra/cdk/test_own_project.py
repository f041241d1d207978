"""Tests of synthesising a project outside the repository."""

from __future__ import annotations

import os
import subprocess
from typing import TYPE_CHECKING, Any

import pytest

from infra.packaging import build_api_archive
from tests.infra.cdk.synthesis import ROOT, cdk_program, offline
from tests.infra.cdk.templates import Templates
from tests.infra.example_stages import PROD, stage_text
from tests.infra.test_source_access import churn_project, line_of

if TYPE_CHECKING:
    from pathlib import Path

    from model_declaration.project import Project


def allowing(members: dict[str, Any]) -> None:
    """Allow a stage the buckets and the secret that the model's sources name."""
    members["source_buckets"] = [{"name": "acme-lake"}, {"name": "acme-models"}]
    members["source_secrets"] = ["acme/warehouse"]


def synthesise(project: Project) -> subprocess.CompletedProcess[str]:
    """Synthesise the project's templates from inside its package folder."""
    build_api_archive(project.packages, platform=PROD.api.architecture)
    # The platform is found through Python's path and not as the current folder.
    environment = {**offline(os.environ), "PYTHONPATH": str(ROOT)}
    return subprocess.run(
        [str(cdk_program("python")), "-m", "infra.app"],
        cwd=project.package_folder,
        env=environment,
        capture_output=True,
        text=True,
        timeout=280,
        check=False,
    )


@pytest.fixture
def project(tmp_path: Path) -> Project:
    """Create a project whose model has three sources, and a stage that allows them."""
    made = churn_project(tmp_path / "acme")
    made.stages_file.write_text(stage_text(allowing, name="live"))
    return made


def test_project_outside_the_repository_is_synthesised(project: Project) -> None:
    """The templates in the project's folder have its stage, model, code location and permissions."""
    done = synthesise(project)
    assert done.returncode == 0, done.stdout + done.stderr
    folder = project.state_folder / "cdk"
    assert done.stdout.split() == [str(folder / "live")]
    found = Templates(folder, 0)
    tables = found.properties("live", "data", "AWS::DynamoDB::GlobalTable")
    assert "mlpipe-live-predictions-churn" in {each["TableName"] for each in tables}
    (code,) = [
        container["Command"]
        for task in found.properties("live", "orchestration", "AWS::ECS::TaskDefinition")
        for container in task["ContainerDefinitions"]
        if container["Name"] == "code"
    ]
    assert code[code.index("--module-name") + 1] == "acme.definitions"
    assert code[code.index("--location-name") + 1] == "acme"
    roles = {each["RoleName"]: each for each in found.properties("live", "ml", "AWS::IAM::Role")}
    statements = roles["mlpipe-live-sagemaker-execution"]["Policies"][0]["PolicyDocument"]["Statement"]
    (read,) = [each["Resource"] for each in statements if each["Sid"] == "ReadSources"]
    assert "arn:aws:s3:::acme-lake/tables/customers/*" in read


def test_bucket_that_the_stage_does_not_allow_stops_synthesis(project: Project) -> None:
    """Synthesis stops before it writes anything, and names the file, the line and the source."""
    project.stages_file.write_text(stage_text(lambda _: None, name="live"))
    done = synthesise(project)
    assert done.returncode == 1
    place = f"{project.defs / 'churn' / 'defs.yaml'}:{line_of(project, 'bucket: acme-lake')}"
    field = "attributes.sources.customers.bucket"
    assert f"{place} {field}: stage live does not allow the bucket acme-lake" in done.stderr
    assert "Traceback" not in done.stderr
    assert not (project.state_folder / "cdk").exists()


def test_invalid_stages_file_stops_synthesis(project: Project) -> None:
    """Synthesis stops, and names the stages file, the line and the member."""
    text = project.stages_file.read_text()
    project.stages_file.write_text(text.replace("pointer_hours:", "pointer_hour:"))
    done = synthesise(project)
    assert done.returncode == 1
    line = text[: text.index("pointer_hours:")].count("\n") + 1
    place = f"{project.stages_file}:{line} live.pointer_hour"
    assert f"{place}: Extra inputs are not permitted" in done.stderr
