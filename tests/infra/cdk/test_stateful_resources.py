"""Tests that resources which hold data keep their ids and names, and outlive their stack."""

from __future__ import annotations

import json
from pathlib import Path
from typing import TYPE_CHECKING, Any

import pytest

from model_declaration.declared_models import deployable_names
from tests.infra.cdk import templates as synthesised
from tests.infra.cdk.templates import STACKS, STAGES, belongs_to_added_model
from tests.infra.example_stages import STAGES as SETTINGS
from tests.projects import EXAMPLE

if TYPE_CHECKING:
    from tests.infra.cdk.templates import Templates

SNAPSHOT = Path(__file__).with_name("stateful_resources.json")
# Each type with the property that holds its physical name, which a KMS key does not have.
STATEFUL = {
    "AWS::Cognito::UserPool": "UserPoolName",
    "AWS::DynamoDB::GlobalTable": "TableName",
    "AWS::ECR::Repository": "RepositoryName",
    "AWS::KMS::Key": None,
    "AWS::RDS::DBInstance": "DBInstanceIdentifier",
    "AWS::S3::Bucket": "BucketName",
    "AWS::SQS::Queue": "QueueName",
    "AWS::SageMaker::ModelPackageGroup": "ModelPackageGroupName",
    "AWS::SecretsManager::Secret": "Name",
}


def physical_name(stage: str, resource: dict[str, Any]) -> str | None:
    """Return a resource's physical name, with placeholders for stage and account."""
    settings, name = SETTINGS[stage], STATEFUL[resource["Type"]]
    if name is None:
        return None
    stated_name: str = resource["Properties"][name]
    return stated_name.replace(f"mlpipe-{stage}", "mlpipe-<stage>").replace(settings.account_id, "<account>")


def stateful(templates: Templates, stage: str) -> dict[str, dict[str, list[str | None]]]:
    """Return type and physical name of stateful resources by stack and logical id, without added models."""
    return {
        stack: {
            name: [each["Type"], physical_name(stage, each)]
            for name, each in sorted(templates.template(stage, stack)["Resources"].items())
            if each["Type"] in STATEFUL and not belongs_to_added_model(stage, each)
        }
        for stack in STACKS
    }


@pytest.mark.parametrize("stage", STAGES)
def test_ids_and_names_match_the_snapshot(templates: Templates, stage: str) -> None:
    """If an id or name changed, CloudFormation would make an empty resource and abandon the old one.

    If a resource is added or removed on purpose, write the new state into stateful_resources.json.
    """
    assert stateful(templates, stage) == json.loads(SNAPSHOT.read_text())


@pytest.mark.parametrize("stage", STAGES)
def test_added_models_hide_no_other_resources(
    templates: Templates, stage: str, monkeypatch: pytest.MonkeyPatch
) -> None:
    """An added model named like part of an example or like a platform resource hides neither of them."""

    def counted() -> list[str]:
        resources = [
            each for stack in STACKS for each in templates.template(stage, stack)["Resources"].items()
        ]
        return [name for name, each in resources if not belongs_to_added_model(stage, each)]

    before = counted()
    declared = (*deployable_names(EXAMPLE.defs), "delay", "congestion", "registry", "api", "jobs")
    monkeypatch.setattr(synthesised, "deployable_names", lambda _defs: declared)
    assert counted() == before


@pytest.mark.parametrize("stage", STAGES)
@pytest.mark.parametrize("stack", STACKS)
def test_resources_with_data_outlive_their_stack(templates: Templates, stage: str, stack: str) -> None:
    """Resources with data are retained if their stack is deleted, and a database leaves a snapshot."""
    for name, each in templates.template(stage, stack)["Resources"].items():
        if each["Type"] in STATEFUL:
            kept = "Snapshot" if each["Type"] == "AWS::RDS::DBInstance" else "Retain"
            assert (each["DeletionPolicy"], each["UpdateReplacePolicy"]) == (kept, kept), name
