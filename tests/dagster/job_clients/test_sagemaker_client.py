"""The SageMaker client starts no second job beside a running one and reports every failure."""

from __future__ import annotations

import os
import time
import uuid
from collections.abc import Mapping
from copy import deepcopy
from dataclasses import replace
from typing import Any

import dagster as dg
import pytest
from dagster_pipes import DagsterPipesError

from mlpipe_dagster.job_clients.job_errors import JobApiError, JobDeadlineError, SageMakerJobError
from mlpipe_dagster.job_clients.pipes_job_client import log_tail
from mlpipe_dagster.job_clients.sagemaker_client import PipesSageMakerClient, SageMakerInvocation
from mlpipe_dagster.resources.platform import Platform
from tests.dagster.job_steps import (
    FAILS,
    QUICK,
    REPORTS,
    SLEEPS,
    WAITS_AFTER_REPORT,
    FinishJobOnceShown,
    ensure_roles,
    fault,
    forget_faults,
    in_step,
    let_job_finish,
    log_lines,
    pipes,
    pipes_objects,
    single_attempt_client,
    upload,
)
from tests.stack_runs import base_image

pytestmark = pytest.mark.stack
CODE = "/opt/ml/processing/input/code"


class Jobs:
    """Processing jobs of one intent, named by attempt."""

    def __init__(self, platform: Platform, **changes: Any) -> None:
        ensure_roles(platform)
        self.platform = platform
        self.stem = f"job-{uuid.uuid4().hex[:12]}"
        self.sagemaker = single_attempt_client(platform, "sagemaker")
        self.client = PipesSageMakerClient(client=self.sagemaker, **{**pipes(platform), **changes})

    def name(self, attempt: int) -> str:
        """Return the job name of an attempt."""
        return f"{self.stem}-{attempt}"

    def request(self, script: str, instances: int = 1) -> dict[str, Any]:
        """Return a request that runs a script."""
        source = {
            "S3Uri": upload(self.platform, script),
            "LocalPath": CODE,
            "S3DataType": "S3Prefix",
            "S3InputMode": "File",
        }
        cluster = {"InstanceCount": instances, "InstanceType": "ml.m5.large", "VolumeSizeInGB": 1}
        return {
            "RoleArn": self.platform.settings.sagemaker_role_arn,
            "AppSpecification": {
                "ImageUri": base_image(os.environ),
                "ContainerEntrypoint": ["python3", f"{CODE}/script.py"],
            },
            "ProcessingInputs": [{"InputName": "code", "S3Input": source}],
            "ProcessingResources": {"ClusterConfig": cluster},
            "Environment": {"OWN": "kept"},
        }

    def run(
        self, request: Mapping[str, Any], instance: dg.DagsterInstance | None = None
    ) -> SageMakerInvocation:
        """Run a job of this intent inside a Dagster step."""
        return in_step(
            lambda context: self.client.run(
                context=context,
                job_name=self.name,
                request=lambda _name, _attempt: request,
                extras={"rows": 7},
            ),
            instance,
        )

    def status(self, attempt: int) -> str:
        """Return SageMaker's status of an attempt's job."""
        described = self.sagemaker.describe_processing_job(ProcessingJobName=self.name(attempt))
        return described["ProcessingJobStatus"]


@pytest.fixture
def jobs(platform: Platform) -> Jobs:
    """Make jobs of a new intent."""
    return Jobs(platform)


def test_completed_job_reports_and_leaves_no_objects(jobs: Jobs) -> None:
    """Messages arrive, the caller's request is unchanged, and Pipes' objects are deleted."""
    request = jobs.request(REPORTS)
    before = deepcopy(request)
    invocation = jobs.run(request)
    assert invocation.get_custom_messages() == ({"rows": 7},)
    assert (invocation.job.name, invocation.job.adopted) == (jobs.name(1), False)
    assert request == before
    assert pipes_objects(jobs.platform) == []
    told: dict[str, Any] = {name: value.value for name, value in invocation.metadata.items()}
    assert str(told["job_page"]).endswith(f"/processing-jobs/{jobs.name(1)}")
    assert (told["instance_type"], told["price_usd_per_hour"]) == ("ml.m5.large", 0.115)
    assert told["estimated_cost_usd"] == pytest.approx(told["job_seconds"] / 3600 * 0.115, abs=1e-5)


def test_failed_job_error_shows_its_log_and_retry_is_a_new_job(jobs: Jobs) -> None:
    """A retry uses the next attempt's name instead of the one already taken."""
    with pytest.raises(SageMakerJobError, match=r"(?s)Failed.*what led to it.*ValueError: no such batch"):
        jobs.run(jobs.request(FAILS))
    assert pipes_objects(jobs.platform) == []
    assert jobs.run(jobs.request(REPORTS)).job.attempt == 2


