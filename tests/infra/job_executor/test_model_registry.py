"""The model registry over the wire: numbers, approvals, tokens, lists and what AWS refuses."""

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
    """Return a client of the session's executor, which leaves all validation to it."""
    return executor.client("sagemaker", parameter_validation=False)


@pytest.fixture
def group(registry: Any, name: str) -> str:
    """Return a group of its own."""
    registry.create_model_package_group(ModelPackageGroupName=name)
    return name


def refusal(call: Any, **request: Any) -> tuple[str, str]:
    """Return code and message of a call that must be refused."""
    with pytest.raises(ClientError) as refused:
        call(**request)
    error = refused.value.response["Error"]
    return error["Code"], error["Message"]


def test_a_version_is_described_as_it_was_registered(registry: Any, group: str) -> None:
    """Metadata, metrics and artifact come back; without a status it waits for a person."""
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


def test_no_number_is_used_again(registry: Any, group: str) -> None:
    """A version that comes after a deleted one has the next number."""
    arns = [registry.create_model_package(**package_request(group))["ModelPackageArn"] for _ in range(2)]
    registry.delete_model_package(ModelPackageName=arns[1])

    later = registry.create_model_package(**package_request(group))["ModelPackageArn"]

    assert later.endswith(f"{group}/3")
    assert refusal(registry.describe_model_package, ModelPackageName=arns[1]) == (
        "ValidationException",
        f"ModelPackage {arns[1]} does not exist.",
    )


def test_a_repeated_registration_makes_one_version(registry: Any, group: str) -> None:
    """The same token returns the same version; with other content it is a conflict."""
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


def test_versions_are_listed_only_by_their_group_and_the_oldest_first(registry: Any, group: str) -> None:
    """Without a group a list shows packages that have none; a page is short unless asked for more."""
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


def test_an_approval_goes_any_way_and_has_no_condition(registry: Any, group: str) -> None:
    """The last writer wins; properties are added and removed, the artifact stays."""
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
def test_a_property_takes_few_characters(registry: Any, group: str, value: str) -> None:
    """A value that AWS refuses is refused here: JSON belongs on S3."""
    request = package_request(group, CustomerMetadataProperties={"reason": value})
    code, message = refusal(registry.create_model_package, **request)
    assert code == "ValidationException"
    assert "ustomerMetadataProperties.reason" in message


def test_a_property_takes_letters_of_any_alphabet(registry: Any, group: str) -> None:
    """Letters, digits, spaces and the punctuation that AWS names."""
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
def test_a_version_is_refused_as_on_aws(
    registry: Any, group: str, changes: dict[str, Any], words: str
) -> None:
    """What SageMaker refuses makes no version."""
    code, message = refusal(registry.create_model_package, **package_request(group, **changes))
    assert (code, words in message) == ("ValidationException", True), message
    assert registry.list_model_packages(ModelPackageGroupName=group)["ModelPackageSummaryList"] == []


def test_a_group_goes_only_without_versions(registry: Any, group: str) -> None:
    """A group with a version is a conflict; a name is taken once, and an unknown one is said so."""
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


def test_a_group_has_tags_and_a_policy(registry: Any, name: str) -> None:
    """Both are kept, listed and taken away; a policy that is not there is a refusal."""
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


def test_many_versions_are_described_at_once(registry: Any, group: str) -> None:
    """Each ARN has a summary or an error."""
    arn = registry.create_model_package(**package_request(group))["ModelPackageArn"]
    answer = registry.batch_describe_model_package(ModelPackageArnList=[arn, f"{arn}0"])

    summary = answer["ModelPackageSummaries"][arn]
    assert summary["InferenceSpecification"]["Containers"][0]["ModelDataUrl"] == MODEL_ARCHIVE
    assert answer["BatchDescribeModelPackageErrorMap"][f"{arn}0"]["ErrorCode"] == "ValidationException"


def test_the_registry_outlives_a_killed_executor(own_executor: Executor, name: str) -> None:
    """Group, version and approval are there again, and numbers go on."""
    client = own_executor.client("sagemaker")
    client.create_model_package_group(ModelPackageGroupName=name)
    arn = client.create_model_package(**package_request(name), ClientToken="once")["ModelPackageArn"]
    client.update_model_package(ModelPackageArn=arn, ModelApprovalStatus="Approved")
    own_executor.kill()
    own_executor.start()

    assert client.describe_model_package(ModelPackageName=arn)["ModelApprovalStatus"] == "Approved"
    assert client.create_model_package(**package_request(name), ClientToken="once")["ModelPackageArn"] == arn
    assert client.create_model_package(**package_request(name))["ModelPackageArn"].endswith("/2")
