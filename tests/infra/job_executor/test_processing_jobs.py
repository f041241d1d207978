"""SageMaker processing jobs of real scripts: layout, hosts, ends, names and limits, through boto3."""

from __future__ import annotations

import json
from typing import TYPE_CHECKING

import pytest
from botocore.exceptions import ClientError, WaiterError

from tests.infra.job_executor.job_stack import (
    BUCKET,
    Aws,
    Executor,
    processing_request,
    sagemaker_end,
    wait_for_line,
)

if TYPE_CHECKING:
    from typing import Any

pytestmark = pytest.mark.stack

GROUP = "/aws/sagemaker/ProcessingJobs"
SLEEPER = "import time; print('asleep', flush=True); time.sleep(300)"

COPY = """
    import json, os, pathlib
    root = pathlib.Path(os.environ["MLPIPE_ML_ROOT"])
    resources = json.loads((root / "config/resourceconfig.json").read_text())
    config = json.loads((root / "config/processingjobconfig.json").read_text())
    data = root / "processing/input/data"
    names = sorted(path.relative_to(data).as_posix() for path in data.rglob("*") if path.is_file())
    print(resources["current_host"], resources["hosts"], config["ProcessingJobName"], os.environ["COLOR"])
    out = root / "processing/output/result"
    (out / f"{resources['current_host']}.json").write_text(json.dumps(names))
    (root / "output/message").write_text("copied")
"""


def copy_request(aws: Aws, name: str, *, instances: int) -> dict[str, Any]:
    """Build a job whose hosts write down which of four sharded objects they got."""
    for number in range(4):
        key = f"{name}/in/dt=2013-02-01/part-{number}"
        aws.client("s3").put_object(Bucket=BUCKET, Key=key, Body=b"x")
    source = {
        "S3Uri": f"s3://{BUCKET}/{name}/in",
        "LocalPath": "/opt/ml/processing/input/data",
        "S3DataType": "S3Prefix",
        "S3DataDistributionType": "ShardedByS3Key",
    }
    target = {
        "S3Uri": f"s3://{BUCKET}/{name}/out",
        "LocalPath": "/opt/ml/processing/output/result",
        "S3UploadMode": "EndOfJob",
    }
    cluster = {"InstanceCount": instances, "InstanceType": "ml.m5.large", "VolumeSizeInGB": 10}
    return processing_request(
        aws,
        name,
        COPY,
        Environment={"COLOR": "green"},
        ProcessingInputs=[{"InputName": "data", "S3Input": source}],
        ProcessingOutputConfig={"Outputs": [{"OutputName": "result", "S3Output": target}]},
        ProcessingResources={"ClusterConfig": cluster},
    )


def test_inputs_come_down_sharded_and_outputs_go_up(executor: Executor, aws: Aws, name: str) -> None:
    """Two hosts each get their share of the objects and upload what they made of it."""
    client = executor.client("sagemaker")
    arn = client.create_processing_job(**copy_request(aws, name, instances=2))["ProcessingJobArn"]
    job = sagemaker_end(executor, "Processing", name)
    assert (job["ProcessingJobStatus"], job["ProcessingJobArn"]) == ("Completed", arn)
    assert job["ExitMessage"] == "copied"
    assert job["CreationTime"] <= job["ProcessingStartTime"] <= job["ProcessingEndTime"]
    shares = []
    for host in ("algo-1", "algo-2"):
        key = f"{name}/out/{host}.json"
        shares.append(json.loads(aws.client("s3").get_object(Bucket=BUCKET, Key=key)["Body"].read()))
        printed = f"{host} ['algo-1', 'algo-2'] {name} green"
        assert aws.logs(GROUP, f"{name}/{host}-") == [printed]
    folder = "dt=2013-02-01"
    assert shares == [[f"{folder}/part-0", f"{folder}/part-2"], [f"{folder}/part-1", f"{folder}/part-3"]]


