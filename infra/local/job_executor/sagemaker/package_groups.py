"""SageMaker's model package groups, with their resource policies."""

from __future__ import annotations

import json
import time
from dataclasses import dataclass
from typing import TYPE_CHECKING, Any, ClassVar

from infra.local.job_executor.executor_settings import ACCOUNT_ID
from infra.local.job_executor.job_api import RecordApi
from infra.local.job_executor.json_protocol import ApiError

if TYPE_CHECKING:
    from infra.local.job_executor.aws_access import AwsAccess
    from infra.local.job_executor.job_api import Operation, Request
    from infra.local.job_executor.jobs.job_store import Record

GROUP = "model_package_group"
PACKAGE = "model_package"
_WORD = {GROUP: "ModelPackageGroup", PACKAGE: "ModelPackage"}
# AWS does not document the default length of a page. A short one tests that clients read all pages.
PAGE = 10


@dataclass(frozen=True)
class RegistryApi(RecordApi):
    """The base of operations on groups and packages.

    Args:
        access: Identifies the caller.
    """

    access: AwsAccess
    refusal: ClassVar = "ValidationException"

    def group(self, request: Request) -> Record:
        """Return the group in a request, or raise AWS's error."""
        return self.registered(GROUP, request["ModelPackageGroupName"])

    def registered(self, kind: str, arn_or_name: str) -> Record:
        """Return a group or package by its name or ARN.

        Raises:
            ApiError: It does not exist.
        """
        given = arn_or_name if arn_or_name.startswith("arn:") else self.arn(kind, arn_or_name)
        record = self.store.get(kind, given.rpartition(":")[2].partition("/")[2])
        if record is None or record["arn"] != given:
            # The service model has no specific error for this.
            raise ApiError("ValidationException", f"{_WORD[kind]} {given} does not exist.")
        return record

    def arn(self, kind: str, name: str) -> str:
        """Return the ARN of a group or package."""
        return f"arn:aws:sagemaker:{self.settings.region}:{ACCOUNT_ID}:{kind.replace('_', '-')}/{name}"


class PackageGroupsApi(RegistryApi):
    """The operations on groups."""

    @property
    def operations(self) -> dict[str, Operation]:
        """The supported operations by name."""
        return {
            "CreateModelPackageGroup": self.create_group,
            "DescribeModelPackageGroup": self.describe_group,
            "ListModelPackageGroups": self.list_groups,
            "DeleteModelPackageGroup": self.delete_group,
            "PutModelPackageGroupPolicy": self.put_group_policy,
            "GetModelPackageGroupPolicy": self.get_group_policy,
            "DeleteModelPackageGroupPolicy": self.delete_group_policy,
        }

    def create_group(self, request: Request) -> dict[str, Any]:
        """Create a group; its versions are numbered from 1."""
        name = request["ModelPackageGroupName"]
        arn = self.arn(GROUP, name)
        record = {
            "name": name,
            "arn": arn,
            "request": request,
            "created_at": time.time(),
            "created_by": self.access.caller_arn(),
            # The last version's number, so that numbers are not reused.
            "last_version": 0,
        }
        if not self.store.insert(GROUP, name, record):
            refuse(f"Model Package Group already exists with ARN {arn}.")
        return {"ModelPackageGroupArn": arn}

    def describe_group(self, request: Request) -> dict[str, Any]:
        """Describe a group."""
        group = self.group(request)
        return {**_group_summary(group), "CreatedBy": identity(group["created_by"])}

    def list_groups(self, request: Request) -> dict[str, Any]:
        """List groups, by default oldest first."""
        return self.answer_page(
            ordered(self.store.all(GROUP), request),
            request,
            key="name",
            size=PAGE,
            member="ModelPackageGroupSummaryList",
            show=_group_summary,
        )

    def delete_group(self, request: Request) -> dict[str, Any]:
        """Delete a group that has no versions."""
        with self.store.exclusively():
            group = self.group(request)
            if self._versions(group):
                raise ApiError(
                    "ConflictException",
                    f"Model Package Group {group['arn']} contains Model Packages and cannot be deleted.",
                )
            self.store.delete(GROUP, group["name"])
        return {}

    def put_group_policy(self, request: Request) -> dict[str, Any]:
        """Set a group's resource policy. The executor stores policies but does not enforce them."""
        try:
            json.loads(request["ResourcePolicy"])
        except ValueError as error:
            refuse(f"The resource policy is not JSON: {error}.")
        group = self.group(request)
        self.store.update(
            GROUP, group["name"], lambda record: record.update(policy=request["ResourcePolicy"])
        )
        return {"ModelPackageGroupArn": group["arn"]}

    def get_group_policy(self, request: Request) -> dict[str, Any]:
        """Return a group's resource policy."""
        group = self.group(request)
        if group.get("policy") is None:
            refuse(f"Cannot find resource policy for: {group['arn']}")
        return {"ResourcePolicy": group["policy"]}

    def delete_group_policy(self, request: Request) -> dict[str, Any]:
        """Delete a group's resource policy."""
        group = self.group(request)
        if group.get("policy") is None:
            refuse(f"Cannot find resource policy for: {group['arn']}")
        self.store.update(GROUP, group["name"], lambda record: record.update(policy=None))
        return {}

    def _versions(self, group: Record) -> list[Record]:
        return [record for record in self.store.all(PACKAGE) if record["group"] == group["name"]]


def refuse(message: str) -> None:
    """Refuse a request.

    Raises:
        ApiError: Always.
    """
    raise ApiError("ValidationException", message)


def ordered(records: list[Record], request: Request) -> list[Record]:
    """Return the records that match a list request's filters, in its order (default: ascending)."""
    chosen = [
        record
        for record in records
        if request.get("NameContains", "") in record["name"]
        and request.get("CreationTimeAfter", 0) <= record["created_at"]
        and record["created_at"] <= request.get("CreationTimeBefore", float("inf"))
    ]
    if request.get("SortBy") == "Name":
        chosen.sort(key=lambda record: record["name"])
    return chosen[::-1] if request.get("SortOrder") == "Descending" else chosen


def identity(arn: str | None) -> dict[str, Any]:
    """Return the answer's member about a caller with this ARN; empty if the caller is not known."""
    return {} if arn is None else {"IamIdentity": {"Arn": arn}}


def _group_summary(record: Record) -> dict[str, Any]:
    request = record["request"]
    summary = {
        "ModelPackageGroupName": record["name"],
        "ModelPackageGroupArn": record["arn"],
        "ModelPackageGroupDescription": request.get("ModelPackageGroupDescription"),
        "ManagedConfiguration": request.get("ManagedConfiguration"),
        "CreationTime": record["created_at"],
        "ModelPackageGroupStatus": "Completed",
    }
    return {name: value for name, value in summary.items() if value is not None}
