"""Tests of the executor's HTTP interface: server-side validation, injected faults, refused requests."""

from __future__ import annotations

import http.client
import json
import time
from typing import TYPE_CHECKING

import pytest
from botocore.exceptions import ClientError, ConnectionClosedError

from tests.infra.job_executor.job_stack import Aws, Executor, add_fault, glue_job, processing_request
from tests.infra.job_executor.job_stack import http as send

if TYPE_CHECKING:
    from collections.abc import Iterator
    from typing import Any

pytestmark = pytest.mark.stack

AWS_JSON = "application/x-amz-json-1.1"
NO_RETRIES = {"total_max_attempts": 1}


@pytest.fixture(autouse=True)
def _no_faults(executor: Executor) -> Iterator[None]:
    """Remove all injected faults after each test."""
    yield
    assert send("DELETE", f"{executor.url}/_executor/faults")[0] == 200


@pytest.mark.parametrize(
    ("service", "operation", "parameters", "words"),
    [
        ("glue", "start_job_run", {}, "JobName"),
        ("glue", "start_job_run", {"JobName": "x", "Timeout": 0}, "valid min value"),
        ("glue", "get_jobs", {"MaxResults": 1001}, "less than or equal to 1000"),
        ("glue", "get_job", {"JobName": "line\nbreak"}, "regular expression"),
        ("sagemaker", "describe_processing_job", {"ProcessingJobName": "under_score"}, "regular expression"),
        ("sagemaker", "describe_processing_job", {"ProcessingJobName": 7}, "Invalid type"),
        ("sagemaker", "list_processing_jobs", {"StatusEquals": "Sleeping"}, "enum value set"),
    ],
)
def test_invalid_request_is_refused_by_server(
    executor: Executor, service: str, operation: str, parameters: dict[str, Any], words: str
) -> None:
    """A request that violates the service model gets a ValidationException that names the constraint."""
    client = executor.client(service, parameter_validation=False)
    with pytest.raises(ClientError, match=words) as refused:
        getattr(client, operation)(**parameters)
    assert refused.value.response["Error"]["Code"] == "ValidationException"
    assert refused.value.response["ResponseMetadata"]["HTTPStatusCode"] == 400


@pytest.mark.parametrize(
    "local_path", ["/etc", "/opt/ml/processing/../../../etc", "/opt/ml/processing-elsewhere"]
)
def test_local_path_outside_processing_folder_is_refused(
    executor: Executor, aws: Aws, name: str, local_path: str
) -> None:
    """An input cannot be placed outside `/opt/ml/processing`."""
    request = processing_request(aws, name, "")
    request["ProcessingInputs"][0]["S3Input"]["LocalPath"] = local_path
    with pytest.raises(ClientError, match="below /opt/ml/processing"):
        executor.client("sagemaker").create_processing_job(**request)


def test_unsupported_operation_is_refused(executor: Executor) -> None:
    """An operation that the executor does not serve gets UnknownOperationException."""
    with pytest.raises(ClientError) as refused:
        executor.client("glue").get_databases()
    assert refused.value.response["Error"]["Code"] == "UnknownOperationException"


def test_injected_throttling_is_retried_by_client(executor: Executor) -> None:
    """boto3's retries survive two injected throttles, and the executor counts them."""
    fault = {"service": "glue", "operation": "GetJobs", "error": "ThrottlingException", "count": 2}
    assert add_fault(executor, **fault)[0] == 200
    executor.client("glue", retries={"total_max_attempts": 5, "mode": "standard"}).get_jobs()
    listed = json.loads(send("GET", f"{executor.url}/_executor/faults")[1])["faults"]
    assert [(rule["fired"], rule["count"]) for rule in listed] == [(2, 0)]


@pytest.mark.parametrize(
    ("error", "status"),
    [("ThrottlingException", 400), ("InternalFailure", 500), ("OperationTimeoutException", 400)],
)
def test_injected_error_has_code_and_status(executor: Executor, error: str, status: int) -> None:
    """An injected error reaches the client once, with the code and status that AWS would send."""
    add_fault(executor, service="glue", operation="GetJobs", error=error)
    client = executor.client("glue", retries=NO_RETRIES)
    with pytest.raises(ClientError) as refused:
        client.get_jobs()
    assert refused.value.response["Error"]["Code"] == error
    assert refused.value.response["ResponseMetadata"]["HTTPStatusCode"] == status
    client.get_jobs()


def test_request_with_injected_error_is_not_carried_out(executor: Executor, aws: Aws, name: str) -> None:
    """A job is not created by a request that gets an injected error, so that the request can be repeated."""
    add_fault(executor, service="sagemaker", operation="CreateProcessingJob", error="ThrottlingException")
    client = executor.client("sagemaker", retries=NO_RETRIES)
    request = processing_request(aws, name, "")
    with pytest.raises(ClientError, match="ThrottlingException"):
        client.create_processing_job(**request)
    assert client.list_processing_jobs(NameContains=name)["ProcessingJobSummaries"] == []
    client.create_processing_job(**request)