def test_a_failing_host_fails_the_job_and_ends_the_others(executor: Executor, aws: Aws, name: str) -> None:
    """One host's exit code is the job's failure, although the other would have slept on."""
    script = """
        import json, os, pathlib, sys, time
        root = pathlib.Path(os.environ["MLPIPE_ML_ROOT"])
        if json.loads((root / "config/resourceconfig.json").read_text())["current_host"] == "algo-2":
            (root / "output/message").write_text("no rows")
            sys.exit(3)
        time.sleep(300)
    """
    cluster = {"InstanceCount": 2, "InstanceType": "ml.m5.large", "VolumeSizeInGB": 10}
    request = processing_request(aws, name, script, ProcessingResources={"ClusterConfig": cluster})
    executor.client("sagemaker").create_processing_job(**request)
    with pytest.raises(WaiterError, match="terminal failure state"):
        sagemaker_end(executor, "Processing", name)
    job = executor.client("sagemaker").describe_processing_job(ProcessingJobName=name)
    assert job["ProcessingJobStatus"] == "Failed"
    assert job["FailureReason"] == "AlgorithmError: no rows, exit code: 3"
    assert job["ExitMessage"] == "no rows"


def test_a_failure_names_the_message_and_the_exit_code(executor: Executor, aws: Aws, name: str) -> None:
    """The reason holds what the script left and its exit code, and nothing is uploaded."""
    request = copy_request(aws, name, instances=1)
    request["ProcessingInputs"][0] = processing_request(aws, name, COPY + "\n    raise SystemExit(3)")[
        "ProcessingInputs"
    ][0]
    executor.client("sagemaker").create_processing_job(**request)
    with pytest.raises(WaiterError):
        sagemaker_end(executor, "Processing", name)
    job = executor.client("sagemaker").describe_processing_job(ProcessingJobName=name)
    assert job["FailureReason"] == "AlgorithmError: copied, exit code: 3"
    assert aws.client("s3").list_objects_v2(Bucket=BUCKET, Prefix=f"{name}/out")["KeyCount"] == 0


def test_a_job_over_its_runtime_is_stopped(executor: Executor, aws: Aws, name: str) -> None:
    """A job past MaxRuntimeInSeconds ends as Stopped, with what it had logged."""
    request = processing_request(aws, name, SLEEPER, StoppingCondition={"MaxRuntimeInSeconds": 6})
    executor.client("sagemaker").create_processing_job(**request)
    job = sagemaker_end(executor, "Processing", name)
    assert job["ProcessingJobStatus"] == "Stopped"
    assert "FailureReason" not in job
    assert aws.logs(GROUP, f"{name}/algo-1-") == ["asleep"]


def test_a_stopped_job_may_say_goodbye(executor: Executor, aws: Aws, name: str) -> None:
    """Stopping sends SIGTERM, which the script may use; a second stop is refused."""
    script = """
        import signal, sys, time
        signal.signal(signal.SIGTERM, lambda *_: sys.exit(print("goodbye", flush=True)))
        print("asleep", flush=True)
        time.sleep(300)
    """
    client = executor.client("sagemaker")
    client.create_processing_job(**processing_request(aws, name, script))
    wait_for_line(aws, GROUP, f"{name}/algo-1-", "asleep")
    client.stop_processing_job(ProcessingJobName=name)
    assert sagemaker_end(executor, "Processing", name)["ProcessingJobStatus"] == "Stopped"
    assert aws.logs(GROUP, f"{name}/algo-1-") == ["asleep", "goodbye"]
    with pytest.raises(ClientError, match="is in status Stopped") as refused:
        client.stop_processing_job(ProcessingJobName=name)
    assert refused.value.response["Error"]["Code"] == "ValidationException"


def test_a_name_is_used_once_even_when_the_job_has_ended(executor: Executor, aws: Aws, name: str) -> None:
    """A second job of a name is ResourceInUse, while the first runs and after."""
    client = executor.client("sagemaker")
    request = processing_request(aws, name, "print('done')")
    client.create_processing_job(**request)
    for _ in range(2):
        with pytest.raises(client.exceptions.ResourceInUse, match="must be unique"):
            client.create_processing_job(**request)
        sagemaker_end(executor, "Processing", name)


