"""Tests of the model registry through boto3: versions, approvals, tokens, lists and refusals."""

from __future__ import annotations

from typing import TYPE_CHECKING, Any

import pytest
from botocore.exceptions import ClientError

from tests.infra.job_executor.job_stack import BUCKET, MODEL_ARCHIVE, package_request

if TYPE_CHECKING:
    from tests.infra.job_executor.job_stack import Executor

pytestmark = pytest.mark.stack


@pytest.fixture
def registry(executor: Executor) -> Any:
    """Return a SageMaker client that leaves all validation to the executor."""
    return executor.client("sagemaker", parameter_validation=False)


@pytest.fixture
def group(registry: Any, name: str) -> str:
    """Create a model package group for one test, and return its name."""
    registry.create_model_package_group(ModelPackageGroupName=name)
    return name


def refusal(call: Any, **request: Any) -> tuple[str, str]:
    """Return error code and message of a call that must be refused."""
    with pytest.raises(ClientError) as refused:
        call(**request)
    error = refused.value.response["Error"]
    return error["Code"], error["Message"]


def test_version_is_described_as_registered(registry: Any, group: str) -> None:
    """A version returns what was registered, and waits for approval if no status was given."""
    metrics = {
        "ModelQuality": {
            "Statistics": {"ContentType": "application/json", "S3Uri": f"s3://{BUCKET}/verdict.json"}
        }
    }
    request = package_request(group, ModelMetrics=metrics, MetadataProperties={"GeneratedBy": "an execution"})
    arn = registry.create_model_package(**request)["ModelPackageArn"]

    found = registry.describe_model_package(ModelPackageName=arn)

    assert arn.endswith(f":model-package/{group}/1")
    assert {name: found[name] for name in request} == request
    assert found["ModelPackageVersion"] == 1
    assert found["ModelApprovalStatus"] == "PendingManualApproval"
    assert found["ModelPackageStatus"] == "Completed"


def test_version_numbers_are_not_reused(registry: Any, group: str) -> None:
    """A version that follows a deleted one has the next number."""
    arns = [registry.create_model_package(**package_request(group))["ModelPackageArn"] for _ in range(2)]
    registry.delete_model_package(ModelPackageName=arns[1])

    later = registry.create_model_package(**package_request(group))["ModelPackageArn"]

    assert later.endswith(f"{group}/3")
    assert refusal(registry.describe_model_package, ModelPackageName=arns[1]) == (
        "ValidationException",
        f"ModelPackage {arns[1]} does not exist.",
    )


def test_repeated_registration_makes_one_version(registry: Any, group: str) -> None:
    """The same token returns the same version, and is a conflict with other content."""
    token = f"t-{group}"
    arns = {
        registry.create_model_package(**package_request(group), ClientToken=token)["ModelPackageArn"]
        for _ in range(2)
    }
    assert len(arns) == 1

    other = package_request(group, ModelApprovalStatus="Approved")
    assert refusal(registry.create_model_package, **other, ClientToken=token)[0] == "ConflictException"
    listed = registry.list_model_packages(ModelPackageGroupName=group)["ModelPackageSummaryList"]
    assert {each["ModelPackageArn"] for each in listed} == arns


def test_versions_are_listed_by_group_oldest_first(registry: Any, group: str) -> None:
    """Versions of a group are listed oldest first, ten per page, and a list without a group omits them."""
    for _ in range(12):
        registry.create_model_package(**package_request(group))
    registry.create_model_package(
        ModelPackageName=f"alone-{group}",
        InferenceSpecification=package_request(group)["InferenceSpecification"],
    )

    page = registry.list_model_packages(ModelPackageGroupName=group)
    pages = registry.get_paginator("list_model_packages").paginate(
        ModelPackageGroupName=group, SortOrder="Descending"
    )

    assert [each["ModelPackageVersion"] for each in page["ModelPackageSummaryList"]] == list(range(1, 11))
    every = [each for found in pages for each in found["ModelPackageSummaryList"]]
    assert [each["ModelPackageVersion"] for each in every] == list(range(12, 0, -1))
    assert "CustomerMetadataProperties" not in every[0]
    assert "InferenceSpecification" not in every[0]
    alone = registry.list_model_packages(NameContains=group)["ModelPackageSummaryList"]
    assert [each["ModelPackageName"] for each in alone] == [f"alone-{group}"]


def test_approval_status_can_change_repeatedly(registry: Any, group: str) -> None:
    """A status can change in any order, properties can be added and removed, and the artifact stays."""
    arn = registry.create_model_package(**package_request(group, ModelApprovalStatus="Rejected"))[
        "ModelPackageArn"
    ]
    for status in ("Approved", "PendingManualApproval", "Approved"):
        registry.update_model_package(
            ModelPackageArn=arn, ModelApprovalStatus=status, ApprovalDescription="50 % better, by ada"
        )
    registry.update_model_package(
        ModelPackageArn=arn,
        CustomerMetadataProperties={"execution": "abc"},
        CustomerMetadataPropertiesToRemove=["digest"],
    )

    found = registry.describe_model_package(ModelPackageName=arn)

    assert found["ModelApprovalStatus"] == "Approved"
    assert found["ApprovalDescription"] == "50 % better, by ada"
    assert found["CustomerMetadataProperties"] == {"execution": "abc"}
    assert found["InferenceSpecification"]["Containers"][0]["ModelDataUrl"] == MODEL_ARCHIVE
    assert found["LastModifiedTime"] >= found["CreationTime"]
    assert found["LastModifiedBy"]["IamIdentity"]["Arn"] == "arn:aws:iam::000000000000:root"
    approved = registry.list_model_packages(ModelPackageGroupName=group, ModelApprovalStatus="Approved")
    assert len(approved["ModelPackageSummaryList"]) == 1
    rejected = registry.list_model_packages(ModelPackageGroupName=group, ModelApprovalStatus="Rejected")
    assert rejected["ModelPackageSummaryList"] == []


