"""The Glue job that loads batches. The stack uploads its code, and `infra.code_upload` its wheels."""

from __future__ import annotations

from typing import TYPE_CHECKING

from aws_cdk import aws_glue as glue
from aws_cdk import aws_s3_assets as s3_assets

from infra.capabilities.accepted_findings import acknowledge
from infra.capabilities.log_storage import add_log_group
from infra.capabilities.roles import add_role
from infra.definitions.resource_definitions import load_job
from infra.packaging import PLATFORM, build_glue_archive
from infra.permissions.policy_statements import allow
from infra.permissions.role_definitions import glue_load_role

if TYPE_CHECKING:
    from pathlib import Path

    import aws_cdk as cdk

    from prediction_contract.naming.resource_names import Deployment

_SCRIPT = PLATFORM / "glue_scripts" / "load_predictions.py"


def add_load_job(stack: cdk.Stack, deployment: Deployment, archives: Path) -> None:
    """Add the job, its role, code and log groups. The code's archive is built in the folder `archives`."""
    script = s3_assets.Asset(stack, "LoadScript", path=str(_SCRIPT))
    archive = s3_assets.Asset(stack, "LoadCode", path=str(build_glue_archive(archives).archive.path))
    role = add_role(
        stack,
        "LoadRole",
        deployment,
        glue_load_role(deployment),
        allow(
            "ReadJobCode",
            ["s3:GetObject"],
            [
                f"arn:{deployment.partition}:s3:::{asset.s3_bucket_name}/{asset.s3_object_key}"
                for asset in (script, archive)
            ],
        ),
        # Before Glue fetches a file, it looks the file up and asks for the bucket's region.
        allow(
            "FindJobCode",
            ["s3:ListBucket", "s3:GetBucketLocation"],
            [f"arn:{deployment.partition}:s3:::{script.s3_bucket_name}"],
        ),
    )
    for construct_id, name in zip(("LoadOutput", "LoadErrors"), deployment.load_log_groups, strict=True):
        add_log_group(stack, construct_id, name)
    definition = load_job(deployment, code_urls=(script.s3_object_url, archive.s3_object_url))
    job = glue.CfnJob(
        stack,
        "LoadJob",
        name=definition.name,
        role=role.attr_arn,
        command=glue.CfnJob.JobCommandProperty(
            name="glueetl", script_location=definition.script_location, python_version="3"
        ),
        default_arguments=definition.default_arguments,
        execution_property=glue.CfnJob.ExecutionPropertyProperty(
            max_concurrent_runs=definition.max_concurrent_runs
        ),
        glue_version=definition.glue_version,
        max_retries=definition.max_retries,
        number_of_workers=definition.workers,
        timeout=definition.timeout_minutes,
        worker_type=definition.worker_type,
    )
    acknowledge(
        job,
        GL1="CloudWatch encrypts the log with its own key, and the log contains no values of rows.",
        GL3="The job uses no bookmarks: the registry records what was loaded.",
    )
