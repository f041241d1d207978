"""Finds faults of the deployment itself: bucket, code, registry, tables and queues."""

from __future__ import annotations

from collections.abc import Callable, Iterator
from datetime import date, datetime
from typing import Any

from mlpipe_dagster.cli.deployment_access import DeploymentAccess
from mlpipe_dagster.cli.health.health_findings import HealthFinding, Severity
from mlpipe_dagster.pipeline.code_comparison import UPLOAD_REMEDY, load_code_address, outdated_upload
from prediction_contract.naming.s3_layout import done_prefix

# A sensor's tick handles hundreds of messages, so a deeper queue means that the sensor does not run.
_DEEP_QUEUE = 1000
_ENDED = frozenset({"SUCCEEDED", "FAILED", "STOPPED", "TIMEOUT", "ERROR", "EXPIRED"})


def guarded(topic: str, remedy: str, look: Callable[[], Iterator[HealthFinding]]) -> Iterator[HealthFinding]:
    """Yield the findings of `look`; turn an error of AWS or the platform into a finding."""
    from botocore.exceptions import BotoCoreError, ClientError  # noqa: PLC0415  # as in `main`

    from prediction_contract.errors import ContractError  # noqa: PLC0415

    try:
        yield from look()
    except (BotoCoreError, ClientError, ContractError) as error:
        yield HealthFinding(severity=Severity.ERROR, topic=topic, what=str(error), remedy=remedy)


def bucket_findings(access: DeploymentAccess) -> Iterator[HealthFinding]:
    """Yield nothing; raise boto3's error if the data bucket cannot be listed."""
    access.client("s3").list_objects_v2(Bucket=access.settings.data_bucket, MaxKeys=1)
    yield from ()


def code_findings(access: DeploymentAccess) -> Iterator[HealthFinding]:
    """Yield a finding for each package whose uploaded code differs from this checkout's."""
    settings = access.settings
    places = {
        "sagemaker_scripts": settings.code_prefix,
        "glue_scripts": load_code_address(access.client("glue"), settings.deployment.load_job),
    }
    for deployable, place in places.items():
        outdated = outdated_upload(deployable, place, access.project.package_folder)
        if outdated:
            yield HealthFinding(
                severity=Severity.WARNING,
                topic="code",
                what=outdated.what,
                remedy=f"{UPLOAD_REMEDY}. If the upload is right, check out its commit",
            )


def table_findings(access: DeploymentAccess, models: list[str]) -> Iterator[HealthFinding]:
    """Yield findings about the registry and the models' online tables."""
    deployment = access.settings.deployment
    registry = access.client("dynamodb").describe_table(TableName=deployment.registry_table)["Table"]
    if registry["TableStatus"] not in {"ACTIVE", "UPDATING"}:
        yield HealthFinding(
            severity=Severity.ERROR,
            topic="registry",
            what=f"The registry {deployment.registry_table} is {registry['TableStatus']}",
            remedy="Wait until it is active; if it is being deleted, restore it",
        )
    for model in models:
        yield from _online_table(access, model)


def _online_table(access: DeploymentAccess, model: str) -> Iterator[HealthFinding]:
    client, name = access.client("dynamodb"), access.settings.deployment.online_table(model)
    try:
        status = client.describe_table(TableName=name)["Table"]["TableStatus"]
        expiry = client.describe_time_to_live(TableName=name)["TimeToLiveDescription"]["TimeToLiveStatus"]
    except client.exceptions.ResourceNotFoundException:
        yield HealthFinding(
            severity=Severity.ERROR,
            topic="tables",
            what=f"The online table {name} does not exist",
            remedy="Provision the model: `mlpipe up` locally, a deployment of the stacks on AWS",
            model=model,
        )
        return
    if status not in {"ACTIVE", "UPDATING"} or expiry not in {"ENABLED", "ENABLING"}:
        yield HealthFinding(
            severity=Severity.WARNING,
            topic="tables",
            what=f"The online table {name} is {status}, and the TTL of its items is {expiry}",
            remedy="Provision the model again; without a TTL superseded items stay forever",
            model=model,
        )


def queue_findings(access: DeploymentAccess) -> Iterator[HealthFinding]:
    """Yield findings about the queues of done files and model events, and about dead letters."""
    deployment = access.settings.deployment
    sensors = {deployment.done_file_queue: "done_files", deployment.model_events_queue: "model_versions"}
    for queue, sensor in sensors.items():
        waiting = _depth(access, queue)
        if waiting > _DEEP_QUEUE:
            yield HealthFinding(
                severity=Severity.WARNING,
                topic="queues",
                what=f"{waiting} messages wait in {queue}",
                remedy=f"Check that Dagster's daemon and the sensor `{sensor}` are running",
            )
    dead = _depth(access, deployment.dead_letter_queue)
    if dead:
        yield HealthFinding(
            severity=Severity.ERROR,
            topic="queues",
            what=f"{dead} messages are in {deployment.dead_letter_queue}: the sensor could not handle them",
            remedy="Read them and the sensor's log; load their batches with `mlpipe load`",
        )


def _depth(access: DeploymentAccess, queue: str) -> int:
    sqs = access.client("sqs")
    url = sqs.get_queue_url(QueueName=queue)["QueueUrl"]
    named: Any = ["ApproximateNumberOfMessages", "ApproximateNumberOfMessagesNotVisible"]
    found = sqs.get_queue_attributes(QueueUrl=url, AttributeNames=named)["Attributes"]
    return sum(int(found[name]) for name in named)


def done_files(access: DeploymentAccess, since: date) -> Iterator[tuple[str, datetime]]:
    """Yield key and last-modified time of the objects below `done/` for batches minted since a UTC date."""
    pages = access.client("s3").get_paginator("list_objects_v2")
    # Keys begin with the date, so older ones need not be listed.
    for page in pages.paginate(
        Bucket=access.settings.data_bucket, Prefix="done/", StartAfter=done_prefix(since)
    ):
        for item in page.get("Contents", ()):
            yield item["Key"], item["LastModified"]


def ended_job_run_state(access: DeploymentAccess, job_run_id: str) -> str | None:
    """Return the final state of a load's job run; None if it is running.

    The state is `forgotten` if Glue no longer knows the job run.
    """
    glue = access.client("glue")
    try:
        run = glue.get_job_run(JobName=access.settings.deployment.load_job, RunId=job_run_id)["JobRun"]
    except glue.exceptions.EntityNotFoundException:
        return "forgotten"
    state = str(run["JobRunState"])
    return state if state in _ENDED else None
