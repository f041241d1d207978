"""Tests of SageMaker processing jobs of real scripts through boto3: files, hosts, stops and limits."""

from __future__ import annotations

import json
import tempfile
from pathlib import Path
from typing import TYPE_CHECKING

import pytest
from botocore.exceptions import ClientError, WaiterError

from infra.local.job_executor.jobs.host_processes import cpu_share
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
    """Build a request for a job whose hosts record which of four sharded objects they received."""
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
    return processing_request(
        aws,
        name,
        COPY,
        Environment={"COLOR": "green"},
        ProcessingInputs=[{"InputName": "data", "S3Input": source}],
        ProcessingOutputConfig={"Outputs": [{"OutputName": "result", "S3Output": target}]},
        **on_hosts(instances),
    )


def on_hosts(instances: int) -> dict[str, Any]:
    """Return the member of a request that sets the number of hosts."""
    cluster = {"InstanceCount": instances, "InstanceType": "ml.m5.large", "VolumeSizeInGB": 10}
    return {"ProcessingResources": {"ClusterConfig": cluster}}


def test_inputs_are_sharded_and_outputs_uploaded(executor: Executor, aws: Aws, name: str) -> None:
    """Two hosts each receive their share of the objects and upload their result."""
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


def test_hosts_have_separate_files_and_cores(executor: Executor, aws: Aws, name: str) -> None:
    """Hosts start one after another, the first one last, with their own files, folders and cores."""
    script = """
        import json, os, pathlib, tempfile, time
        root = pathlib.Path(os.environ["MLPIPE_ML_ROOT"])
        config = root / "config/processingjobconfig.json"
        print(json.dumps({
            "began": time.time(),
            "laid_out": int(config.stat().st_mtime),
            "temporary": tempfile.gettempdir(),
            "cores": sorted(os.sched_getaffinity(0)),
            "files": len(list(root.glob("mine-*"))),
        }))
        (root / f"mine-{os.getpid()}").touch()
    """
    executor.client("sagemaker").create_processing_job(**processing_request(aws, name, script, **on_hosts(2)))
    assert sagemaker_end(executor, "Processing", name)["ProcessingJobStatus"] == "Completed"
    first, second = (json.loads(aws.logs(GROUP, f"{name}/{host}-")[0]) for host in ("algo-1", "algo-2"))
    assert first["began"] > second["began"]
    assert first["laid_out"] != second["laid_out"]
    assert first["temporary"] != second["temporary"]
    assert first["files"] == second["files"] == 0
    assert (first["cores"], second["cores"]) == (cpu_share(1, 2), cpu_share(2, 2))


def test_temporary_folder_fits_socket_paths_and_is_removed(executor: Executor, aws: Aws, name: str) -> None:
    """Python's Unix sockets fit into a job's temporary folder, which is removed after the job."""
    script = """
        import os, socket, tempfile
        folder = tempfile.gettempdir()
        socket.socket(socket.AF_UNIX).bind(os.path.join(folder, "x" * 40))
        print(folder)
    """
    executor.client("sagemaker").create_processing_job(**processing_request(aws, name, script))
    assert sagemaker_end(executor, "Processing", name)["ProcessingJobStatus"] == "Completed"
    (folder,) = aws.logs(GROUP, f"{name}/algo-1-")
    assert folder != tempfile.gettempdir()
    assert not Path(folder).exists()


def test_failing_host_fails_the_job_and_ends_the_others(executor: Executor, aws: Aws, name: str) -> None:
    """One host's exit code fails the job, without waiting for a host that sleeps on."""
    script = """
        import json, os, pathlib, sys, time
        root = pathlib.Path(os.environ["MLPIPE_ML_ROOT"])
        if json.loads((root / "config/resourceconfig.json").read_text())["current_host"] == "algo-2":
            (root / "output/message").write_text("no rows")
            sys.exit(3)
        time.sleep(300)
    """
    request = processing_request(aws, name, script, **on_hosts(2))
    executor.client("sagemaker").create_processing_job(**request)
    with pytest.raises(WaiterError, match="terminal failure state"):
        sagemaker_end(executor, "Processing", name)
    job = executor.client("sagemaker").describe_processing_job(ProcessingJobName=name)
    assert job["ProcessingJobStatus"] == "Failed"
    assert job["FailureReason"] == "AlgorithmError: no rows, exit code: 3"
    assert job["ExitMessage"] == "no rows"


def test_failure_reason_has_message_and_exit_code(executor: Executor, aws: Aws, name: str) -> None:
    """A failed job's reason holds its message and exit code, and its outputs are not uploaded."""
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


def test_job_over_its_runtime_is_stopped(executor: Executor, aws: Aws, name: str) -> None:
    """A job past MaxRuntimeInSeconds ends as Stopped and keeps its logs."""
    request = processing_request(aws, name, SLEEPER, StoppingCondition={"MaxRuntimeInSeconds": 6})
    executor.client("sagemaker").create_processing_job(**request)
    job = sagemaker_end(executor, "Processing", name)
    assert job["ProcessingJobStatus"] == "Stopped"
    assert "FailureReason" not in job
    assert aws.logs(GROUP, f"{name}/algo-1-") == ["asleep"]


POLITE = """
    import signal, sys, time
    signal.signal(signal.SIGTERM, lambda *_: sys.exit(print("goodbye", flush=True)))
    print("asleep", flush=True)
    time.sleep(300)
"""