def test_job_of_several_instances_costs_all_and_names_the_failed_host(jobs: Jobs) -> None:
    """The estimate counts every instance, and the error names the host that failed."""
    script = """
        import json, os, pathlib
        root = pathlib.Path(os.environ["MLPIPE_ML_ROOT"])
        if json.loads((root / "config/resourceconfig.json").read_text())["current_host"] == "algo-2":
            raise ValueError("no such share")
    """
    with pytest.raises(SageMakerJobError, match=r"algo-2-[0-9]+: ValueError: no such share"):
        jobs.run(jobs.request(script, instances=2))
    told: dict[str, Any] = {
        name: value.value for name, value in jobs.run(jobs.request("", instances=2)).metadata.items()
    }
    assert told["instance_count"] == 2
    assert told["estimated_cost_usd"] == pytest.approx(2 * told["job_seconds"] / 3600 * 0.115, abs=1e-5)


def test_log_of_every_host_is_read(platform: Platform) -> None:
    """Each of twenty hosts has its own stream, which may hold the last line."""
    logs = platform.client("logs")
    group, job = f"hosts-{uuid.uuid4().hex}", "score-1"
    logs.create_log_group(logGroupName=group)
    for number in range(1, 21):
        stream = f"{job}/algo-{number}-1700000000"
        logs.create_log_stream(logGroupName=group, logStreamName=stream)
        event = {"timestamp": round(time.time() * 1000), "message": f"host {number}"}
        logs.put_log_events(logGroupName=group, logStreamName=stream, logEvents=[event])
    told = log_tail(logs, f"{job}/", group).splitlines()
    assert sorted(told) == sorted(f"algo-{number}-1700000000: host {number}" for number in range(1, 21))


def test_message_is_shown_while_the_job_runs(platform: Platform) -> None:
    """The job finishes only after the Dagster run has shown its progress."""
    with dg.DagsterInstance.ephemeral() as instance:
        shown = FinishJobOnceShown(platform, instance, "The job reports progress: step=survey rows=5")
        jobs = Jobs(platform, polling=replace(QUICK, sleep=shown))
        jobs.run(jobs.request(WAITS_AFTER_REPORT.format(bucket=platform.settings.data_bucket)), instance)
        assert shown.was_shown
        assert "The job reports its result: rows=7" in log_lines(instance)


def test_job_without_messages_has_no_result(jobs: Jobs) -> None:
    """A job that completed without a report raises an error instead of a materialization."""
    invocation = jobs.run(jobs.request(SLEEPS.format(seconds=0)))
    assert invocation.get_results() == ()
    with pytest.raises(DagsterPipesError, match="No materialization"):
        invocation.get_materialize_result()


def test_running_job_is_adopted(jobs: Jobs) -> None:
    """A run after a crash waits for the earlier job instead of starting a second one."""
    request = jobs.request(SLEEPS.format(seconds=4))
    jobs.sagemaker.create_processing_job(ProcessingJobName=jobs.name(1), **request)
    invocation = jobs.run(request)
    assert (invocation.job.attempt, invocation.job.adopted) == (1, True)
    with pytest.raises(jobs.sagemaker.exceptions.ClientError):
        jobs.status(2)


def test_completed_job_of_the_same_intent_is_adopted(jobs: Jobs) -> None:
    """Work that was completed before a crash is not repeated."""
    request = jobs.request(REPORTS)
    jobs.run(request)
    assert jobs.run(request).job.adopted


def test_interrupted_step_stops_its_job(platform: Platform) -> None:
    """Cancelling the run in the UI must not leave a job that costs money."""
    looks = iter(range(1000))

    def interrupted(_seconds: float) -> None:
        if next(looks) >= 3:
            raise KeyboardInterrupt

    jobs = Jobs(platform, polling=replace(QUICK, sleep=interrupted))
    with pytest.raises((KeyboardInterrupt, dg.DagsterExecutionInterruptedError)):
        jobs.run(jobs.request(SLEEPS.format(seconds=60)))
    assert jobs.status(1) in {"Stopping", "Stopped"}


def test_cancelled_job_is_not_adopted(platform: Platform) -> None:
    """The run waits until it has stopped, and then starts the next attempt."""
    jobs = Jobs(platform)
    jobs.sagemaker.create_processing_job(
        ProcessingJobName=jobs.name(1), **jobs.request(SLEEPS.format(seconds=60))
    )
    jobs.sagemaker.stop_processing_job(ProcessingJobName=jobs.name(1))
    assert jobs.run(jobs.request(REPORTS)).job.attempt == 2
    assert (jobs.status(1), jobs.status(2)) == ("Stopped", "Completed")


