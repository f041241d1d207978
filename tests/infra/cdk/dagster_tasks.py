"""Read Dagster's tasks from the templates."""

from __future__ import annotations

from typing import TYPE_CHECKING, Any

if TYPE_CHECKING:
    from tests.infra.cdk.templates import Templates


def tasks(templates: Templates, stage: str) -> dict[str, dict[str, Any]]:
    """Return the task definitions by the name of their only container."""
    found = {}
    for each in templates.properties(stage, "orchestration", "AWS::ECS::TaskDefinition"):
        (container,) = each["ContainerDefinitions"]
        found[container["Name"]] = each
    return found


def containers(templates: Templates, stage: str) -> dict[str, dict[str, Any]]:
    """Return the tasks' containers by name."""
    return {name: task["ContainerDefinitions"][0] for name, task in tasks(templates, stage).items()}


def variables(container: dict[str, Any]) -> dict[str, str]:
    """Return a container's environment, with a placeholder for each value that AWS fills in.

    Args:
        container: The container's definition.
    """
    known = {"DAGSTER_POSTGRES_HOST": "host"}
    plain = {each["Name"]: each["Value"] for each in container["Environment"]}
    return {
        **{name: value if isinstance(value, str) else known[name] for name, value in plain.items()},
        **{each["Name"]: "secret" for each in container["Secrets"]},
    }
