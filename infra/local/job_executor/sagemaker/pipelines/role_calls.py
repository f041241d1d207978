"""Calls of a pipeline under its role: SageMaker's operations, files on S3, messages to queues."""

from __future__ import annotations

import json
import logging
from dataclasses import dataclass
from typing import TYPE_CHECKING, Any

from botocore.exceptions import BotoCoreError, ClientError

from infra.local.job_executor.aws_access import CALLER_KEY, RoleUnusableError
from infra.local.job_executor.executor_settings import ACCOUNT_ID
from infra.local.job_executor.jobs.job_records import JobExecutionError
from infra.local.job_executor.jobs.s3_transfer import S3Location
from infra.local.job_executor.json_protocol import ApiError

if TYPE_CHECKING:
    from collections.abc import Callable

    from infra.local.job_executor.aws_access import AwsAccess, AwsCredentials
    from infra.local.job_executor.executor_settings import ExecutorSettings

_LOG = logging.getLogger(__name__)
_PRINCIPAL = "sagemaker.amazonaws.com"
_SESSION = "SageMaker"
_MAX_FILE_BYTES = 4 * 1024 * 1024
_INTERNAL_STATUS = 500

# For each operation, its resource in policies and the request's member that names the resource.
_RESOURCES = {
    "CreateProcessingJob": ("processing-job/{}", "ProcessingJobName"),
    "DescribeProcessingJob": ("processing-job/{}", "ProcessingJobName"),
    "StopProcessingJob": ("processing-job/{}", "ProcessingJobName"),
    "CreateTrainingJob": ("training-job/{}", "TrainingJobName"),
    "DescribeTrainingJob": ("training-job/{}", "TrainingJobName"),
    "StopTrainingJob": ("training-job/{}", "TrainingJobName"),
    "CreateModelPackage": ("model-package/{}/*", "ModelPackageGroupName"),
    "DescribeModelPackage": ("{}", "ModelPackageName"),
}


@dataclass(frozen=True)
class RoleCalls:
    """Calls under a pipeline's role.

    Args:
        settings: The region, and whether the role's policies are enforced.
        access: Reads and assumes roles.
        dispatch: Carries out an operation of this executor, given target and body. It returns the answer's
            body, or None if the answer is lost.
    """

    settings: ExecutorSettings
    access: AwsAccess
    dispatch: Callable[[str, bytes], bytes | None]

    def call(self, role_arn: str, operation: str, request: dict[str, Any]) -> dict[str, Any]:
        """Call an operation of SageMaker as a client of this executor would; injected faults apply.

        Raises:
            ApiError: The answer is an error or was lost, or the role may not call the operation.
        """
        form, member = _RESOURCES[operation]
        name = request.get(member, "")
        credentials = self._credentials(role_arn)
        _note_call(operation, name or "-", credentials)
        resource = form.format(name)
        if not resource.startswith("arn:"):
            resource = f"arn:aws:sagemaker:{self.settings.region}:{ACCOUNT_ID}:{resource}"
        self._require(role_arn, f"sagemaker:{operation}", resource)
        if request.get("Tags"):
            _note_call("AddTags", resource, credentials)
            self._require(role_arn, "sagemaker:AddTags", resource)
        if "RoleArn" in request:
            self._require(role_arn, "iam:PassRole", request["RoleArn"])
        CALLER_KEY.set(credentials.access_key_id)
        answer = self.dispatch(f"SageMaker.{operation}", json.dumps(request).encode())
        if answer is None:
            raise ApiError("RequestTimeout", "The answer was lost.", status=_INTERNAL_STATUS)
        return json.loads(answer)

    def read(self, role_arn: str, uri: str) -> bytes:
        """Return the content of an object.

        Raises:
            JobExecutionError: The object cannot be read, or is too large.
        """
        location = S3Location.parse(uri)
        client = self.access.client("s3", self._credentials(role_arn))
        try:
            answer = client.get_object(Bucket=location.bucket, Key=location.key)
            if answer["ContentLength"] > _MAX_FILE_BYTES:
                raise JobExecutionError(f"ClientError: {uri} has more than {_MAX_FILE_BYTES} bytes.")
            return answer["Body"].read()
        except (BotoCoreError, ClientError) as error:
            raise JobExecutionError(f"ClientError: {uri} cannot be read: {error}") from error

    def send(self, role_arn: str, queue_url: str, message: dict[str, Any]) -> None:
        """Send a message to a queue.

        Raises:
            JobExecutionError: The message could not be sent.
        """
        client = self.access.client("sqs", self._credentials(role_arn))
        try:
            client.send_message(QueueUrl=queue_url, MessageBody=json.dumps(message))
        except (BotoCoreError, ClientError) as error:
            raise JobExecutionError(f"ClientError: no message went to {queue_url}: {error}") from error

    def _credentials(self, role_arn: str) -> AwsCredentials:
        """Assume the role.

        Raises:
            ApiError: The role cannot be assumed.
        """
        try:
            self.access.check_role(role_arn, _PRINCIPAL)
            return self.access.assume(role_arn, _SESSION)
        except RoleUnusableError as error:
            raise ApiError("AccessDeniedException", f"Could not assume role {role_arn} ({error})") from error
        except (BotoCoreError, ClientError) as error:
            raise ApiError("InternalFailure", f"{role_arn}: {error}", status=_INTERNAL_STATUS) from error

    def _require(self, role_arn: str, action: str, resource: str) -> None:
        """Refuse an action that the role's policies do not allow, if permissions are enforced.

        Raises:
            ApiError: The policies do not allow it.
        """
        if not self.settings.enforce_iam or self.access.allows(
            role_arn, action, resource, service=_PRINCIPAL
        ):
            return
        name = role_arn.rsplit("/", 1)[-1]
        raise ApiError(
            "AccessDeniedException",
            f"User: arn:aws:sts::{ACCOUNT_ID}:assumed-role/{name}/{_SESSION} is not authorized to perform: "
            f"{action} on resource: {resource} because no identity-based policy allows the {action} action",
        )


def _note_call(operation: str, resource: str, credentials: AwsCredentials) -> None:
    """Log the call in the same format as calls from outside."""
    _LOG.info("call SageMaker.%s on %s with access key %s", operation, resource, credentials.access_key_id)
