"""Tests of SageMaker training jobs through boto3, in script mode and with an entry point."""

from __future__ import annotations

import io
import json
import tarfile
import textwrap
from typing import TYPE_CHECKING

import pytest
from botocore.exceptions import WaiterError

from tests.infra.job_executor.job_stack import BUCKET, IMAGE, Aws, Executor, sagemaker_end, wait_for_line

if TYPE_CHECKING:
    from typing import Any

pytestmark = pytest.mark.stack

GROUP = "/aws/sagemaker/TrainingJobs"
TRAIN = """
    import argparse, json, os, pathlib
    parser = argparse.ArgumentParser()
    parser.add_argument("--rounds", type=int)
    rounds = parser.parse_args().rounds
    rows = pathlib.Path(os.environ["SM_CHANNEL_TRAIN"], "rows.txt").read_text()
    assert json.loads(os.environ["SM_HPS"]) == {"rounds": rounds}
    pathlib.Path(os.environ["SM_MODEL_DIR"], "model.txt").write_text(rows * rounds)
    pathlib.Path(os.environ["SM_OUTPUT_DATA_DIR"], "report.txt").write_text("fine")
    print("loss=0.5;")
    print("loss=0.25;")
"""


def training_request(aws: Aws, name: str, script: str, **changes: Any) -> dict[str, Any]:
    """Build a request for a training job in script mode with one channel of one object."""
    buffer = io.BytesIO()
    with tarfile.open(fileobj=buffer, mode="w:gz") as archive:
        body = textwrap.dedent(script).encode()
        member = tarfile.TarInfo("train.py")
        member.size = len(body)
        archive.addfile(member, io.BytesIO(body))
    s3 = aws.client("s3")
    s3.put_object(Bucket=BUCKET, Key=f"{name}/sourcedir.tar.gz", Body=buffer.getvalue())
    s3.put_object(Bucket=BUCKET, Key=f"{name}/train/rows.txt", Body=b"ab")
    source = {"S3DataType": "S3Prefix", "S3Uri": f"s3://{BUCKET}/{name}/train/"}
    request = {
        "TrainingJobName": name,
        "RoleArn": aws.sagemaker_role,
        "AlgorithmSpecification": {
            "TrainingImage": IMAGE,
            "TrainingInputMode": "File",
            "MetricDefinitions": [{"Name": "loss", "Regex": "loss=(.*?);"}],
        },
        "HyperParameters": {
            "sagemaker_program": '"train.py"',
            "sagemaker_submit_directory": json.dumps(f"s3://{BUCKET}/{name}/sourcedir.tar.gz"),
            "rounds": "3",
        },
        "InputDataConfig": [{"ChannelName": "train", "DataSource": {"S3DataSource": source}}],
        "OutputDataConfig": {"S3OutputPath": f"s3://{BUCKET}/{name}/models"},
        "ResourceConfig": {"InstanceCount": 1, "InstanceType": "ml.m5.large", "VolumeSizeInGB": 10},
        "StoppingCondition": {"MaxRuntimeInSeconds": 3600},
    }
    return request | changes


def unpacked(aws: Aws, uri: str) -> dict[str, bytes]:
    """Return the files of an archive on S3."""
    bucket, _, key = uri.removeprefix("s3://").partition("/")
    body = aws.client("s3").get_object(Bucket=bucket, Key=key)["Body"].read()
    with tarfile.open(fileobj=io.BytesIO(body)) as archive:
        files = {member.name: archive.extractfile(member) for member in archive if member.isfile()}
        return {name: file.read() for name, file in files.items() if file is not None}


def test_script_mode_trains_and_packs_the_model(executor: Executor, aws: Aws, name: str) -> None:
    """A script receives its hyperparameters, and its model, output data and last metric are kept."""
    executor.client("sagemaker").create_training_job(**training_request(aws, name, TRAIN))
    job = sagemaker_end(executor, "Training", name)
    assert (job["TrainingJobStatus"], job["SecondaryStatus"]) == ("Completed", "Completed")
    history = [step["Status"] for step in job["SecondaryStatusTransitions"]]
    assert history == ["Starting", "Downloading", "Training", "Uploading", "Completed"]
    model = job["ModelArtifacts"]["S3ModelArtifacts"]
    assert model == f"s3://{BUCKET}/{name}/models/{name}/output/model.tar.gz"
    assert unpacked(aws, model) == {"model.txt": b"ababab"}
    assert unpacked(aws, model.replace("model.tar", "output.tar")) == {"report.txt": b"fine"}
    assert [(metric["MetricName"], metric["Value"]) for metric in job["FinalMetricDataList"]] == [
        ("loss", 0.25)
    ]
    assert aws.logs(GROUP, f"{name}/algo-1-") == ["loss=0.5;", "loss=0.25;"]


def test_failure_file_becomes_the_failure_reason(executor: Executor, aws: Aws, name: str) -> None:
    """The failure reason holds the text of `/opt/ml/output/failure` and the exit code."""
    script = """
        import os, pathlib, sys
        pathlib.Path(os.environ["SM_OUTPUT_DIR"], "failure").write_text("diverged")
        sys.exit(7)
    """
    executor.client("sagemaker").create_training_job(**training_request(aws, name, script))
    with pytest.raises(WaiterError):
        sagemaker_end(executor, "Training", name)
    job = executor.client("sagemaker").describe_training_job(TrainingJobName=name)
    assert job["TrainingJobStatus"] == "Failed"
    assert job["FailureReason"] == "AlgorithmError: diverged, exit code: 7"


def test_job_over_its_runtime_keeps_its_model(executor: Executor, aws: Aws, name: str) -> None:
    """A job past MaxRuntimeInSeconds is Stopped, and its model directory is still uploaded."""
    script = """
        import os, pathlib, time
        pathlib.Path(os.environ["SM_MODEL_DIR"], "model.txt").write_text("early")
        time.sleep(300)
    """
    request = training_request(aws, name, script, StoppingCondition={"MaxRuntimeInSeconds": 6})
    executor.client("sagemaker").create_training_job(**request)
    job = sagemaker_end(executor, "Training", name)
    assert (job["TrainingJobStatus"], job["SecondaryStatus"]) == ("Stopped", "MaxRuntimeExceeded")
    assert unpacked(aws, job["ModelArtifacts"]["S3ModelArtifacts"]) == {"model.txt": b"early"}


def test_job_with_entry_point_can_be_stopped(executor: Executor, aws: Aws, name: str) -> None:
    """An entry point runs instead of script mode, and StopTrainingJob ends it."""
    request = training_request(aws, name, "")
    command = "import time; print('asleep', flush=True); time.sleep(300)"
    request["AlgorithmSpecification"]["ContainerEntrypoint"] = ["python3", "-c", command]
    client = executor.client("sagemaker")
    client.create_training_job(**request)
    wait_for_line(aws, GROUP, f"{name}/algo-1-", "asleep")
    client.stop_training_job(TrainingJobName=name)
    job = sagemaker_end(executor, "Training", name)
    assert (job["TrainingJobStatus"], job["SecondaryStatus"]) == ("Stopped", "Stopped")
    assert [step["Status"] for step in job["SecondaryStatusTransitions"]][-2:] == ["Stopping", "Stopped"]
    found = client.list_training_jobs(NameContains=name)["TrainingJobSummaries"]
    assert [job["TrainingJobStatus"] for job in found] == ["Stopped"]
