"""What a batch consumed: the load's report, and what Glue and SageMaker say of their jobs."""

from __future__ import annotations

import logging
from typing import Any

from mlpipe_dagster.costs import Consumption
from mlpipe_dagster.resources.platform import Platform
from prediction_contract.manifests.load_report import LoadReport
from prediction_contract.manifests.manifest import Manifest

_LOG = logging.getLogger(__name__)
# Steps of the load that keep Snowflake's warehouse busy.
_WAREHOUSE_STEPS = ("stage", "move")
# What a worker of each type has, in DPU.
_WORKER_DPU = {"G.025X": 0.25, "Standard": 1.0, "G.1X": 1.0, "G.2X": 2.0, "G.4X": 4.0, "G.8X": 8.0}


def batch_consumption(platform: Platform, manifest: Manifest, report: LoadReport | None) -> Consumption:
    """Return what is known of a batch's consumption; a job that AWS no longer knows is left out."""
    details = report.dynamodb.details if report and report.dynamodb else {}
    durations = report.durations if report else {}
    return Consumption(
        write_units=int(details.get("write_units", 0)),
        dpu_seconds=_dpu_seconds(platform, report.job_run_id) if report else 0.0,
        warehouse_seconds=sum(durations.get(step, 0) for step in _WAREHOUSE_STEPS) / 1000,
        machine_seconds=_machine_seconds(platform, manifest.producer.job_name),
    )


def _dpu_seconds(platform: Platform, job_run_id: str) -> float:
    glue = platform.client("glue")
    try:
        run = glue.get_job_run(JobName=platform.settings.deployment.load_job, RunId=job_run_id)["JobRun"]
    except glue.exceptions.ClientError as error:
        _LOG.info("Glue says nothing of job run %s: %s", job_run_id, error)
        return 0.0
    if "DPUSeconds" in run:
        return float(run["DPUSeconds"])
    workers = run.get("NumberOfWorkers", 0) * _WORKER_DPU.get(run.get("WorkerType", ""), 0.0)
    return float(run.get("ExecutionTime", 0)) * (run.get("MaxCapacity") or workers)


def _machine_seconds(platform: Platform, job_name: str | None) -> dict[str, float]:
    if not job_name:
        return {}
    sagemaker = platform.client("sagemaker")
    try:
        job: Any = sagemaker.describe_processing_job(ProcessingJobName=job_name)
    except sagemaker.exceptions.ClientError as error:
        _LOG.info("SageMaker says nothing of job %s: %s", job_name, error)
        return {}
    began, ended = job.get("ProcessingStartTime"), job.get("ProcessingEndTime")
    if began is None or ended is None:
        return {}
    cluster = job["ProcessingResources"]["ClusterConfig"]
    seconds = (ended - began).total_seconds() * cluster["InstanceCount"]
    return {cluster["InstanceType"]: seconds}
