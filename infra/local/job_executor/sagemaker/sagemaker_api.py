"""SageMaker's operations on processing and training jobs, with their limits, tags and errors."""

from __future__ import annotations

import time
from dataclasses import dataclass
from typing import TYPE_CHECKING, Any, ClassVar

from infra.local.job_executor.call_faults import ENDS_AS, JOB_FAILURES
from infra.local.job_executor.executor_settings import ACCOUNT_ID
from infra.local.job_executor.job_api import JobApi
from infra.local.job_executor.jobs.job_records import Ending, Phase
from infra.local.job_executor.json_protocol import ApiError
from infra.local.job_executor.sagemaker.container import ContainerJobKind
from infra.local.job_executor.sagemaker.sagemaker_requests import check_processing, check_training
from infra.local.job_executor.sagemaker.training_job import add_transition

if TYPE_CHECKING:
    from infra.local.job_executor.image_store import ImageStore, StoredImage
    from infra.local.job_executor.job_api import Operation, Request
    from infra.local.job_executor.jobs.job_store import Record

_PROCESSING = "processing_job"
_TRAINING = "training_job"
# The kinds of records with tags. ARNs have these names with hyphens.
_TAGGED = {_PROCESSING, _TRAINING, "model_package_group", "model_package"}
_WORD = {_PROCESSING: "Processing", _TRAINING: "Training"}
_DEFAULT_RUNTIME_SECONDS = 86_400
_LIVE = {"InProgress", "Stopping"}


