"""SageMaker's operations on pipelines. Each new definition becomes a version of its pipeline."""

from __future__ import annotations

import json
import time
from dataclasses import dataclass
from typing import TYPE_CHECKING, Any, ClassVar

from botocore.exceptions import BotoCoreError, ClientError

from infra.local.job_executor.job_api import RoleApi
from infra.local.job_executor.json_protocol import ApiError
from infra.local.job_executor.sagemaker.pipelines.definition import DefinitionError, read_definition
from infra.local.job_executor.sagemaker.pipelines.pipeline_records import (
    EXECUTION,
    LIVE,
    PIPELINE,
    VERSION,
    pipeline_arn,
    version_name,
    without_nulls,
)

if TYPE_CHECKING:
    from infra.local.job_executor.job_api import Operation, RecordApi, Request
    from infra.local.job_executor.jobs.job_store import Record

_PRINCIPAL = "sagemaker.amazonaws.com"
_MAX_DEFINITION_BYTES = 1_048_576
_SHOWN = ("PipelineDisplayName", "PipelineDescription", "RoleArn", "ParallelismConfiguration")


@dataclass(frozen=True)
class PipelinesApi(RoleApi):
    """The operations on pipelines."""

    refusal: ClassVar = "ValidationException"

    @property
    def operations(self) -> dict[str, Operation]:
        """The supported operations by name."""
        return {
            "CreatePipeline": self.create_pipeline,
            "UpdatePipeline": self.update_pipeline,
            "DescribePipeline": self.describe_pipeline,
            "DeletePipeline": self.delete_pipeline,
            "ListPipelines": self.list_pipelines,
        }

    def create_pipeline(self, request: Request) -> dict[str, Any]:
        """Create a pipeline; a repeated token returns the same pipeline."""
        name = request["PipelineName"]
        arn = pipeline_arn(self.settings.region, name)
        token = {"token": request["ClientRequestToken"], "content": content_of(request)}
        with self.store.exclusively():
            known = self.store.get(PIPELINE, name)
            if known is not None and known["created_by"] == token:
                return {"PipelineArn": arn}
            if known is not None and known["created_by"]["token"] == token["token"]:
                raise reused_token(token["token"])
            if known is not None:
                message = "Pipeline names must be unique within an AWS account and region. "
                raise ApiError("ValidationException", f"{message}Pipeline with name ({name}) already exists.")
        definition = self._checked_definition(request)
        self._check_role(request["RoleArn"])
        now = time.time()
        record = {
            "name": name,
            "arn": arn,
            "created_by": token,
            "version": 1,
            "created_at": now,
            "modified_at": now,
            "tags": request.get("Tags", []),
            **{member: request[member] for member in _SHOWN if member in request},
        }
        with self.store.exclusively():
            if self.store.get(PIPELINE, name) is not None:
                raise ApiError("ConflictException", f"Pipeline {name} is being created by another request.")
            self._add_version(name, 1, definition)
            self.store.insert(PIPELINE, name, record)
        return {"PipelineArn": arn}

    def update_pipeline(self, request: Request) -> dict[str, Any]:
        """Change a pipeline; running executions keep their definition."""
        name = request["PipelineName"]
        self._pipeline(name)
        has_definition = "PipelineDefinition" in request or "PipelineDefinitionS3Location" in request
        definition = self._checked_definition(request) if has_definition else None
        if "RoleArn" in request:
            self._check_role(request["RoleArn"])

        def change(record: Record) -> None:
            record.update({member: request[member] for member in _SHOWN if member in request})
            record["modified_at"] = time.time()
            if definition is not None:
                record["version"] += 1
                self._add_version(name, record["version"], definition)

        record = self.store.update(PIPELINE, name, change)
        return {"PipelineArn": record["arn"], "PipelineVersionId": record["version"]}

    def describe_pipeline(self, request: Request) -> dict[str, Any]:
        """Describe a pipeline with its newest definition, or with the definition of the requested version."""
        if "PipelineVersionAlias" in request:
            raise unsupported("PipelineVersionAlias")
        record = self._pipeline(request["PipelineName"])
        number = request.get("PipelineVersionId", record["version"])
        version = self.store.get(VERSION, version_name(record["name"], number))
        if version is None:
            raise ApiError("ResourceNotFound", f"Pipeline {record['arn']} has no version {number}.")
        return without_nulls(
            {
                "PipelineArn": record["arn"],
                "PipelineName": record["name"],
                "PipelineDefinition": version["definition"],
                "PipelineStatus": "Active",
                "CreationTime": record["created_at"],
                "LastModifiedTime": record["modified_at"],
                "LastRunTime": record.get("last_run_at"),
                **{member: record.get(member) for member in _SHOWN},
            }
        )

    def delete_pipeline(self, request: Request) -> dict[str, Any]:
        """Delete a pipeline and its executions; refused while an execution runs."""
        name = request["PipelineName"]
        with self.store.exclusively():
            record = self._pipeline(name)
            executions = [each for each in self.store.all(EXECUTION) if each["pipeline"] == name]
            if any(each["state"] in LIVE for each in executions):
                raise ApiError(
                    "ConflictException",
                    f"Pipeline {record['arn']} has running executions. Stop them before deleting it.",
                )
            for each in executions:
                self.store.delete(EXECUTION, each["name"])
            self.store.delete(PIPELINE, name)
            for number in range(1, record["version"] + 1):
                self.store.delete(VERSION, version_name(name, number))
        return {"PipelineArn": record["arn"]}

    def list_pipelines(self, request: Request) -> dict[str, Any]:
        """List pipelines, by default newest first."""
        field = "name" if request.get("SortBy") == "Name" else "created_at"
        descending = request.get("SortOrder", "Descending") == "Descending"
        records = sorted(self.store.all(PIPELINE), key=lambda record: record[field], reverse=descending)
        chosen = [
            record
            for record in records
            if record["name"].startswith(request.get("PipelineNamePrefix", ""))
            and created_between(record, request)
        ]
        return self.answer_page(
            chosen, request, key="name", size=100, member="PipelineSummaries", show=_summary
        )

    def _pipeline(self, name_or_arn: str) -> Record:
        return found_pipeline(self, name_or_arn)

    def _add_version(self, name: str, number: int, definition: str) -> None:
        """Store a definition before the pipeline refers to it, replacing one that a killed executor left."""
        self.store.delete(VERSION, version_name(name, number))
        record = {"definition": definition, "created_at": time.time()}
        self.store.insert(VERSION, version_name(name, number), record)

    def _check_role(self, role_arn: str) -> None:
        message = (
            f"Could not assume role {role_arn}. Please ensure that the role exists and allows principal "
            f"'{_PRINCIPAL}' to assume the role"
        )
        self.require_role(role_arn, _PRINCIPAL, message)

    def _checked_definition(self, request: Request) -> str:
        """Return the definition in a request, read from S3 if the request gives a location.

        Raises:
            ApiError: There is no definition, there are two, it cannot be read, or it is invalid.
        """
        if ("PipelineDefinition" in request) == ("PipelineDefinitionS3Location" in request):
            message = "Specify either PipelineDefinition or PipelineDefinitionS3Location."
            raise ApiError("ValidationException", message)
        if request.get("PipelineVersionAliases"):
            raise unsupported("PipelineVersionAliases")
        location = request.get("PipelineDefinitionS3Location")
        text = request["PipelineDefinition"] if location is None else self._stored_definition(location)
        try:
            read_definition(text)
        except DefinitionError as error:
            message = f"Unable to parse pipeline definition. {error}"
            raise ApiError("ValidationException", message) from error
        return text

    def _stored_definition(self, location: dict[str, str]) -> str:
        wanted = {"Bucket": location["Bucket"], "Key": location["ObjectKey"]}
        if "VersionId" in location:
            wanted["VersionId"] = location["VersionId"]
        uri = f"s3://{location['Bucket']}/{location['ObjectKey']}"
        try:
            answer = self.access.client("s3").get_object(**wanted)
            if answer["ContentLength"] > _MAX_DEFINITION_BYTES:
                message = f"The definition at {uri} has more than {_MAX_DEFINITION_BYTES} bytes."
                raise ApiError("ValidationException", message)
            return answer["Body"].read().decode()
        except (BotoCoreError, ClientError, UnicodeError) as error:
            raise ApiError(
                "ValidationException", f"The definition at {uri} cannot be read: {error}"
            ) from error


