"""What keeps data is never replaced by a slip: ids and names stand in a file, and it outlives its stack."""

from __future__ import annotations

import json
from pathlib import Path
from typing import TYPE_CHECKING, Any

import pytest

from model_declaration.declared_models import deployable_names
from tests.infra.cdk import templates as synthesised
from tests.infra.cdk.templates import STACKS, STAGES, is_of_an_added_model
from tests.infra.example_stages import STAGES as SETTINGS
from tests.projects import EXAMPLE

if TYPE_CHECKING:
    from tests.infra.cdk.templates import Templates

SNAPSHOT = Path(__file__).with_name("stateful_resources.json")
# With the property that is the physical name; a key's is KMS's own.
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
    """Return a resource's name, with words in place of what differs between stages."""
    settings, name = SETTINGS[stage], STATEFUL[resource["Type"]]
    if name is None:
        return None
    stated_name: str = resource["Properties"][name]
    return stated_name.replace(f"mlpipe-{stage}", "mlpipe-<stage>").replace(settings.account_id, "<account>")


def stateful(templates: Templates, stage: str) -> dict[str, dict[str, list[str | None]]]:
    """Return type and physical name by logical id by stack, of the platform and its examples."""
    return {
        stack: {
            name: [each["Type"], physical_name(stage, each)]
            for name, each in sorted(templates.template(stage, stack)["Resources"].items())
            if each["Type"] in STATEFUL and not is_of_an_added_model(stage, each)
        }
        for stack in STACKS
    }


@pytest.mark.parametrize("stage", STAGES)
def test_ids_and_names_are_those_of_the_snapshot(templates: Templates, stage: str) -> None:
    """Another id or name is another resource: CloudFormation would make an empty one and forget the old one.

    If a resource is added or taken away on purpose, write the new state into stateful_resources.json.
    """
    assert stateful(templates, stage) == json.loads(SNAPSHOT.read_text())


@pytest.mark.parametrize("stage", STAGES)
def test_an_added_model_hides_nothing_of_the_platform_or_its_examples(
    templates: Templates, stage: str, monkeypatch: pytest.MonkeyPatch
) -> None:
    """A model may be called like a part of an example's name, or like a resource of the platform."""

    def counted() -> list[str]:
        resources = [
            each for stack in STACKS for each in templates.template(stage, stack)["Resources"].items()
        ]
        return [name for name, each in resources if not is_of_an_added_model(stage, each)]

    before = counted()
    declared = (*deployable_names(EXAMPLE.defs), "delay", "congestion", "registry", "api", "jobs")
    monkeypatch.setattr(synthesised, "deployable_names", lambda _defs: declared)
    assert counted() == before


@pytest.mark.parametrize("stage", STAGES)
@pytest.mark.parametrize("stack", STACKS)
def test_what_keeps_data_outlives_its_stack(templates: Templates, stage: str, stack: str) -> None:
    """A stack that is deleted leaves it, a database as a snapshot."""
    for name, each in templates.template(stage, stack)["Resources"].items():
        if each["Type"] in STATEFUL:
            kept = "Snapshot" if each["Type"] == "AWS::RDS::DBInstance" else "Retain"
            assert (each["DeletionPolicy"], each["UpdateReplacePolicy"]) == (kept, kept), name