@dataclass(frozen=True)
class SageMakerApi(JobApi):
    """SageMaker's operations.

    Args:
        images: The images of jobs.
    """

    images: ImageStore
    refusal: ClassVar = "ValidationException"

    @property
    def operations(self) -> dict[str, Operation]:
        """The supported operations by name."""
        return {
            "CreateProcessingJob": self.create_processing_job,
            "DescribeProcessingJob": lambda request: self._describe(_PROCESSING, request),
            "StopProcessingJob": lambda request: self._stop(_PROCESSING, request),
            "ListProcessingJobs": lambda request: self._list(_PROCESSING, request),
            "CreateTrainingJob": self.create_training_job,
            "DescribeTrainingJob": lambda request: self._describe(_TRAINING, request),
            "StopTrainingJob": lambda request: self._stop(_TRAINING, request),
            "ListTrainingJobs": lambda request: self._list(_TRAINING, request),
            "AddTags": self.add_tags,
            "ListTags": self.list_tags,
        }

    def create_processing_job(self, request: Request) -> dict[str, Any]:
        """Create and start a processing job."""
        check_processing(request)
        cluster = request["ProcessingResources"]["ClusterConfig"]
        image = request["AppSpecification"]["ImageUri"]
        return {"ProcessingJobArn": self._create(_PROCESSING, request, cluster["InstanceCount"], image)}

    def create_training_job(self, request: Request) -> dict[str, Any]:
        """Create and start a training job."""
        check_training(request)
        count = request["ResourceConfig"]["InstanceCount"]
        image = request["AlgorithmSpecification"]["TrainingImage"]
        return {"TrainingJobArn": self._create(_TRAINING, request, count, image)}

    def add_tags(self, request: Request) -> dict[str, Any]:
        """Add tags to a resource; the last value of a key wins."""
        added = {tag["Key"]: tag for tag in request["Tags"]}

        def change(record: Record) -> None:
            kept = {tag["Key"]: tag for tag in record["request"].get("Tags", ())}
            record["request"]["Tags"] = list((kept | added).values())

        kind, record = self._by_arn(request["ResourceArn"])
        return {"Tags": self.store.update(kind, record["name"], change)["request"]["Tags"]}

    def list_tags(self, request: Request) -> dict[str, Any]:
        """List a resource's tags on one page, since there are at most 50."""
        return {"Tags": self._by_arn(request["ResourceArn"])[1]["request"].get("Tags", [])}

    def _create(self, kind: str, request: Request, instances: int, image_uri: str) -> str:
        name = request[f"{_WORD[kind]}JobName"]
        arn = self._arn(kind, name)
        role_arn, principal = request["RoleArn"], ContainerJobKind.principal
        message = (
            f"Could not assume role {role_arn}. Please ensure that the role exists and allows principal "
            f"'{principal}' to assume the role"
        )
        self.require_role(role_arn, principal, message)
        image = self._image(image_uri)
        fate = request.pop(ENDS_AS, None)
        now = time.time()
        limit = request.get("StoppingCondition", {}).get("MaxRuntimeInSeconds", _DEFAULT_RUNTIME_SECONDS)
        record = {
            "name": name,
            "arn": arn,
            "request": request,
            "role_arn": role_arn,
            "limit_seconds": limit,
            "host_count": instances,
            "image": {"packages": image.packages, "environment": image.environment},
            "state": "InProgress",
            "phase": Phase.PREPARING,
            "ending": None if fate is None else Ending.ERROR,
            "created_at": now,
            "modified_at": now,
            "transitions": [],
        }
        if fate is not None:
            record["failure"] = f"{fate}: {JOB_FAILURES[fate]}"
        if kind == _TRAINING:
            add_transition(record, "Starting", now)
        with self.store.exclusively():
            if self.store.get(kind, name) is None:
                self._check_limit(kind, instances)
            if not self.store.insert(kind, name, record):
                raise ApiError(
                    "ResourceInUse",
                    f"{_WORD[kind]} job names must be unique within an AWS account and region, and a "
                    f"{_WORD[kind].lower()} job with this name already exists ({arn})",
                )
        self.start(kind, name)
        return arn

    def _image(self, uri: str) -> StoredImage:
        """Return the image of an address, or raise SageMaker's error."""
        image = self.images.find(uri)
        if image is None:
            raise ApiError(
                "ValidationException",
                f"Requested image {uri} not found. Locally, `mlpipe up` creates the images of models.",
            )
        return image

    def _check_limit(self, kind: str, wanted: int) -> None:
        used = sum(record["host_count"] for record in self.store.all(kind) if record["state"] in _LIVE)
        limit = self.settings.instance_limit
        if used + wanted > limit:
            raise ApiError(
                "ResourceLimitExceeded",
                f"The account-level service limit '{_WORD[kind].lower()} job usage' is {limit} Instances, "
                f"with current utilization of {used} Instances and a request delta of {wanted} Instances.",
            )

    def _describe(self, kind: str, request: Request) -> dict[str, Any]:
        record = self._record(kind, request)
        word = _WORD[kind]
        described = {key: value for key, value in record["request"].items() if key != "Tags"}
        if kind == _TRAINING:
            described |= _described_training(record)
        else:
            described |= {"ExitMessage": record.get("exit_message")}
        described |= self._summary(kind, record)
        described |= {f"{word}StartTime": record.get("running_at"), "FailureReason": record.get("failure")}
        return {key: value for key, value in described.items() if value is not None}

    def _stop(self, kind: str, request: Request) -> dict[str, Any]:
        word = _WORD[kind].lower()

        def change(record: Record) -> None:
            if record["state"] != "InProgress":
                raise ApiError(
                    "ValidationException",
                    f"The request was rejected because the {word} job is in status {record['state']}.",
                )
            now = time.time()
            record.update(state="Stopping", ending=record["ending"] or Ending.STOP, modified_at=now)
            if kind == _TRAINING:
                add_transition(record, "Stopping", now)

        self.store.update(kind, self._record(kind, request)["name"], change)
        return {}

    def _list(self, kind: str, request: Request) -> dict[str, Any]:
        word = _WORD[kind]
        field = {"Name": "name", "Status": "state"}.get(request.get("SortBy", "CreationTime"), "created_at")
        descending = request.get("SortOrder", "Descending") == "Descending"
        records = sorted(self.store.all(kind), key=lambda record: record[field], reverse=descending)
        chosen = [record for record in records if _matches(record, request)]
        return self.answer_page(
            chosen,
            request,
            key="name",
            size=100,
            member=f"{word}JobSummaries",
            show=lambda record: self._summary(kind, record),
        )

    def _summary(self, kind: str, record: Record) -> dict[str, Any]:
        word = _WORD[kind]
        summary = {
            f"{word}JobName": record["name"],
            f"{word}JobArn": record["arn"],
            f"{word}JobStatus": record["state"],
            "CreationTime": record["created_at"],
            "LastModifiedTime": record["modified_at"],
            f"{word}EndTime": record.get("completed_at"),
        }
        return {key: value for key, value in summary.items() if value is not None}

    def _record(self, kind: str, request: Request) -> Record:
        name = request[f"{_WORD[kind]}JobName"]
        record = self.store.get(kind, name)
        if record is None:
            # AWS answers with this code, and waiters expect it. `ResourceNotFound` is only in the model.
            raise ApiError("ValidationException", f"Could not find requested job with name: {name}")
        return record

    def _by_arn(self, arn: str) -> tuple[str, Record]:
        word, _, name = arn.rpartition(":")[2].partition("/")
        kind = word.replace("-", "_")
        record = self.store.get(kind, name) if kind in _TAGGED else None
        if record is None or record["arn"] != arn:
            raise ApiError("ResourceNotFound", f"Could not find resource {arn}")
        return kind, record

    def _arn(self, kind: str, name: str) -> str:
        path = f"{_WORD[kind].lower()}-job/{name}"
        return f"arn:aws:sagemaker:{self.settings.region}:{ACCOUNT_ID}:{path}"


def _matches(record: Record, request: Request) -> bool:
    return (
        request.get("NameContains", "") in record["name"]
        and request.get("StatusEquals", record["state"]) == record["state"]
        and request.get("CreationTimeAfter", 0) <= record["created_at"]
        and record["created_at"] <= request.get("CreationTimeBefore", float("inf"))
        and request.get("LastModifiedTimeAfter", 0) <= record["modified_at"]
        and record["modified_at"] <= request.get("LastModifiedTimeBefore", float("inf"))
    )


def _described_training(record: Record) -> dict[str, Any]:
    base = record["request"]["OutputDataConfig"]["S3OutputPath"].rstrip("/")
    began, ended = record.get("running_at"), record.get("completed_at")
    seconds = max(1, round(ended - began)) if began and ended else None
    return {
        "ModelArtifacts": {"S3ModelArtifacts": f"{base}/{record['name']}/output/model.tar.gz"},
        "SecondaryStatus": record["transitions"][-1]["Status"],
        "SecondaryStatusTransitions": record["transitions"],
        "TrainingTimeInSeconds": seconds,
        "BillableTimeInSeconds": seconds,
        "FinalMetricDataList": record.get("metrics") or None,
    }
