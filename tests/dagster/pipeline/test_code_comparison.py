"""Runs, metadata and `mlpipe doctor` warn if the jobs' uploaded code differs from the checkout."""

from __future__ import annotations

from types import SimpleNamespace
from typing import TYPE_CHECKING, Any

import boto3
import dagster as dg
import pytest
from botocore.stub import Stubber

from mlpipe_dagster.components.prediction_pipeline import partitions_of
from mlpipe_dagster.pipeline.code_comparison import outdated_upload, present_digest, warn_of_outdated_load
from mlpipe_dagster.resources.job_resources import SageMakerJobs
from mlpipe_dagster.resources.platform import Platform
from mlpipe_dagster.scoring.features_asset import features_asset
from mlpipe_dagster.scoring.predictions_asset import predictions_asset
from prediction_contract.jobs.code_digest import code_version
from tests.dagster.small_model import PARTITION, SmallModel, declaration

if TYPE_CHECKING:
    from pathlib import Path

    from tests.dagster.cli_calls import CommandLine

PREFIX = "code/sagemaker_scripts/{}/"
OTHER = "0123456789abcdef" * 4


def present(deployable: str = "sagemaker_scripts", package_folder: Path | None = None) -> str:
    """Return the digest of this checkout's code, including a project's package if given."""
    digest = present_digest(deployable, package_folder)
    assert digest is not None
    return digest


class DeliveringJobs(SageMakerJobs):
    """Stand in for SageMaker: jobs succeed at once, and a scoring job writes its done file."""

    def client(self) -> Any:
        """Return itself as the client."""
        return self

    def run(self, *, job_name: Any, request: Any, **_: Any) -> Any:
        """Carry out a job and write its done file if it scores a batch."""
        arguments = request(job_name(1), 1)["AppSpecification"]["ContainerArguments"]
        told = dict(zip(arguments[::2], arguments[1::2], strict=True))
        platform, name = self.platform, told["--model"]
        if "--batch_id" in told:
            model = SmallModel(platform, declaration(name))
            model.deliver(model.manifest(told["--batch_id"]))
        return SimpleNamespace(metadata={}, description={}, job=SimpleNamespace(name="job"))


def test_upload_of_different_code_is_outdated(tmp_path: Path) -> None:
    """Both versions are named; equal code, an image without code and a prefix without digest do not warn."""
    outdated = outdated_upload("sagemaker_scripts", PREFIX.format(OTHER))
    assert outdated is not None
    assert code_version(OTHER) in outdated.what
    assert code_version(present()) in outdated.what
    assert outdated_upload("sagemaker_scripts", PREFIX.format(present())) is None
    assert outdated_upload("sagemaker_scripts", PREFIX.format(OTHER), platform=tmp_path) is None
    assert outdated_upload("sagemaker_scripts", "code/sagemaker_scripts/gated/") is None


@pytest.mark.stack
@pytest.mark.parametrize("is_uploaded", [True, False])
def test_run_warns_that_its_jobs_run_different_code(
    small_model: SmallModel, monkeypatch: pytest.MonkeyPatch, *, is_uploaded: bool
) -> None:
    """Log and metadata of features and predictions warn of it, and only if the code differs."""
    monkeypatch.setenv("MLPIPE_SAGEMAKER_CODE_PREFIX", PREFIX.format(present() if is_uploaded else OTHER))
    platform, model = Platform(), small_model.declaration
    partitions = partitions_of(model)
    assets = [features_asset(model, partitions), predictions_asset(model, partitions)]
    resources = {"platform": platform, "sagemaker_jobs": DeliveringJobs(platform=platform)}
    with dg.DagsterInstance.ephemeral() as instance:
        done = dg.materialize(assets, partition_key=PARTITION, instance=instance, resources=resources)
        assert done.success
        said = [
            entry.user_message
            for entry in instance.all_logs(done.run_id)
            if not entry.is_dagster_event and "code version" in entry.user_message
        ]
        assert len(said) == (0 if is_uploaded else len(assets))
        for event in done.get_asset_materialization_events():
            metadata = event.materialization.metadata
            assert ("code_warning" in metadata) is not is_uploaded
            if not is_uploaded:
                assert code_version(OTHER) in str(metadata["code_warning"].value)
                assert metadata["checkout_code_version"].value == code_version(present())


def test_load_warns_that_its_job_runs_different_code() -> None:
    """Both versions are named; a job that Glue cannot describe does not fail the load."""
    glue = boto3.client("glue", region_name="us-east-1", aws_access_key_id="x", aws_secret_access_key="x")
    addresses = [f"s3://bucket/code/glue_scripts/{digest}.zip" for digest in (OTHER, present("glue_scripts"))]
    said: list[str] = []
    with Stubber(glue) as answers:
        for address in addresses:
            job = {"Name": "load", "DefaultArguments": {"--extra-py-files": address}}
            answers.add_response("get_job", {"Job": job}, {"JobName": "load"})
        answers.add_client_error("get_job", "EntityNotFoundException")
        answers.add_client_error("get_job", "AccessDeniedException")
        metadata = [warn_of_outdated_load(glue, "load", said.append) for _ in range(4)]
    assert metadata[0]["checkout_code_version"] == code_version(present("glue_scripts"))
    assert metadata[1:] == [{}, {}, {}]
    outdated, unknown = said
    assert code_version(OTHER) in outdated
    assert outdated == metadata[0]["code_warning"]
    assert "could not be compared" in unknown


@pytest.mark.stack
def test_doctor_finds_an_outdated_upload(
    small_model: SmallModel, command_line: CommandLine, monkeypatch: pytest.MonkeyPatch
) -> None:
    """The finding names both versions and the remedy; equal code gives no finding."""

    def found() -> list[dict[str, Any]]:
        told = command_line.json("doctor", small_model.name).document["findings"]
        return [each for each in told if each["topic"] == "code"]

    monkeypatch.setenv(
        "MLPIPE_SAGEMAKER_CODE_PREFIX",
        PREFIX.format(present(package_folder=command_line.project.package_folder)),
    )
    assert found() == []
    monkeypatch.setenv("MLPIPE_SAGEMAKER_CODE_PREFIX", PREFIX.format(OTHER))
    (finding,) = found()
    assert finding["severity"] == "warning"
    assert code_version(OTHER) in finding["what"]
    assert code_version(present(package_folder=command_line.project.package_folder)) in finding["what"]
    assert "mlpipe dev" in finding["remedy"]
