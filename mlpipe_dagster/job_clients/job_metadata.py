"""Dagster metadata of a job: its pages in the AWS console, its use of machines, and its estimated cost."""

from __future__ import annotations

from collections.abc import Mapping
from typing import Any
from urllib.parse import quote

# On-demand prices of us-east-1 in US dollars per hour; a deployment configures its own.
SAGEMAKER_HOUR_USD = {
    "ml.t3.medium": 0.05,
    "ml.t3.large": 0.10,
    "ml.m5.large": 0.115,
    "ml.m5.xlarge": 0.23,
    "ml.m5.2xlarge": 0.461,
    "ml.m5.4xlarge": 0.922,
    "ml.m5.12xlarge": 2.765,
}
GLUE_DPU_HOUR_USD = 0.44

# https://docs.aws.amazon.com/glue/latest/dg/worker-types.html
_WORKER_DPUS = {
    "Standard": 1,
    "G.025X": 0.25,
    "G.1X": 1,
    "G.2X": 2,
    "G.4X": 4,
    "G.8X": 8,
    "R.1X": 1,
    "R.2X": 2,
}
# Glue bills at least one minute.
_GLUE_LEAST_SECONDS = 60
_HOUR = 3600
# AWS partitions with other console addresses, by the prefix of their regions' names.
_OTHER_CONSOLES = {"cn-": "console.amazonaws.cn", "us-gov-": "console.amazonaws-us-gov.com"}
_PROCESSING = "Processing"


def sagemaker_job_use(
    description: Mapping[str, Any], job_type: str, hour_usd: Mapping[str, float]
) -> dict[str, Any]:
    """Return seconds, machine, price and estimated cost of a job that has ended.

    Args:
        description: The answer of DescribeProcessingJob or DescribeTrainingJob.
        job_type: `Processing` or `Training`.
        hour_usd: Price of an hour by instance type; without a price there is no estimate.
    """
    resources = description.get("ProcessingResources", {}).get("ClusterConfig") or description.get(
        "ResourceConfig", {}
    )
    machine, count = resources.get("InstanceType"), resources.get("InstanceCount", 1)
    began, ended = description.get(f"{job_type}StartTime"), description.get(f"{job_type}EndTime")
    if began is None or ended is None:
        # It was stopped before it had a machine.
        return {"instance_type": machine, "instance_count": count, "job_seconds": 0.0}
    seconds = float(description.get("BillableTimeInSeconds") or (ended - began).total_seconds())
    price = hour_usd.get(machine or "")
    return {
        "instance_type": machine,
        "instance_count": count,
        "job_seconds": round(seconds, 1),
        **_estimate("price_usd_per_hour", price, seconds * count),
    }


def glue_job_run_use(job_run: Mapping[str, Any], dpu_hour_usd: float | None) -> dict[str, Any]:
    """Return seconds, capacity, price and estimated cost of a job run, if Glue reports them.

    Args:
        job_run: The description in the answer of GetJobRun.
        dpu_hour_usd: Price of a DPU hour; None for no estimate.
    """
    seconds = job_run.get("ExecutionTime", 0)
    used: dict[str, Any] = {"job_seconds": float(seconds)}
    for name, member in (("worker_type", "WorkerType"), ("workers", "NumberOfWorkers")):
        if member in job_run:
            used[name] = job_run[member]
    dpu_seconds = _dpu_seconds(job_run, seconds)
    if dpu_seconds is None:
        return used
    return {
        **used,
        "dpu_seconds": round(dpu_seconds, 1),
        **_estimate("price_usd_per_dpu_hour", dpu_hour_usd, dpu_seconds),
    }


def _dpu_seconds(job_run: Mapping[str, Any], seconds: float) -> float | None:
    # Glue reports DPU seconds itself if the number of workers changes while a job runs.
    if "DPUSeconds" in job_run:
        return float(job_run["DPUSeconds"])
    workers, per_worker = job_run.get("NumberOfWorkers"), _WORKER_DPUS.get(job_run.get("WorkerType", ""))
    dpus = job_run.get("MaxCapacity") if workers is None or per_worker is None else workers * per_worker
    return None if dpus is None else dpus * max(seconds, _GLUE_LEAST_SECONDS)


def _estimate(priced: str, price: float | None, seconds: float) -> dict[str, float]:
    if price is None:
        return {}
    return {priced: price, "estimated_cost_usd": round(seconds / _HOUR * price, 6)}


def sagemaker_job_page(region: str, job_type: str, name: str) -> str:
    """Return the console address of a processing or training job."""
    kind = "processing-jobs" if job_type == _PROCESSING else "jobs"
    return f"{console_host(region)}/sagemaker/home?region={region}#/{kind}/{quote(name, safe='')}"


def glue_job_run_page(region: str, job: str, run_id: str) -> str:
    """Return the console address of a job run."""
    return (
        f"{console_host(region)}/gluestudio/home?region={region}"
        f"#/job/{quote(job, safe='')}/run/{quote(run_id, safe='')}"
    )


def log_page(region: str, group: str, stream_prefix: str) -> str:
    """Return the console address of the streams of a CloudWatch log group whose names have a prefix."""
    # CloudWatch's page decodes its fragment twice, the second time with `$` in place of `%`.
    named = [quote(quote(text, safe=""), safe="").replace("%", "$") for text in (group, stream_prefix)]
    return (
        f"{console_host(region)}/cloudwatch/home?region={region}"
        f"#logsV2:log-groups/log-group/{named[0]}$3FlogStreamNameFilter$3D{named[1]}"
    )


def console_host(region: str) -> str:
    """Return the address of a region's AWS console."""
    for beginning, host in _OTHER_CONSOLES.items():
        if region.startswith(beginning):
            return f"https://{region}.{host}"
    return f"https://{region}.console.aws.amazon.com"
