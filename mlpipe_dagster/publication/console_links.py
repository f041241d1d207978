"""Where a person finds a batch's parts in the AWS consoles."""

from __future__ import annotations

from urllib.parse import quote

from prediction_contract.manifests.manifest import Manifest
from prediction_contract.naming.resource_names import Deployment


def console_links(deployment: Deployment, manifest: Manifest, load_job_run_id: str | None) -> dict[str, str]:
    """Return addresses by what they show; all of them ask for a login, and none carries a secret."""
    host = _host(deployment)
    region = deployment.region
    links = {
        "done_file": f"{host}/s3/object/{manifest.bucket}?region={region}&prefix={quote(manifest.key)}",
        "json_parts": f"{host}/s3/buckets/{manifest.bucket}?region={region}"
        f"&prefix={quote(manifest.json_prefix)}",
        "online_table": f"{host}/dynamodbv2/home?region={region}#table?name="
        f"{deployment.online_table(manifest.model)}",
    }
    if load_job_run_id:
        links["load_job_run"] = (
            f"{host}/gluestudio/home?region={region}#/job/{quote(deployment.load_job)}"
            f"/run/{quote(load_job_run_id)}"
        )
    if manifest.producer.job_name:
        links["score_job"] = (
            f"{host}/sagemaker/home?region={region}#/processing-jobs/{quote(manifest.producer.job_name)}"
        )
    return links


def _host(deployment: Deployment) -> str:
    if deployment.partition == "aws-cn":
        return f"https://{deployment.region}.console.amazonaws.cn"
    if deployment.partition == "aws-us-gov":
        return f"https://{deployment.region}.console.amazonaws-us-gov.com"
    return f"https://{deployment.region}.console.aws.amazon.com"
