"""SageMaker's model packages: numbered versions and their approvals. Each change sends events."""

from __future__ import annotations

import hashlib
import json
import time
from dataclasses import dataclass
from typing import TYPE_CHECKING, Any

from infra.local.job_executor.json_protocol import ApiError
from infra.local.job_executor.sagemaker.event_bus import PACKAGE_CHANGE, event_time
from infra.local.job_executor.sagemaker.package_groups import (
    GROUP,
    PACKAGE,
    PAGE,
    RegistryApi,
    identity,
    ordered,
    refuse,
)

if TYPE_CHECKING:
    from infra.local.job_executor.job_api import Operation, Request
    from infra.local.job_executor.jobs.job_store import Record
    from infra.local.job_executor.sagemaker.event_bus import EventBus

_MOST_PROPERTIES = 50
# The other members of an update replace the package's.
_UPDATABLE = (
    "ModelApprovalStatus",
    "ModelPackageRegistrationType",
    "ApprovalDescription",
    "InferenceSpecification",
    "SourceUri",
    "ModelCard",
    "ModelLifeCycle",
)
_IN_EVENTS = ("InferenceSpecification", "MetadataProperties", "ModelMetrics", "ModelLifeCycle")


@dataclass(frozen=True)
class ModelPackagesApi(RegistryApi):
    """The operations on model packages.

    Args:
        events: Receives an event for each created or changed package.
    """

    events: EventBus

    @property
    def operations(self) -> dict[str, Operation]:
        """The supported operations by name."""
        return {
            "CreateModelPackage": self.create_package,
            "DescribeModelPackage": self.describe_package,
            "ListModelPackages": self.list_packages,
            "UpdateModelPackage": self.update_package,
            "DeleteModelPackage": self.delete_package,
            "BatchDescribeModelPackage": self.describe_packages,
        }

    def create_package(self, request: Request) -> dict[str, Any]:
        """Register a package as the next version of its group; a package without a group has its own name.

        A repeated token returns the existing package; it is refused if the content differs.
        """
        _check_package(request)
        content = {name: value for name, value in request.items() if name != "ClientToken"}
        digest = hashlib.sha256(json.dumps(content, sort_keys=True).encode()).hexdigest()
        with self.store.exclusively():
            known = self._with_token(request.get("ClientToken"))
            if known is not None:
                if known["digest"] != digest:
                    raise ApiError(
                        "ConflictException",
                        f"The client token was used by a different request for {known['arn']}.",
                    )
                return {"ModelPackageArn": known["arn"]}
            record = self._new_package(request, content, digest)
            if not self.store.insert(PACKAGE, record["name"], record):
                refuse(f"Model Package already exists with ARN {record['arn']}.")
        # SageMaker may send several events for one change, and does so for a creation.
        self._send(record, status="Pending")
        self._send(record)
        return {"ModelPackageArn": record["arn"]}

    def describe_package(self, request: Request) -> dict[str, Any]:
        """Describe a package by its ARN, or by its name if it has no group."""
        record = self.registered(PACKAGE, request["ModelPackageName"])
        described = {name: value for name, value in record["request"].items() if name != "Tags"}
        described |= _summary(record)
        # A version has the name of its group.
        described["ModelPackageName"] = record["group"] or record["name"]
        described["ModelPackageStatusDetails"] = {"ValidationStatuses": [], "ImageScanStatuses": []}
        described["CreatedBy"] = identity(record["created_by"])
        described.setdefault("CertifyForMarketplace", False)
        if record["modified_at"] is not None:
            described["LastModifiedTime"] = record["modified_at"]
            described["LastModifiedBy"] = identity(record["modified_by"])
        return described

    def list_packages(self, request: Request) -> dict[str, Any]:
        """List a group's versions or, if the request names no group, packages by their type."""
        records = self.store.all(PACKAGE)
        kind = request.get("ModelPackageType", "Unversioned")
        if "ModelPackageGroupName" in request:
            group = self.group(request)["name"]
            records = [record for record in records if record["group"] == group]
        elif kind != "Both":
            records = [record for record in records if (record["group"] is None) == (kind == "Unversioned")]
        status = request.get("ModelApprovalStatus")
        if status is not None:
            records = [record for record in records if record["request"].get("ModelApprovalStatus") == status]
        return self.answer_page(
            ordered(records, request),
            request,
            key="name",
            size=PAGE,
            member="ModelPackageSummaryList",
            show=_summary,
        )

    def update_package(self, request: Request) -> dict[str, Any]:
        """Change a package, without a condition, so the last writer wins."""
        arn = request["ModelPackageArn"]
        changed: list[str] = []

        def change(record: Record) -> None:
            before = json.dumps(record["request"])
            _update(record, request)
            after, old = record["request"], json.loads(before)
            changed.extend(sorted(name for name in {*after, *old} if after.get(name) != old.get(name)))
            record.update(modified_at=time.time(), modified_by=self.access.caller_arn())

        record = self.store.update(PACKAGE, self.registered(PACKAGE, arn)["name"], change)
        for _ in range(2):
            self._send(record, updated=changed)
        return {"ModelPackageArn": arn}

    def delete_package(self, request: Request) -> dict[str, Any]:
        """Delete a package; its number is not reused."""
        self.store.delete(PACKAGE, self.registered(PACKAGE, request["ModelPackageName"])["name"])
        return {}

    def describe_packages(self, request: Request) -> dict[str, Any]:
        """Describe versions by their ARNs, with an error for each that cannot be described."""
        found: dict[str, Any] = {}
        errors: dict[str, Any] = {}
        for arn in request["ModelPackageArnList"]:
            try:
                record = self.registered(PACKAGE, arn)
                if record["group"] is None or "InferenceSpecification" not in record["request"]:
                    refuse(f"{arn} is not a version with an inference specification.")
            except ApiError as error:
                errors[arn] = {"ErrorCode": error.code, "ErrorResponse": error.message}
            else:
                summary = _summary(record)
                summary.pop("ModelLifeCycle", None)
                found[arn] = {
                    **summary,
                    "InferenceSpecification": record["request"]["InferenceSpecification"],
                }
        return {"ModelPackageSummaries": found, "BatchDescribeModelPackageErrorMap": errors}

    def _new_package(self, request: Request, content: Request, digest: str) -> Record:
        group = version = None
        if "ModelPackageGroupName" in request:
            group = self.group(request)["name"]

            def count(record: Record) -> None:
                record["last_version"] += 1

            # Before the package is recorded: a kill in between skips a number, but never gives one twice.
            version = self.store.update(GROUP, group, count)["last_version"]
            content.setdefault("ModelApprovalStatus", "PendingManualApproval")
        name = request["ModelPackageName"] if group is None else f"{group}/{version}"
        return {
            "name": name,
            "arn": self.arn(PACKAGE, name),
            "group": group,
            "version": version,
            "request": {**content, **({} if group is None else {"ModelPackageGroupName": group})},
            "token": request.get("ClientToken"),
            "digest": digest,
            "created_at": time.time(),
            "created_by": self.access.caller_arn(),
            "modified_at": None,
            "modified_by": None,
        }

    def _with_token(self, token: str | None) -> Record | None:
        if token is None:
            return None
        return next((record for record in self.store.all(PACKAGE) if record["token"] == token), None)

    def _send(self, record: Record, *, status: str = "Completed", updated: list[str] | None = None) -> None:
        detail = {
            **_summary(record),
            "CreationTime": event_time(record["created_at"]),
            "ModelPackageStatus": status,
            "ModelPackageStatusDetails": {"ValidationStatuses": [], "ImageScanStatuses": []},
            "CertifyForMarketplace": False,
            **{name: record["request"][name] for name in _IN_EVENTS if name in record["request"]},
        }
        if record["modified_at"] is not None:
            detail["LastModifiedTime"] = event_time(record["modified_at"])
        if updated is not None:
            detail["UpdatedModelPackageFields"] = updated
        self.events.send(PACKAGE_CHANGE, [record["arn"]], detail)