def test_an_unknown_job_is_a_validation_error(executor: Executor, name: str) -> None:
    """Describe and stop of an unknown job answer what the waiters expect of AWS."""
    client = executor.client("sagemaker")
    for call in (client.describe_processing_job, client.stop_processing_job):
        with pytest.raises(ClientError, match="Could not find requested job with name") as refused:
            call(ProcessingJobName=name)
        assert refused.value.response["Error"]["Code"] == "ValidationException"


def test_more_instances_than_the_account_has_are_refused(executor: Executor, aws: Aws, name: str) -> None:
    """The service limit is ResourceLimitExceeded, and the name stays free."""
    client = executor.client("sagemaker")
    cluster = {"InstanceCount": 5, "InstanceType": "ml.m5.large", "VolumeSizeInGB": 10}
    request = processing_request(aws, name, "", ProcessingResources={"ClusterConfig": cluster})
    with pytest.raises(client.exceptions.ResourceLimitExceeded, match="service limit"):
        client.create_processing_job(**request)
    with pytest.raises(ClientError, match="Could not find"):
        client.describe_processing_job(ProcessingJobName=name)


def test_a_missing_input_fails_the_job(executor: Executor, aws: Aws, name: str) -> None:
    """An input prefix without objects is a failed job whose reason names it."""
    request = processing_request(aws, name, "")
    request["ProcessingInputs"][0]["S3Input"]["S3Uri"] = f"s3://{BUCKET}/{name}/nothing"
    executor.client("sagemaker").create_processing_job(**request)
    with pytest.raises(WaiterError):
        sagemaker_end(executor, "Processing", name)
    job = executor.client("sagemaker").describe_processing_job(ProcessingJobName=name)
    assert job["FailureReason"].startswith(
        f'ClientError: No S3 objects found under S3 URL "s3://{BUCKET}/{name}'
    )


def test_a_key_cannot_lead_out_of_the_layout(executor: Executor, aws: Aws, name: str) -> None:
    """An object whose key climbs with '..' fails the job instead of writing elsewhere."""
    aws.client("s3").put_object(Bucket=BUCKET, Key=f"{name}/in/../../../../escaped", Body=b"x")
    request = processing_request(aws, name, "")
    request["ProcessingInputs"][0]["S3Input"]["S3Uri"] = f"s3://{BUCKET}/{name}/in/"
    executor.client("sagemaker").create_processing_job(**request)
    with pytest.raises(WaiterError):
        sagemaker_end(executor, "Processing", name)
    job = executor.client("sagemaker").describe_processing_job(ProcessingJobName=name)
    assert "outside its directory" in job["FailureReason"]


def test_jobs_are_listed_and_tagged(executor: Executor, aws: Aws, name: str) -> None:
    """Jobs are found by name and status, page by page, and tags can be read back."""
    client = executor.client("sagemaker")
    tags = [{"Key": "model", "Value": "flight_delay"}]
    for suffix in ("a", "b"):
        request = processing_request(aws, f"{name}-{suffix}", "", Tags=tags)
        arn = client.create_processing_job(**request)["ProcessingJobArn"]
        sagemaker_end(executor, "Processing", f"{name}-{suffix}")
    pages = client.get_paginator("list_processing_jobs").paginate(
        NameContains=name, StatusEquals="Completed", PaginationConfig={"PageSize": 1}
    )
    found = [job["ProcessingJobName"] for page in pages for job in page["ProcessingJobSummaries"]]
    assert found == [f"{name}-b", f"{name}-a"]
    client.add_tags(ResourceArn=arn, Tags=[{"Key": "step", "Value": "predict"}])
    assert client.list_tags(ResourceArn=arn)["Tags"] == [*tags, {"Key": "step", "Value": "predict"}]
