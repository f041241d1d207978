"""The jobs that made and loaded a batch, their cost, and their links to the AWS console."""

from __future__ import annotations

import re
from collections.abc import Iterable, Mapping
from typing import Any

from mlpipe_dagster.cli.deployment_access import DeploymentAccess
from mlpipe_dagster.costs import Prices
from mlpipe_dagster.job_clients.job_metadata import (
    glue_job_run_page,
    glue_job_run_use,
    sagemaker_job_page,
    sagemaker_job_use,
)
from prediction_contract.errors import InvalidNameError
from prediction_contract.manifests.manifest import Manifest
from prediction_contract.naming.batch import BatchId, job_name

UNKNOWN = "unknown"
_FEATURES_KEY = re.compile("features/[^/]+/[a-z]+=[^/]+(?:/hour=[^/]+)?/run=([^/]+)/.+")
_ARTIFACT_KEY = re.compile("models/[^/]+/(?:candidates/)?([^/]+)/output/model[.]tar[.]gz")
_MAX_JOBS = 20


def job_documents(
    access: DeploymentAccess, manifest: Manifest | None, loads: Iterable[Mapping[str, Any]]
) -> list[dict[str, Any]]:
    """Return the jobs that made the inputs, scored the batch and loaded it, in that order.

    Args:
        access: The deployment, whose SageMaker and Glue are asked for each job.
        manifest: The batch's manifest; None if it cannot be read.
        loads: The documents of all load attempts.
    """
    found = []
    for step, job_type, name in _sagemaker_jobs(access, manifest) if manifest else ():
        found.append(_sagemaker_job(access, step, job_type, name))
    job = access.settings.deployment.load_job
    found += [
        _glue_job_run(access, job, str(load["job_run_id"]))
        for load in loads
        if load["job_run_id"] is not None
    ]
    return found


def _sagemaker_jobs(access: DeploymentAccess, manifest: Manifest) -> list[tuple[str, str, str]]:
    """Return step, type and name of the SageMaker jobs that a manifest names."""
    runs = {match[1] for key in manifest.inputs.features if (match := _FEATURES_KEY.fullmatch(key.key))}
    jobs = [
        ("features", "Processing", name) for run in sorted(runs) for name in _attempts(access, manifest, run)
    ]
    artifact = manifest.inputs.model_artifact
    if artifact and (match := _ARTIFACT_KEY.fullmatch(artifact.key)):
        jobs.append(("train", "Training", match[1]))
    if manifest.producer.job_name:
        jobs.append(("score", "Processing", manifest.producer.job_name))
    return jobs


def _attempts(access: DeploymentAccess, manifest: Manifest, run: str) -> list[str]:
    """Return the names of all jobs that prepared a run's features, as SageMaker lists them."""
    try:
        stem = job_name("features", manifest.model, BatchId(run), 1)[:-1]
    except InvalidNameError:
        # The run was started outside this platform, so its jobs' names are unknown.
        return []
    found = _asked(
        access,
        "sagemaker",
        lambda client: client.list_processing_jobs(NameContains=stem, MaxResults=_MAX_JOBS),
    )
    names = [job["ProcessingJobName"] for job in (found or {}).get("ProcessingJobSummaries", ())]
    return sorted(names) or [f"{stem}1"]


def _sagemaker_job(access: DeploymentAccess, step: str, job_type: str, name: str) -> dict[str, Any]:
    described = _asked(
        access,
        "sagemaker",
        lambda client: getattr(client, f"describe_{job_type.lower()}_job")(**{f"{job_type}JobName": name}),
    )
    used = sagemaker_job_use(described, job_type, dict(access.settings.prices.machines)) if described else {}
    return _document(
        step,
        "sagemaker",
        name,
        str(described[f"{job_type}JobStatus"]) if described else UNKNOWN,
        used=used,
        console=sagemaker_job_page(access.settings.deployment.region, job_type, name),
    )


def _glue_job_run(access: DeploymentAccess, job: str, run_id: str) -> dict[str, Any]:
    answer = _asked(access, "glue", lambda client: client.get_job_run(JobName=job, RunId=run_id))
    used = glue_job_run_use(answer["JobRun"], access.settings.prices.glue_dpu_hour) if answer else {}
    return {
        **_document(
            "load",
            "glue",
            job,
            str(answer["JobRun"]["JobRunState"]) if answer else UNKNOWN,
            used=used,
            console=glue_job_run_page(access.settings.deployment.region, job, run_id),
        ),
        "run_id": run_id,
    }


def _asked(access: DeploymentAccess, service: str, ask: Any) -> Any:
    """Return a service's answer; None if the job is unknown, or the service did not answer or refused."""
    from botocore.exceptions import BotoCoreError, ClientError  # noqa: PLC0415  # as in `main`

    try:
        return ask(access.client(service))
    except (BotoCoreError, ClientError):
        return None


def _document(
    step: str, service: str, name: str, status: str, *, used: Mapping[str, Any], console: str
) -> dict[str, Any]:
    return {
        "step": step,
        "service": service,
        "name": name,
        "run_id": None,
        "status": status,
        "seconds": used.get("job_seconds"),
        "estimated_cost_usd": used.get("estimated_cost_usd"),
        "console": console,
    }


def cost_document(jobs: list[dict[str, Any]], loads: list[dict[str, Any]], prices: Prices) -> dict[str, Any]:
    """Return the estimated cost of a batch's own jobs and write units, at the environment's prices.

    Training is left out, because a trained model scores many batches.
    """
    items = [
        {"what": f"{job['step']} {job['run_id'] or job['name']}", "estimated_usd": job["estimated_cost_usd"]}
        for job in jobs
        if job["step"] != "train"
    ]
    for load in loads:
        units = load["write_units"]
        known = isinstance(units, int | float)
        items.append(
            {
                "what": f"DynamoDB writes of load {load['attempt']}",
                "estimated_usd": round(units / 1_000_000 * prices.dynamodb_million_writes, 8)
                if known
                else None,
            }
        )
    known_items = [item["estimated_usd"] for item in items if item["estimated_usd"] is not None]
    return {
        "currency": "USD",
        "estimated_total": round(sum(known_items), 6) if known_items else None,
        "is_complete": bool(items) and len(known_items) == len(items),
        "items": items,
    }
