"""Replaces all references and function calls in a step's arguments by their values."""

from __future__ import annotations

import json
from dataclasses import dataclass, field
from typing import TYPE_CHECKING, Any

from infra.local.job_executor.sagemaker.pipelines.parameters import to_text
from infra.local.job_executor.sagemaker.pipelines.references import (
    GET,
    JOIN,
    JSON_GET,
    BadReferenceError,
    path_parts,
    property_file,
    step_property,
    value_at,
)

if TYPE_CHECKING:
    from collections.abc import Callable, Mapping

    from infra.local.job_executor.sagemaker.pipelines.definition import Step
    from infra.local.job_executor.sagemaker.pipelines.references import StepProperty


def _refused(constant: str) -> Any:
    raise ValueError(f"{constant} is not JSON")


@dataclass(frozen=True, kw_only=True)
class Values:
    """The values that are known when a step begins.

    Args:
        steps: The definition's steps by name.
        parameters: The parameters' values by name.
        variables: The execution's variables by name.
        answers: The Describe operation's answer for each succeeded step.
        read: Returns the content of an S3 address under the pipeline's role.
    """

    steps: Mapping[str, Step]
    parameters: Mapping[str, Any]
    variables: Mapping[str, str]
    answers: Mapping[str, Any]
    read: Callable[[str], bytes]
    _files: dict[str, Any] = field(default_factory=dict)

    def filled(self, document: Any) -> Any:
        """Return a document with values in place of functions.

        Raises:
            BadReferenceError: A reference has no value.
        """
        if isinstance(document, list):
            return [self.filled(item) for item in document]
        if not isinstance(document, dict):
            return document
        if GET in document:
            return self._get(document[GET])
        if JOIN in document:
            call = document[JOIN]
            return call["On"].join(to_text(self.filled(value)) for value in call["Values"])
        if JSON_GET in document:
            return self._json_get(document[JSON_GET])
        return {name: self.filled(value) for name, value in document.items()}

    def _get(self, reference: str) -> Any:
        found = step_property(reference)
        if found is not None:
            return value_at(self._answer(found.step), found.path)
        head, _, name = reference.partition(".")
        return self.parameters[name] if head == "Parameters" else self.variables[name]

    def _json_get(self, call: dict[str, Any]) -> Any:
        found = property_file(call)
        uri = self.filled(call["S3Uri"]) if found is None else self._address(found)
        if uri not in self._files:
            try:
                self._files[uri] = json.loads(self.read(uri), parse_constant=_refused)
            except ValueError as error:
                raise BadReferenceError(f"{uri} is not JSON: {error}") from error
        value = value_at(self._files[uri], path_parts(call["Path"]))
        if not isinstance(value, str | int | float | bool):
            raise BadReferenceError(f"{call['Path']} of {uri} is not a string, number or boolean")
        return value

    def _address(self, found: StepProperty) -> str:
        """Return the S3 address of a property file."""
        output, path = self.steps[found.step].property_files[str(found.property_file)]
        described = self._answer(found.step)
        folder = value_at(described, ("ProcessingOutputConfig", "Outputs", output, "S3Output", "S3Uri"))
        return f"{folder.rstrip('/')}/{path}"

    def _answer(self, step: str) -> Any:
        if step not in self.answers:
            raise BadReferenceError(f"step {step} did not run")
        return self.answers[step]
