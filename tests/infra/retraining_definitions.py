"""Retraining definitions as SageMaker would read them: steps by name, references with their values."""

from __future__ import annotations

from typing import TYPE_CHECKING, Any

if TYPE_CHECKING:
    from collections.abc import Iterator, Mapping


def steps_of(definition: Mapping[str, Any]) -> dict[str, dict[str, Any]]:
    """Return all steps, those of branches included, by their names."""
    return {step["Name"]: step for step in _steps(definition["Steps"])}


def _steps(steps: list[dict[str, Any]]) -> Iterator[dict[str, Any]]:
    for step in steps:
        yield step
        if step["Type"] == "Condition":
            for branch in ("IfSteps", "ElseSteps"):
                yield from _steps(step["Arguments"][branch])


def resolved(document: Any, values: Mapping[str, Any]) -> Any:
    """Return a document with the values of its references.

    Args:
        document: A part of a definition.
        values: By reference; a member of a property file as `Steps.<step>.PropertyFiles.<file>.<path>`.
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