def _check_package(request: Request) -> None:
    """Refuse requests that SageMaker refuses beyond its service model, or that are not supported here."""
    if "ModelPackageName" in request and "ModelPackageGroupName" in request:
        refuse(
            "Both ModelPackageName and ModelPackageGroupName are provided in the input. Cannot determine "
            "which one to use."
        )
    if "ModelPackageName" not in request and "ModelPackageGroupName" not in request:
        refuse("Missing ARN.")
    if "ModelPackageGroupName" in request and "Tags" in request:
        refuse("A version cannot have its own tags: it has those of its model package group.")
    if "SourceUri" in request and "InferenceSpecification" in request:
        refuse("SourceUri and InferenceSpecification cannot be given together.")
    if "SourceAlgorithmSpecification" in request or "ValidationSpecification" in request:
        refuse("Algorithms and validation of packages are not supported by the local job executor.")


def _update(record: Record, request: Request) -> None:
    """Apply an update to a package's record."""
    if record["group"] is None and "ModelApprovalStatus" in request:
        refuse("Only versions of a model package group can be approved.")
    package = record["request"]
    package |= {name: request[name] for name in _UPDATABLE if name in request}
    if "SourceUri" in package and "InferenceSpecification" in package:
        refuse("SourceUri and InferenceSpecification cannot be given together.")
    properties = {
        **package.get("CustomerMetadataProperties", {}),
        **request.get("CustomerMetadataProperties", {}),
    }
    for key in request.get("CustomerMetadataPropertiesToRemove", ()):
        properties.pop(key, None)
    if len(properties) > _MOST_PROPERTIES:
        refuse(f"A package has at most {_MOST_PROPERTIES} customer metadata properties.")
    package.pop("CustomerMetadataProperties", None)
    if properties:
        package["CustomerMetadataProperties"] = properties
    added = request.get("AdditionalInferenceSpecificationsToAdd", [])
    if added:
        package["AdditionalInferenceSpecifications"] = [
            *package.get("AdditionalInferenceSpecifications", []),
            *added,
        ]


def _summary(record: Record) -> dict[str, Any]:
    """Return a package in the form of lists, without metadata, metrics and artifact."""
    request = record["request"]
    summary = {
        "ModelPackageName": record["name"] if record["group"] is None else None,
        "ModelPackageGroupName": record["group"],
        "ModelPackageVersion": record["version"],
        "ModelPackageArn": record["arn"],
        "ModelPackageDescription": request.get("ModelPackageDescription"),
        "ModelPackageRegistrationType": request.get("ModelPackageRegistrationType"),
        "CreationTime": record["created_at"],
        "ModelPackageStatus": "Completed",
        "ModelApprovalStatus": request.get("ModelApprovalStatus"),
        "ModelLifeCycle": request.get("ModelLifeCycle"),
    }
    return {name: value for name, value in summary.items() if value is not None}