def test_request_with_lost_answer_is_carried_out(executor: Executor, aws: Aws, name: str) -> None:
    """A job is created even if the connection closes before the answer."""
    add_fault(executor, service="sagemaker", operation="CreateProcessingJob", lost_answer=True)
    client = executor.client("sagemaker", retries=NO_RETRIES)
    request = processing_request(aws, name, "")
    with pytest.raises(ConnectionClosedError):
        client.create_processing_job(**request)
    assert client.describe_processing_job(ProcessingJobName=name)["ProcessingJobName"] == name
    with pytest.raises(client.exceptions.ResourceInUse):
        client.create_processing_job(**request)


def test_injected_latency_delays_the_answer(executor: Executor, aws: Aws, name: str) -> None:
    """Injected latency delays the answer without changing it."""
    job = glue_job(executor, aws, name, "")
    add_fault(executor, service="glue", operation="GetJob", latency_seconds=1.5)
    began = time.monotonic()
    assert executor.client("glue").get_job(JobName=job)["Job"]["Name"] == job
    assert time.monotonic() - began >= 1.5


@pytest.mark.parametrize(
    "fault",
    [
        {"service": "glue", "operation": "GetJob"},
        {"service": "glue", "operation": "GetJob", "error": "NoSuchError"},
        {"service": "glue", "operation": "GetJob", "error": "ThrottlingException", "counts": 2},
        {"service": "glue", "operation": "GetJob", "error": "ThrottlingException", "lost_answer": True},
        {"service": "glue", "operation": "GetJob", "error": "ThrottlingException", "count": 0},
        {"service": "glue", "operation": "GetDatabases", "error": "ThrottlingException"},
        {"service": "s3", "operation": "GetJob", "error": "ThrottlingException"},
        {"service": "glue", "operation": "GetJob", "latency_seconds": -1},
        {"service": "glue", "operation": "GetJob", "ends_as": "EXPIRED"},
        {"service": "glue", "operation": "StartJobRun", "ends_as": "SUCCEEDED"},
        {"service": "sagemaker", "operation": "CreateTrainingJob", "ends_as": "EXPIRED"},
        {"service": "glue", "operation": "GetJob", "dropped": True},
        {"service": "events", "operation": "SageMaker Model Package State Change", "lost_answer": True},
        {"service": "events", "operation": "SageMaker Model Package State Change", "doubled": 2},
        {"service": "events", "operation": "Object Created", "dropped": True},
    ],
)
def test_invalid_fault_is_refused(executor: Executor, fault: dict[str, Any]) -> None:
    """An incomplete, contradictory or unknown fault is answered with 400 and not kept."""
    status, answer = add_fault(executor, **fault)
    assert status == 400
    assert answer["message"]
    assert json.loads(send("GET", f"{executor.url}/_executor/faults")[1]) == {"faults": []}


def test_foreign_host_or_origin_is_refused(executor: Executor) -> None:
    """A request with a foreign Host, as after DNS rebinding, or from a web page is refused."""
    headers = {"X-Amz-Target": "AWSGlue.GetJobs", "Content-Type": AWS_JSON}
    assert send("POST", executor.url, b"{}", **headers)[0] == 200
    assert send("POST", executor.url, b"{}", **headers, Host="evil.example")[0] == 403
    assert send("POST", executor.url, b"{}", **headers, Origin="http://evil.example")[0] == 403
    assert send("GET", f"{executor.url}/health", Host="evil.example")[0] == 404


def test_oversized_body_is_refused_unread(executor: Executor) -> None:
    """A body of more than 4 MiB is answered with 413 before it is sent."""
    connection = http.client.HTTPConnection("127.0.0.1", executor.port, timeout=30)
    connection.putrequest("POST", "/")
    connection.putheader("Content-Length", str(5 * 1024 * 1024))
    connection.endheaders()
    assert connection.getresponse().status == 413
    connection.close()


@pytest.mark.parametrize("body", [b"{", b"[]", b'{"CreationTimeAfter": "today"}'])
def test_malformed_body_is_serialization_error(executor: Executor, body: bytes) -> None:
    """Broken JSON and wrong types get SerializationException, in the body and in AWS's error header."""
    connection = http.client.HTTPConnection("127.0.0.1", executor.port, timeout=30)
    headers = {"X-Amz-Target": "SageMaker.ListTrainingJobs", "Content-Type": AWS_JSON}
    connection.request("POST", "/", body, headers)
    answer = connection.getresponse()
    assert answer.status == 400
    assert answer.headers["x-amzn-ErrorType"] == "SerializationException"
    assert json.loads(answer.read())["__type"] == "SerializationException"
    connection.close()
