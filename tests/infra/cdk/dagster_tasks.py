"""What the templates say of Dagster's tasks."""

from __future__ import annotations

from typing import TYPE_CHECKING, Any

if TYPE_CHECKING:
    from tests.infra.cdk.templates import Templates


def tasks(templates: Templates, stage: str) -> dict[str, dict[str, Any]]:
    """Return the task definitions by their one container's name."""
    found = {}
    for each in templates.properties(stage, "orchestration", "AWS::ECS::TaskDefinition"):
        (container,) = each["ContainerDefinitions"]
        found[container["Name"]] = each
    return found


def containers(templates: Templates, stage: str) -> dict[str, dict[str, Any]]:
    """Return the tasks' containers by name."""
    return {name: task["ContainerDefinitions"][0] for name, task in tasks(templates, stage).items()}


def variables(container: dict[str, Any]) -> dict[str, str]:
    """Return what a container's process sees; what CloudFormation or ECS fills in stands as a word.

    Args:
        container: Its definition.
    """
    known = {"DAGSTER_POSTGRES_HOST": "host"}
    plain = {each["Name"]: each["Value"] for each in container["Environment"]}
    return {
        **{name: value if isinstance(value, str) else known[name] for name, value in plain.items()},
        **{each["Name"]: "secret" for each in container["Secrets"]},
    }