def found_pipeline(api: RecordApi, name_or_arn: str) -> Record:
    """Return a pipeline's record by its name or ARN.

    Raises:
        ApiError: There is none.
    """
    name = name_or_arn.rsplit("/", 1)[-1]
    record = api.store.get(PIPELINE, name)
    if record is None or name_or_arn not in {name, record["arn"]}:
        arn = pipeline_arn(api.settings.region, name)
        raise ApiError("ResourceNotFound", f"Pipeline '{arn}' does not exist.")
    return record


def content_of(request: Request) -> str:
    """Return a request's content without its token, for comparison with later requests of the same token."""
    return json.dumps(
        {key: request[key] for key in sorted(request) if key != "ClientRequestToken"}, sort_keys=True
    )


def reused_token(token: str) -> ApiError:
    """Return the error for a token that was used before with other content."""
    return ApiError("ConflictException", f"ClientRequestToken {token} was used before with other content.")


def unsupported(member: str) -> ApiError:
    """Return the error for a member of a request that the executor does not support."""
    return ApiError("ValidationException", f"{member} is not supported by the local job executor.")


def created_between(record: Record, request: Request) -> bool:
    """Return whether a record was created between the request's `CreatedAfter` and `CreatedBefore`."""
    after, before = request.get("CreatedAfter", 0), request.get("CreatedBefore", float("inf"))
    return after <= record["created_at"] <= before


def _summary(record: Record) -> dict[str, Any]:
    return without_nulls(
        {
            "PipelineArn": record["arn"],
            "PipelineName": record["name"],
            "PipelineDisplayName": record.get("PipelineDisplayName"),
            "PipelineDescription": record.get("PipelineDescription"),
            "RoleArn": record["RoleArn"],
            "CreationTime": record["created_at"],
            "LastModifiedTime": record["modified_at"],
            "LastExecutionTime": record.get("last_run_at"),
        }
    )