def test_stopped_job_is_an_error(platform: Platform) -> None:
    """A job that is stopped while the step waits has not succeeded."""
    looks = iter(range(1000))

    def stopped(seconds: float) -> None:
        QUICK.sleep(seconds)
        if next(looks) == 3:
            jobs.sagemaker.stop_processing_job(ProcessingJobName=jobs.name(1))

    jobs = Jobs(platform, polling=replace(QUICK, sleep=stopped))
    with pytest.raises(SageMakerJobError, match="ended as Stopped"):
        jobs.run(jobs.request(SLEEPS.format(seconds=60)))


def test_wait_for_capacity_ends_at_the_deadline(platform: Platform) -> None:
    """While the account's limit is reached the start is retried, and no job is created."""
    jobs = Jobs(platform, polling=replace(QUICK, deadline_seconds=2))
    endpoint = os.environ["AWS_ENDPOINT_URL_SAGEMAKER"]
    full = {"operation": "CreateProcessingJob", "error": "ResourceLimitExceeded"}
    fault(endpoint, service="sagemaker", count=1000, **full)
    try:
        with pytest.raises(JobDeadlineError, match="did not end within 2 s"):
            jobs.run(jobs.request(SLEEPS.format(seconds=60)))
    finally:
        forget_faults(endpoint)
    with pytest.raises(jobs.sagemaker.exceptions.ClientError):
        jobs.status(1)


def test_adopted_job_shows_its_messages(jobs: Jobs) -> None:
    """After an API outage the next run shows the messages and deletes Pipes' objects."""
    request = jobs.request(WAITS_AFTER_REPORT.format(bucket=jobs.platform.settings.data_bucket))
    impatient = PipesSageMakerClient(
        client=jobs.sagemaker, **{**pipes(jobs.platform), "polling": replace(QUICK, patience_seconds=0)}
    )
    endpoint = os.environ["AWS_ENDPOINT_URL_SAGEMAKER"]
    trouble = {"operation": "DescribeProcessingJob", "error": "InternalFailure", "count": 4}
    fault(endpoint, service="sagemaker", **trouble)
    patient, jobs.client = jobs.client, impatient
    with pytest.raises(JobApiError, match="Querying SageMaker job"):
        jobs.run(request)
    forget_faults(endpoint)
    assert jobs.status(1) == "InProgress"
    assert len(pipes_objects(jobs.platform)) >= 1
    let_job_finish(jobs.platform)
    jobs.client = patient
    with dg.DagsterInstance.ephemeral() as instance:
        assert jobs.run(request, instance).job.adopted
        assert "The job reports progress: step=survey rows=5" in log_lines(instance)
    assert pipes_objects(jobs.platform) == []


def test_job_over_its_deadline_is_stopped(platform: Platform) -> None:
    """The error names the time limit."""
    jobs = Jobs(platform, polling=replace(QUICK, deadline_seconds=2))
    with pytest.raises(Exception, match="did not end within 2 s"):
        jobs.run(jobs.request(SLEEPS.format(seconds=60)))
    assert jobs.status(1) in {"Stopping", "Stopped"}


@pytest.mark.parametrize(
    "trouble",
    [
        {"operation": "DescribeProcessingJob", "error": "ThrottlingException"},
        {"operation": "CreateProcessingJob", "error": "ThrottlingException"},
        {"operation": "CreateProcessingJob", "error": "ResourceLimitExceeded"},
        {"operation": "CreateProcessingJob", "lost_answer": True},
    ],
)
def test_transient_api_errors_do_not_start_a_second_job(jobs: Jobs, trouble: dict[str, Any]) -> None:
    """Throttling, missing capacity and lost answers only cost time."""
    fault(os.environ["AWS_ENDPOINT_URL_SAGEMAKER"], service="sagemaker", count=1, **trouble)
    invocation = jobs.run(jobs.request(SLEEPS.format(seconds=0)))
    assert invocation.job.attempt == 1
    with pytest.raises(jobs.sagemaker.exceptions.ClientError):
        jobs.status(2)


def test_environment_value_over_256_characters_is_refused(jobs: Jobs) -> None:
    """SageMaker would refuse it, so the error names the variable before the call."""
    request = {**jobs.request(REPORTS), "Environment": {"LONG": "x" * 257}}
    with pytest.raises(Exception, match="LONG"):
        jobs.run(request)
