"""What keeps data is never replaced by a slip: its logical ids stand in a file, and it outlives its stack."""

from __future__ import annotations

import json
from pathlib import Path
from typing import TYPE_CHECKING

import pytest

from tests.infra.cdk.templates import STACKS, STAGES

if TYPE_CHECKING:
    from tests.infra.cdk.templates import Templates

SNAPSHOT = Path(__file__).with_name("stateful_resources.json")
STATEFUL = {
    "AWS::Cognito::UserPool",
    "AWS::DynamoDB::GlobalTable",
    "AWS::ECR::Repository",
    "AWS::KMS::Key",
    "AWS::RDS::DBInstance",
    "AWS::S3::Bucket",
    "AWS::SQS::Queue",
    "AWS::SageMaker::ModelPackageGroup",
    "AWS::SecretsManager::Secret",
}


def stateful(templates: Templates, stage: str) -> dict[str, dict[str, str]]:
    """Return types by logical id by stack."""
    return {
        stack: {
            name: each["Type"]
            for name, each in sorted(templates.template(stage, stack)["Resources"].items())
            if each["Type"] in STATEFUL
        }
        for stack in STACKS
    }


@pytest.mark.parametrize("stage", STAGES)
def test_logical_ids_are_those_of_the_snapshot(templates: Templates, stage: str) -> None:
    """Another id is another resource: CloudFormation would make an empty one and forget the old one.

    If a resource is added or taken away on purpose, write the new state into stateful_resources.json.
    """
    assert stateful(templates, stage) == json.loads(SNAPSHOT.read_text())


@pytest.mark.parametrize("stage", STAGES)
@pytest.mark.parametrize("stack", STACKS)
def test_what_keeps_data_outlives_its_stack(templates: Templates, stage: str, stack: str) -> None:
    """A stack that is deleted leaves it, a database as a snapshot."""
    for name, each in templates.template(stage, stack)["Resources"].items():
        if each["Type"] in STATEFUL:
            kept = "Snapshot" if each["Type"] == "AWS::RDS::DBInstance" else "Retain"
            assert (each["DeletionPolicy"], each["UpdateReplacePolicy"]) == (kept, kept), name
