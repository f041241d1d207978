"""Read retraining definitions like SageMaker: steps by name, and references replaced by values.

`python -m tests.infra.retraining_definitions` writes the example models' definitions for review.
"""

from __future__ import annotations

import json
from pathlib import Path
from typing import TYPE_CHECKING, Any

from infra.definitions.retraining_definition import pipeline_definition
from infra.provisioned_models import provisioned_models
from tests.infra.example_stages import PROD
from tests.projects import EXAMPLE

if TYPE_CHECKING:
    from collections.abc import Iterator, Mapping

REVIEWED = Path(__file__).with_name("reviewed_definitions")
# The digest changes with the jobs' code, which is no change of the pipelines.
_DIGEST = "0" * 64


def filled_definitions() -> dict[str, str]:
    """Return the pipelines of the example's models in stage `prod`, by file name."""
    deployment = PROD.deployment()
    return {
        f"{each.name}.json": json.dumps(
            pipeline_definition(deployment, each.retrained, code_digest=_DIGEST), indent=1
        )
        + "\n"
        for each in provisioned_models(EXAMPLE)
        if each.retrained is not None
    }


def steps_of(definition: Mapping[str, Any]) -> dict[str, dict[str, Any]]:
    """Return all steps by name, including those of branches."""
    return {step["Name"]: step for step in _steps(definition["Steps"])}


def _steps(steps: list[dict[str, Any]]) -> Iterator[dict[str, Any]]:
    for step in steps:
        yield step
        if step["Type"] == "Condition":
            for branch in ("IfSteps", "ElseSteps"):
                yield from _steps(step["Arguments"][branch])


def resolved(document: Any, values: Mapping[str, Any]) -> Any:
    """Return a document with its references replaced by values.

    Args:
        document: A part of a definition.
        values: By reference; a property file member is `Steps.<step>.PropertyFiles.<file>.<path>`.
    """
    if isinstance(document, list):
        return [resolved(each, values) for each in document]
    if not isinstance(document, dict):
        return document
    match document:
        case {"Get": name}:
            return values[name]
        case {"Std:Join": {"On": on, "Values": parts}}:
            return on.join(str(each) for each in resolved(parts, values))
        case {"Std:JsonGet": {"PropertyFile": {"Get": name}, "Path": path}}:
            return values[f"{name}.{path}"]
    return {name: resolved(each, values) for name, each in document.items()}


if __name__ == "__main__":
    for name, content in filled_definitions().items():
        (REVIEWED / name).write_text(content, encoding="utf-8")
