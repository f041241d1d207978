"""References in a step's arguments: to parameters, the execution, other steps and their property files."""

from __future__ import annotations

import re
from dataclasses import dataclass
from functools import lru_cache
from typing import TYPE_CHECKING, Any

import botocore.session

if TYPE_CHECKING:
    from collections.abc import Iterator

GET, JOIN, JSON_GET = "Get", "Std:Join", "Std:JsonGet"
EXECUTION_VARIABLES = (
    "PipelineExecutionId",
    "PipelineExecutionArn",
    "PipelineName",
    "PipelineArn",
    "StartDateTime",
    "CurrentDateTime",
)
# The operation whose answer has the step's properties, by step type.
DESCRIBED_BY = {
    "Processing": "DescribeProcessingJob",
    "Training": "DescribeTrainingJob",
    "RegisterModel": "DescribeModelPackage",
}
# The members by which a list's items are found by name.
_NAME_MEMBERS = ("OutputName", "InputName")
_PART = re.compile(r"\.?([A-Za-z_][A-Za-z0-9_-]*)|\[(\d+)\]|\['([^']*)'\]|\[\"([^\"]*)\"\]")


class BadReferenceError(ValueError):
    """A reference is malformed, or refers to something that does not exist."""


@dataclass(frozen=True)
class StepProperty:
    """A property of a step that has ended.

    Args:
        step: The step's name.
        path: The members, positions and names that lead to the property.
    """

    step: str
    path: tuple[str | int, ...]

    @property
    def property_file(self) -> str | None:
        """The name of the property file, or None if it is another property."""
        return str(self.path[-1]) if self.path[:-1] == ("PropertyFiles",) else None

    @property
    def callback_output(self) -> str | None:
        """The name of the callback step's output parameter, or None if it is another property."""
        return str(self.path[-1]) if self.path[:-1] == ("OutputParameters",) else None


@lru_cache(maxsize=1024)
def path_parts(text: str) -> tuple[str | int, ...]:
    """Parse a path such as `a.b[0]['c']`.

    Raises:
        BadReferenceError: The text is not a path.
    """
    parts: list[str | int] = []
    position = 0
    while position < len(text):
        match = _PART.match(text, position)
        if match is None or (match[0].startswith(".") == (position == 0) and match[1] is not None):
            raise BadReferenceError(f"{text!r} is not a path")
        member, number, *names = match.groups()
        parts.append(int(number) if number is not None else next(filter(None, (member, *names)), ""))
        position = match.end()
    if not parts:
        raise BadReferenceError("a path is empty")
    return tuple(parts)


def step_property(reference: str) -> StepProperty | None:
    """Return the step property of a `Get`, or None for a `Get` of something else."""
    head, _, rest = reference.partition(".")
    if head != "Steps":
        return None
    name, _, path = rest.partition(".")
    return StepProperty(name, path_parts(path))


def property_file(call: dict[str, Any]) -> StepProperty | None:
    """Return the property file that a `Std:JsonGet` reads, or None if it reads an S3 address.

    Raises:
        BadReferenceError: It refers to something else.
    """
    if "PropertyFile" not in call:
        return None
    get = call["PropertyFile"].get(GET) if isinstance(call["PropertyFile"], dict) else None
    found = step_property(get) if isinstance(get, str) else None
    if found is None or found.property_file is None:
        raise BadReferenceError(f"{call['PropertyFile']!r} is not a property file")
    return found


def referenced_step(function: str, argument: Any) -> StepProperty | None:
    """Return the step property that a checked function call needs, or None."""
    if function == GET:
        return step_property(argument)
    return property_file(argument) if function == JSON_GET else None


def functions_in(document: Any) -> Iterator[tuple[str, Any]]:
    """Yield the name and argument of each function call in a document, outer calls first.

    Raises:
        BadReferenceError: An object is neither data nor a single function call.
    """
    if isinstance(document, dict):
        called = [name for name in document if name == GET or str(name).startswith("Std:")]
        if called and len(document) > 1:
            raise BadReferenceError(f"{called[0]} must be the only member, but there are {sorted(document)}")
        if called:
            yield called[0], document[called[0]]
        if called == [JSON_GET] and isinstance(document[JSON_GET], dict):
            # A reference to a property file is not a reference to a property.
            yield from functions_in(document[JSON_GET].get("S3Uri"))
            return
        for value in document.values():
            yield from functions_in(value)
    elif isinstance(document, list):
        for item in document:
            yield from functions_in(item)


def check_function(name: str, argument: Any) -> None:
    """Check the form of a function call.

    Raises:
        BadReferenceError: The call is malformed.
    """
    if name == GET:
        is_whole = isinstance(argument, str)
    elif name == JOIN:
        is_whole = (
            isinstance(argument, dict)
            and set(argument) == {"On", "Values"}
            and isinstance(argument["On"], str)
            and isinstance(argument["Values"], list)
        )
    elif name == JSON_GET:
        is_whole = (
            isinstance(argument, dict)
            and set(argument) in ({"PropertyFile", "Path"}, {"S3Uri", "Path"})
            # A path must not contain functions.
            and isinstance(argument["Path"], str)
        )
    else:
        raise BadReferenceError(f"unknown function {name}")
    if not is_whole:
        raise BadReferenceError(f"the argument of {name} is malformed: {argument!r}"[:300])
    if name == JSON_GET:
        path_parts(argument["Path"])


def check_described(kind: str, found: StepProperty) -> None:
    """Check that a step of type `kind` has the property that a reference needs.

    Raises:
        BadReferenceError: It does not, or the property is not a single value.
    """
    shown = f"Steps.{found.step}.{'.'.join(str(part) for part in found.path)}"
    if kind not in DESCRIBED_BY:
        raise BadReferenceError(f"{shown}: a step of type {kind} has no properties")
    model: Any = botocore.session.get_session().get_service_model("sagemaker")
    shape = model.operation_model(DESCRIBED_BY[kind]).output_shape
    for part in found.path:
        if shape.type_name == "structure" and part in shape.members:
            shape = shape.members[part]
        elif shape.type_name == "map" and isinstance(part, str):
            shape = shape.value
        elif shape.type_name == "list" and (isinstance(part, int) or _is_named(shape.member)):
            shape = shape.member
        else:
            raise BadReferenceError(f"Unknown property reference {shown}")
    if shape.type_name in {"structure", "list", "map"}:
        raise BadReferenceError(f"{shown} is not a single value")


def _is_named(shape: Any) -> bool:
    return shape.type_name == "structure" and any(member in shape.members for member in _NAME_MEMBERS)


def value_at(document: Any, path: tuple[str | int, ...]) -> Any:
    """Return the value at a path in an answer or a JSON file.

    Raises:
        BadReferenceError: There is no value at the path.
    """
    value = document
    for part in path:
        found = _below(value, part)
        if found is None:
            raise BadReferenceError(f"no value exists at {'.'.join(str(each) for each in path)!r}")
        value = found[0]
    return value


def _below(value: Any, part: str | int) -> tuple[Any] | None:
    """Return the value one level down in a tuple, or None, so that null differs from no value."""
    if isinstance(value, dict) and part in value:
        return (value[part],)
    if isinstance(value, list) and isinstance(part, int):
        return (value[part],) if part < len(value) else None
    if isinstance(value, list):
        named = [
            item
            for item in value
            if isinstance(item, dict) and part in {item.get(member) for member in _NAME_MEMBERS}
        ]
        return (named[0],) if named else None
    return None