def test_stop_ends_every_host(executor: Executor, aws: Aws, name: str) -> None:
    """Stopping a job sends SIGTERM to all of its hosts."""
    client = executor.client("sagemaker")
    client.create_processing_job(**processing_request(aws, name, POLITE, **on_hosts(2)))
    streams = [f"{name}/{host}-" for host in ("algo-1", "algo-2")]
    for stream in streams:
        wait_for_line(aws, GROUP, stream, "asleep")
    client.stop_processing_job(ProcessingJobName=name)
    assert sagemaker_end(executor, "Processing", name)["ProcessingJobStatus"] == "Stopped"
    assert [aws.logs(GROUP, stream) for stream in streams] == [["asleep", "goodbye"]] * 2


def test_waiting_host_ends_with_the_others(aws: Aws, tmp_path: Path, name: str) -> None:
    """A job can be stopped while one of its hosts has not started yet."""
    executor = Executor(aws.url, tmp_path / "state", ("--host-stagger-seconds", "600")).start()
    client = executor.client("sagemaker")
    client.create_processing_job(**processing_request(aws, name, POLITE, **on_hosts(2)))
    wait_for_line(aws, GROUP, f"{name}/algo-2-", "asleep")
    client.stop_processing_job(ProcessingJobName=name)
    assert sagemaker_end(executor, "Processing", name)["ProcessingJobStatus"] == "Stopped"
    streams = aws.client("logs").describe_log_streams(logGroupName=GROUP, logStreamNamePrefix=f"{name}/")
    for stream in streams["logStreams"]:
        lines = aws.logs(GROUP, stream["logStreamName"])
        assert lines == (["asleep", "goodbye"] if "algo-2" in stream["logStreamName"] else [])
    assert executor.stop() == 0


def test_stopped_script_can_handle_sigterm(executor: Executor, aws: Aws, name: str) -> None:
    """A stopped script can handle SIGTERM, and a second stop is refused."""
    client = executor.client("sagemaker")
    client.create_processing_job(**processing_request(aws, name, POLITE))
    wait_for_line(aws, GROUP, f"{name}/algo-1-", "asleep")
    client.stop_processing_job(ProcessingJobName=name)
    assert sagemaker_end(executor, "Processing", name)["ProcessingJobStatus"] == "Stopped"
    assert aws.logs(GROUP, f"{name}/algo-1-") == ["asleep", "goodbye"]
    with pytest.raises(ClientError, match="is in status Stopped") as refused:
        client.stop_processing_job(ProcessingJobName=name)
    assert refused.value.response["Error"]["Code"] == "ValidationException"


def test_job_name_cannot_be_reused(executor: Executor, aws: Aws, name: str) -> None:
    """A second job of the same name is refused, both while the first one runs and after it ended."""
    client = executor.client("sagemaker")
    request = processing_request(aws, name, "print('done')")
    client.create_processing_job(**request)
    for _ in range(2):
        with pytest.raises(client.exceptions.ResourceInUse, match="must be unique"):
            client.create_processing_job(**request)
        sagemaker_end(executor, "Processing", name)


def test_unknown_job_is_a_validation_error(executor: Executor, name: str) -> None:
    """Describing or stopping an unknown job returns the error that boto3's waiters expect."""
    client = executor.client("sagemaker")
    for call in (client.describe_processing_job, client.stop_processing_job):
        with pytest.raises(ClientError, match="Could not find requested job with name") as refused:
            call(ProcessingJobName=name)
        assert refused.value.response["Error"]["Code"] == "ValidationException"


def test_instances_beyond_the_limit_are_refused(executor: Executor, aws: Aws, name: str) -> None:
    """A job beyond the instance limit is refused with ResourceLimitExceeded and is not created."""
    client = executor.client("sagemaker")
    request = processing_request(aws, name, "", **on_hosts(5))
    with pytest.raises(client.exceptions.ResourceLimitExceeded, match="service limit"):
        client.create_processing_job(**request)
    with pytest.raises(ClientError, match="Could not find"):
        client.describe_processing_job(ProcessingJobName=name)


def test_missing_input_fails_the_job(executor: Executor, aws: Aws, name: str) -> None:
    """A job whose input prefix has no objects fails with the prefix in its reason."""
    request = processing_request(aws, name, "")
    request["ProcessingInputs"][0]["S3Input"]["S3Uri"] = f"s3://{BUCKET}/{name}/nothing"
    executor.client("sagemaker").create_processing_job(**request)
    with pytest.raises(WaiterError):
        sagemaker_end(executor, "Processing", name)
    job = executor.client("sagemaker").describe_processing_job(ProcessingJobName=name)
    assert job["FailureReason"].startswith(
        f'ClientError: No S3 objects found under S3 URL "s3://{BUCKET}/{name}'
    )


def test_key_cannot_escape_the_input_directory(executor: Executor, aws: Aws, name: str) -> None:
    """An object whose key climbs with `..` fails the job instead of being written elsewhere."""
    aws.client("s3").put_object(Bucket=BUCKET, Key=f"{name}/in/../../../../escaped", Body=b"x")
    request = processing_request(aws, name, "")
    request["ProcessingInputs"][0]["S3Input"]["S3Uri"] = f"s3://{BUCKET}/{name}/in/"
    executor.client("sagemaker").create_processing_job(**request)
    with pytest.raises(WaiterError):
        sagemaker_end(executor, "Processing", name)
    job = executor.client("sagemaker").describe_processing_job(ProcessingJobName=name)
    assert "outside its directory" in job["FailureReason"]


def test_jobs_are_listed_and_tagged(executor: Executor, aws: Aws, name: str) -> None:
    """Jobs are listed by name and status in pages, and their tags can be read and extended."""
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
