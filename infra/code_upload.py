"""Upload the jobs' code to a stage's data bucket and print the keys: `mlpipe upload-code prod`.

Run it once the stage's bucket exists, and after each change of the code; the stacks do not upload the code.
Archives and wheels that exist are not written again. It also uploads the columns and inputs of models with
SageMaker pipelines, and creates the log groups of SageMaker's jobs with a retention if they do not exist.
"""

from __future__ import annotations

import argparse
import contextlib
import dataclasses
import os
import sys
from functools import partial
from pathlib import Path
from typing import TYPE_CHECKING, Any

import boto3
from botocore.exceptions import BotoCoreError, ClientError

from infra.glue_wheels import build_glue_wheels, wheels_digest
from infra.packaging import PackagingError, build_glue_archive, build_sagemaker_code
from infra.provisioned_models import provisioned_models
from infra.stages import stage_in
from model_declaration.project import Project
from prediction_contract.errors import ContractError
from prediction_contract.naming.resource_names import PROCESSING_LOG_GROUP, TRAINING_LOG_GROUP

if TYPE_CHECKING:
    from collections.abc import Callable, Iterable

    from infra.provisioned_models import ProvisionedModel
    from prediction_contract.naming.resource_names import Deployment

# Named by SageMaker and shared by all jobs of an account. CloudFormation cannot own them: it refuses to
# create a group that another stage, or a job of another team, has created. SageMaker creates a missing one
# without a retention.
SHARED_LOG_GROUPS = (PROCESSING_LOG_GROUP, TRAINING_LOG_GROUP)
RETENTION_DAYS = 90
# A group has no retention for a moment after it is created. The tag says that it still has to get one.
CREATOR_TAG = ("mlpipe:created-by", "infra.code_upload")


@dataclasses.dataclass(frozen=True, slots=True)
class UploadedCode:
    """The keys of the uploaded code in the data bucket.

    Attributes:
        glue_archive_key: The key for `--extra-py-files`.
        load_script_key: The key for the Glue job's `ScriptLocation`.
        sagemaker_prefix: The prefix for a processing input's `S3Prefix`; ends in a slash.
        training_code_key: The key for `sagemaker_submit_directory`.
    """

    glue_archive_key: str
    load_script_key: str
    sagemaker_prefix: str
    training_code_key: str

    @property
    def sagemaker_digest(self) -> str:
        """SHA-256 of the code that SageMaker's jobs run."""
        return self.sagemaker_prefix.rstrip("/").rpartition("/")[2]


def upload_code(s3: Any, deployment: Deployment, project: Project, out_dir: Path) -> UploadedCode:
    """Build the jobs' code and upload it under its digest, so that running jobs keep their code.

    Args:
        s3: A boto3 S3 client of the home region.
        deployment: The deployment of the bucket.
        project: The project whose functions SageMaker's jobs run.
        out_dir: The folder for archives.

    Raises:
        PackagingError: The code cannot be packaged.
        botocore.exceptions.ClientError: S3 refused a request.
    """
    glue, sagemaker = build_glue_archive(out_dir), build_sagemaker_code(project, out_dir)
    uploaded = UploadedCode(
        glue_archive_key=deployment.code_archive_key("glue_scripts", glue.digest),
        load_script_key=deployment.load_script_key,
        sagemaker_prefix=deployment.code_tree_prefix("sagemaker_scripts", sagemaker.digest),
        training_code_key=deployment.training_code_key(sagemaker.digest),
    )
    bucket = deployment.data_bucket
    if not _exists(s3, bucket, uploaded.glue_archive_key):
        s3.put_object(Bucket=bucket, Key=uploaded.glue_archive_key, Body=glue.archive.path.read_bytes())
    # This object is uploaded last, so if it exists the upload is complete.
    if not _exists(s3, bucket, uploaded.training_code_key):
        for name, content in sagemaker.files.items():
            s3.put_object(Bucket=bucket, Key=f"{uploaded.sagemaker_prefix}{name}", Body=content)
        archive = sagemaker.archive.path.read_bytes()
        s3.put_object(Bucket=bucket, Key=uploaded.training_code_key, Body=archive)
    # One fixed key: the job's definition names it. It only imports its package, which the archive holds.
    s3.put_object(
        Bucket=bucket, Key=uploaded.load_script_key, Body=glue.files["glue_scripts/load_predictions.py"]
    )
    return uploaded


def upload_wheels(s3: Any, deployment: Deployment, build: Callable[[], bytes]) -> str:
    """Upload the zip of wheels that Glue installs, unless it exists; return its key.

    Args:
        s3: A boto3 S3 client of the home region.
        deployment: The deployment of the bucket.
        build: Builds the archive's bytes.

    Raises:
        PackagingError: The archive cannot be built.
        botocore.exceptions.ClientError: S3 refused a request.
    """
    key = deployment.glue_wheels_key(wheels_digest())
    if not _exists(s3, deployment.data_bucket, key):
        s3.put_object(Bucket=deployment.data_bucket, Key=key, Body=build())
    return key


