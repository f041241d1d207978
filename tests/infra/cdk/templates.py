"""Read synthesised templates by stage, stack and type of resource."""

from __future__ import annotations

import json
from dataclasses import dataclass
from pathlib import Path
from typing import Any

from model_declaration.declared_models import deployable_names
from prediction_contract.naming.resource_names import model_name_stem
from tests.infra.example_stages import STAGES as SETTINGS
from tests.projects import EXAMPLE

# Users add their own models, which must not change the snapshot or the cost estimate.
EXAMPLES = ("airport_congestion", "flight_delay")
HOME, AWAY = "us-east-1", "us-west-2"
STAGES = ("dev", "prod")
STACKS = ("data", "ml", "orchestration", "observability", f"api-{HOME}", f"api-{AWAY}")


@dataclass(frozen=True)
class Templates:
    """The output of a synthesis.

    Attributes:
        folder: Has one folder for each stage.
        cpu_seconds: CPU time of the whole synthesis.
    """

    folder: Path
    cpu_seconds: float

    def template(self, stage: str, stack: str) -> dict[str, Any]:
        """Return a stack's template."""
        return json.loads((self.folder / stage / f"mlpipe-{stage}-{stack}.template.json").read_text())

    def found(self, stage: str, stack: str, kind: str) -> dict[str, dict[str, Any]]:
        """Return a stack's resources of a type by logical id, say `AWS::S3::Bucket`."""
        resources = self.template(stage, stack)["Resources"]
        return {name: each for name, each in resources.items() if each["Type"] == kind}

    def properties(self, stage: str, stack: str, kind: str) -> list[dict[str, Any]]:
        """Return the properties of a stack's resources of a type."""
        return [each["Properties"] for each in self.found(stage, stack, kind).values()]

    def one(self, stage: str, stack: str, kind: str) -> dict[str, Any]:
        """Return the properties of the only resource of a type."""
        (properties,) = self.properties(stage, stack, kind)
        return properties


def belongs_to_added_model(stage: str, resource: dict[str, Any]) -> bool:
    """Return whether a table, package group or alarm belongs to a model other than the examples.

    Names must match exactly, because a model may be called `delay`, or `registry` like a platform table.
    """
    deployment = SETTINGS[stage].deployment()
    added = set(deployable_names(EXAMPLE.defs)) - set(EXAMPLES)
    stems = [model_name_stem(model) for model in added]
    names = {
        "AWS::DynamoDB::GlobalTable": ("TableName", [deployment.online_table(model) for model in added]),
        "AWS::SageMaker::ModelPackageGroup": (
            "ModelPackageGroupName",
            [deployment.model_package_group(model) for model in added],
        ),
        "AWS::CloudWatch::Alarm": (
            "AlarmName",
            [deployment.alarm(f"pointer-age-{stem.replace('_', '-')}") for stem in stems]
            + [deployment.alarm(f"api-throttled-predictions-{stem}") for stem in stems],
        ),
    }
    name, of_added = names.get(resource["Type"], ("", []))
    return resource["Properties"].get(name) in of_added


def attributes(properties: dict[str, Any], name: str) -> dict[str, str]:
    """Return a list of `Key` and `Value` as a mapping."""
    return {each["Key"]: each["Value"] for each in properties[name]}


def strings(document: Any) -> list[str]:
    """Return all strings anywhere in a document."""
    if isinstance(document, dict):
        return [text for value in document.values() for text in strings(value)]
    if isinstance(document, list):
        return [text for value in document for text in strings(value)]
    return [document] if isinstance(document, str) else []
