"""SageMaker with only boto3 and the environment: jobs that succeed, fail, time out and are stopped."""

from __future__ import annotations

import json
import os
import urllib.request
import uuid
from typing import Any

import boto3
from job_watching import FAILS, SLEEPS, ended, log_lines, upload, wait_for, wait_for_line

LOGS = "/aws/sagemaker/ProcessingJobs"
FINAL = {"Completed", "Failed", "Stopped"}
# The files are below /opt/ml on AWS and for root, and below this variable's folder elsewhere.
WRITES = """
    import os, pathlib
    root = pathlib.Path(os.environ.get("MLPIPE_ML_ROOT", "/opt/ml"))
    (root / "processing/output/rows.txt").write_text("12 rows")
    print("written")
"""


def start(sagemaker: Any, script: str, **changes: Any) -> str:
    """Create a job whose script arrives as an input, as on SageMaker, and return its name."""
    name = f"plain-{uuid.uuid4().hex}"
    source = {
        "S3Uri": upload(script),
        "LocalPath": "/opt/ml/processing/input/code",
        "S3DataType": "S3Prefix",
        "S3InputMode": "File",
    }
    target = {
        "S3Uri": f"s3://{os.environ['MLPIPE_DATA_BUCKET']}/features/{name}",
        "LocalPath": "/opt/ml/processing/output",
        "S3UploadMode": "EndOfJob",
    }
    sagemaker.create_processing_job(
        ProcessingJobName=name,
        RoleArn=os.environ["MLPIPE_SAGEMAKER_ROLE_ARN"],
        AppSpecification={
            "ImageUri": base_image(),
            "ContainerEntrypoint": ["python3", "/opt/ml/processing/input/code/script.py"],
        },
        ProcessingResources={
            "ClusterConfig": {"InstanceCount": 1, "InstanceType": "ml.m5.large", "VolumeSizeInGB": 10}
        },
        ProcessingInputs=[{"InputName": "code", "S3Input": source}],
        ProcessingOutputConfig={"Outputs": [{"OutputName": "result", "S3Output": target}]},
        **changes,
    )
    return name


def base_image() -> str:
    """Return the stack's image with the platform's own packages."""
    opener = urllib.request.build_opener(urllib.request.ProxyHandler({}))
    with opener.open(f"{os.environ['AWS_ENDPOINT_URL_SAGEMAKER']}/_executor/images", timeout=30) as answer:
        images = json.load(answer)["images"]
    repository = os.environ["MLPIPE_SAGEMAKER_IMAGE_REPOSITORY"]
    return next(uri for uri in images if uri.startswith(f"{repository}:base-"))


def end_of(sagemaker: Any, name: str) -> dict[str, Any]:
    """Wait for a job's end and return it."""

    def look() -> dict[str, Any] | None:
        answer = sagemaker.describe_processing_job(ProcessingJobName=name)
        return ended("ProcessingJobStatus", FINAL, answer)

    return wait_for(look, f"the end of {name}")


def main() -> None:
    """Check the status and the logs of a completed, a failed, a timed-out and a stopped job."""
    sagemaker = boto3.client("sagemaker")
    good = start(sagemaker, WRITES)
    bad = start(sagemaker, FAILS)
    late = start(sagemaker, SLEEPS, StoppingCondition={"MaxRuntimeInSeconds": 5})
    stopped = start(sagemaker, SLEEPS)

    job = end_of(sagemaker, good)
    assert job["ProcessingJobStatus"] == "Completed", job
    assert log_lines(LOGS, f"{good}/") == ["written"]
    written = {"Bucket": os.environ["MLPIPE_DATA_BUCKET"], "Key": f"features/{good}/rows.txt"}
    assert boto3.client("s3").get_object(**written)["Body"].read() == b"12 rows"

    job = end_of(sagemaker, bad)
    assert job["ProcessingJobStatus"] == "Failed", job
    assert job["FailureReason"].endswith("exit code: 1"), job
    assert log_lines(LOGS, f"{bad}/")[-1] == "ValueError: bad rows"

    wait_for_line(LOGS, f"{stopped}/", "asleep")
    answer = sagemaker.describe_processing_job(ProcessingJobName=stopped)
    assert answer["ProcessingJobStatus"] == "InProgress", answer
    sagemaker.stop_processing_job(ProcessingJobName=stopped)
    assert end_of(sagemaker, stopped)["ProcessingJobStatus"] == "Stopped"

    job = end_of(sagemaker, late)
    assert job["ProcessingJobStatus"] == "Stopped", job
    lasted = (job["ProcessingEndTime"] - job["ProcessingStartTime"]).total_seconds()
    assert lasted >= 5, job


if __name__ == "__main__":
    main()