def upload_documents(s3: Any, deployment: Deployment, models: Iterable[ProvisionedModel]) -> tuple[str, ...]:
    """Upload the columns and inputs of models with pipelines; return the keys, which contain digests.

    Raises:
        botocore.exceptions.ClientError: S3 refused a request.
    """
    keys = []
    for model in models:
        declared = model.scheduled or model.retrained
        if declared is not None:
            for key, content in (declared.schema_document, model.inputs.to_document()):
                s3.put_object(Bucket=deployment.data_bucket, Key=key, Body=content)
                keys.append(key)
    return tuple(keys)


def create_shared_log_groups(logs: Any) -> tuple[str, ...]:
    """Create missing log groups with a retention, and return the existing groups without one.

    Groups that somebody else created are not changed: a retention would delete their old lines.

    Args:
        logs: A boto3 CloudWatch Logs client of the home region.

    Raises:
        botocore.exceptions.ClientError: CloudWatch Logs refused a request.
    """
    without_retention = []
    name_of_tag, creator = CREATOR_TAG
    for name in SHARED_LOG_GROUPS:
        with contextlib.suppress(logs.exceptions.ResourceAlreadyExistsException):
            logs.create_log_group(logGroupName=name, tags={name_of_tag: creator})
        found = logs.describe_log_groups(logGroupNamePrefix=name)["logGroups"]
        (group,) = (each for each in found if each["logGroupName"] == name)
        if "retentionInDays" in group:
            continue
        tags = logs.list_tags_for_resource(resourceArn=group["logGroupArn"])["tags"]
        if tags.get(name_of_tag) == creator:
            logs.put_retention_policy(logGroupName=name, retentionInDays=RETENTION_DAYS)
        else:
            without_retention.append(name)
    return tuple(without_retention)


def _built_wheels(out_dir: Path) -> bytes:
    return build_glue_wheels(out_dir).path.read_bytes()


def _exists(s3: Any, bucket: str, key: str) -> bool:
    try:
        s3.head_object(Bucket=bucket, Key=key)
    except ClientError as error:
        if error.response["Error"]["Code"] in {"404", "NoSuchKey"}:
            return False
        raise
    return True


def main(arguments: list[str] | None = None) -> int:
    """Upload the code of a stage with the credentials of the environment; return 1 if that fails."""
    parser = argparse.ArgumentParser(prog="python -m infra.code_upload", description=__doc__)
    parser.add_argument("stage", help="a stage of stages.yaml")
    parser.add_argument(
        "--out", type=Path, help="folder for archives; default: .mlpipe/packages in the project"
    )
    options = parser.parse_args(arguments)
    try:
        project = Project.find(os.environ, Path.cwd())
        deployment = stage_in(project.stages_file, options.stage).deployment()
        models = provisioned_models(project)
        project.make_state_folder()
    except ContractError as error:
        sys.stderr.write(f"{error}\n")
        return 1
    out: Path = options.out or project.packages
    try:
        s3 = boto3.client("s3", region_name=deployment.home)
        uploaded = upload_code(s3, deployment, project, out)
        wheels = upload_wheels(s3, deployment, partial(_built_wheels, out))
        documents = upload_documents(s3, deployment, models)
    except (PackagingError, ContractError, ClientError, BotoCoreError) as error:
        sys.stderr.write(
            f"The code of stage {options.stage} was not fully uploaded to {deployment.data_bucket}: {error}\n"
        )
        return 1
    for key in (*dataclasses.astuple(uploaded), wheels, *documents):
        sys.stdout.write(f"s3://{deployment.data_bucket}/{key}\n")
    return _create_log_groups(deployment)


def _create_log_groups(deployment: Deployment) -> int:
    """Create the shared log groups; return 1 if that fails."""
    try:
        without_retention = create_shared_log_groups(boto3.client("logs", region_name=deployment.home))
    except (ClientError, BotoCoreError) as error:
        sys.stderr.write(
            "The code was uploaded, but creating the log groups "
            f"{' and '.join(SHARED_LOG_GROUPS)} failed: {error}\n"
            "Run the command again with the permissions logs:CreateLogGroup, logs:TagResource, "
            "logs:DescribeLogGroups, logs:ListTagsForResource and logs:PutRetentionPolicy.\n"
        )
        return 1
    for group in without_retention:
        sys.stderr.write(
            f"The log group {group} has no retention. If no other job needs its old lines, run: "
            f"aws logs put-retention-policy --region {deployment.home} --log-group-name {group} "
            f"--retention-in-days {RETENTION_DAYS}\n"
        )
    return 0


if __name__ == "__main__":
    sys.exit(main())