@pytest.mark.parametrize("value", ["a,b", '{"gain": 0.1}', "5 %", "[1]", "tab\there", ""])
def test_invalid_property_value_is_refused(registry: Any, group: str, value: str) -> None:
    """A property value with characters that AWS refuses, such as those of JSON, is refused."""
    request = package_request(group, CustomerMetadataProperties={"reason": value})
    code, message = refusal(registry.create_model_package, **request)
    assert code == "ValidationException"
    assert "ustomerMetadataProperties.reason" in message


def test_property_accepts_letters_of_any_alphabet(registry: Any, group: str) -> None:
    """A property may hold letters and digits of any alphabet, and the punctuation that AWS allows."""
    properties = {"digest": "0f:9=a/b+c-d@e_f.g Größe 数 ٣"}
    request = package_request(group, CustomerMetadataProperties=properties)
    arn = registry.create_model_package(**request)["ModelPackageArn"]
    assert registry.describe_model_package(ModelPackageName=arn)["CustomerMetadataProperties"] == properties


@pytest.mark.parametrize(
    ("changes", "words"),
    [
        ({"ModelPackageName": "x"}, "Both ModelPackageName and ModelPackageGroupName"),
        ({"Tags": [{"Key": "a", "Value": "b"}]}, "A version cannot have its own tags"),
        ({"SourceUri": "s3://b/k"}, "SourceUri and InferenceSpecification"),
        ({"ModelPackageGroupName": "nobody-s"}, "model-package-group/nobody-s does not exist"),
        ({"CustomerMetadataProperties": {}}, "ustomerMetadataProperties"),
        ({"CustomerMetadataProperties": {f"k{n}": "v" for n in range(51)}}, "less than or equal to 50"),
    ],
)
def test_invalid_version_is_refused_as_on_aws(
    registry: Any, group: str, changes: dict[str, Any], words: str
) -> None:
    """A registration that SageMaker would refuse is refused and makes no version."""
    code, message = refusal(registry.create_model_package, **package_request(group, **changes))
    assert (code, words in message) == ("ValidationException", True), message
    assert registry.list_model_packages(ModelPackageGroupName=group)["ModelPackageSummaryList"] == []


def test_group_with_versions_cannot_be_deleted(registry: Any, group: str) -> None:
    """A group is deleted only without versions; a taken name and an unknown group are refused."""
    assert refusal(registry.create_model_package_group, ModelPackageGroupName=group)[0] == (
        "ValidationException"
    )
    arn = registry.create_model_package(**package_request(group))["ModelPackageArn"]
    assert refusal(registry.delete_model_package_group, ModelPackageGroupName=group)[0] == "ConflictException"

    registry.delete_model_package(ModelPackageName=arn)
    registry.delete_model_package_group(ModelPackageGroupName=group)

    code, message = refusal(registry.describe_model_package_group, ModelPackageGroupName=group)
    assert code == "ValidationException"
    assert message.endswith(f"model-package-group/{group} does not exist.")


def test_group_keeps_tags_and_policy(registry: Any, name: str) -> None:
    """A group's tags and policy can be read, and reading a deleted policy is refused."""
    tags = [{"Key": "mlpipe:model", "Value": "m"}]
    arn = registry.create_model_package_group(ModelPackageGroupName=name, Tags=tags)["ModelPackageGroupArn"]
    assert registry.list_tags(ResourceArn=arn)["Tags"] == tags
    assert name in [
        each["ModelPackageGroupName"]
        for page in registry.get_paginator("list_model_package_groups").paginate(NameContains=name)
        for each in page["ModelPackageGroupSummaryList"]
    ]
    policy = '{"Version": "2012-10-17", "Statement": []}'

    registry.put_model_package_group_policy(ModelPackageGroupName=name, ResourcePolicy=policy)
    found = registry.get_model_package_group_policy(ModelPackageGroupName=name)["ResourcePolicy"]
    registry.delete_model_package_group_policy(ModelPackageGroupName=name)

    assert found == policy
    code, message = refusal(registry.get_model_package_group_policy, ModelPackageGroupName=name)
    assert (code, "Cannot find resource policy" in message) == ("ValidationException", True)


def test_batch_describe_returns_summaries_and_errors(registry: Any, group: str) -> None:
    """A batch request returns a summary or an error for each ARN."""
    arn = registry.create_model_package(**package_request(group))["ModelPackageArn"]
    answer = registry.batch_describe_model_package(ModelPackageArnList=[arn, f"{arn}0"])

    summary = answer["ModelPackageSummaries"][arn]
    assert summary["InferenceSpecification"]["Containers"][0]["ModelDataUrl"] == MODEL_ARCHIVE
    assert answer["BatchDescribeModelPackageErrorMap"][f"{arn}0"]["ErrorCode"] == "ValidationException"


def test_registry_survives_a_killed_executor(own_executor: Executor, name: str) -> None:
    """Versions, approvals, tokens and numbering survive a kill of the executor."""
    client = own_executor.client("sagemaker")
    client.create_model_package_group(ModelPackageGroupName=name)
    arn = client.create_model_package(**package_request(name), ClientToken="once")["ModelPackageArn"]
    client.update_model_package(ModelPackageArn=arn, ModelApprovalStatus="Approved")
    own_executor.kill()
    own_executor.start()

    assert client.describe_model_package(ModelPackageName=arn)["ModelApprovalStatus"] == "Approved"
    assert client.create_model_package(**package_request(name), ClientToken="once")["ModelPackageArn"] == arn
    assert client.create_model_package(**package_request(name))["ModelPackageArn"].endswith("/2")
