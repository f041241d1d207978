"""Parameters of a pipeline, declared with types and defaults and given as text."""

from __future__ import annotations

import re
from dataclasses import dataclass
from typing import Any

_NAME = re.compile(r"[A-Za-z0-9_-]{1,256}")
_MAX_PARAMETERS = 200
_MEMBERS = {"Name", "Type", "DefaultValue", "EnumValues"}
_TYPES: dict[str, type | tuple[type, ...]] = {
    "String": str,
    "Integer": int,
    "Float": (int, float),
    "Boolean": bool,
}
_INTEGER = re.compile(r"[+-]?\d{1,18}")
_BOOLEANS = {"true": True, "false": False}

Value = str | int | float | bool


class ParameterError(ValueError):
    """A parameter's declaration or value is invalid."""


@dataclass(frozen=True)
class Parameter:
    """A parameter.

    Args:
        name: The parameter's name.
        kind: `String`, `Integer`, `Float` or `Boolean`.
        default: The default value; None if a value must be given.
        allowed: The allowed values; empty for any value of its type.
    """

    name: str
    kind: str
    default: Value | None
    allowed: tuple[Value, ...]

    def value(self, text: str) -> Value:
        """Parse a value.

        Raises:
            ParameterError: The value has another type, or is not one of the allowed values.
        """
        value = self._converted(text)
        if self.allowed and value not in self.allowed:
            raise ParameterError(f"{self.name} must be one of {list(self.allowed)}, not {text!r}")
        return value

    def _converted(self, text: str) -> Value:
        if self.kind == "Integer" and _INTEGER.fullmatch(text):
            return int(text)
        if self.kind == "Boolean" and text.lower() in _BOOLEANS:
            return _BOOLEANS[text.lower()]
        if self.kind == "Float":
            try:
                return float(text)
            except ValueError:
                pass
        if self.kind != "String":
            raise ParameterError(f"{self.name} must be of type {self.kind}, not {text!r}")
        return text


def read_parameters(documents: Any) -> dict[str, Parameter]:
    """Read the parameters of a definition.

    Raises:
        ParameterError: A parameter is malformed.
    """
    if not isinstance(documents, list) or len(documents) > _MAX_PARAMETERS:
        raise ParameterError(f"Parameters must be a list of at most {_MAX_PARAMETERS}")
    found: dict[str, Parameter] = {}
    for document in documents:
        parameter = _read(document)
        if parameter.name in found:
            raise ParameterError(f"two parameters have the name {parameter.name}")
        found[parameter.name] = parameter
    return found


def _read(document: Any) -> Parameter:
    if not isinstance(document, dict) or set(document) - _MEMBERS:
        raise ParameterError(f"a parameter is an object whose members are among {sorted(_MEMBERS)}")
    name, kind = document.get("Name"), document.get("Type")
    if not isinstance(name, str) or not _NAME.fullmatch(name):
        raise ParameterError(f"a parameter's name has 1 to 256 letters, digits, - and _, not {name!r}")
    if kind not in _TYPES:
        raise ParameterError(f"the type of parameter {name} must be one of {sorted(_TYPES)}, not {kind!r}")
    default, allowed = document.get("DefaultValue"), document.get("EnumValues")
    for value in [*(allowed or ()), *(() if default is None else (default,))]:
        is_boolean = isinstance(value, bool)
        if not isinstance(value, _TYPES[kind]) or is_boolean != (kind == "Boolean"):
            raise ParameterError(f"parameter {name} has type {kind}, but {value!r} does not")
    if allowed and default is not None and default not in allowed:
        raise ParameterError(f"the default of parameter {name} is not one of {allowed}")
    return Parameter(name, kind, default, tuple(allowed or ()))


def values_of(parameters: dict[str, Parameter], given: list[dict[str, str]]) -> dict[str, Value]:
    """Return the value of every parameter of an execution.

    Args:
        parameters: The parameters of the definition.
        given: The name and text of each parameter that the caller gave.

    Raises:
        ParameterError: A parameter is unknown, missing, given twice, or has an invalid value.
    """
    texts = {item["Name"]: item["Value"] for item in given}
    if len(texts) < len(given):
        raise ParameterError("A parameter is given twice")
    if unknown := set(texts) - set(parameters):
        raise ParameterError(f"Unknown parameters: {sorted(unknown)}")
    missing = [name for name, each in parameters.items() if each.default is None and name not in texts]
    if missing:
        raise ParameterError(f"Parameters without a default must be given: {missing}")
    values: dict[str, Value] = {}
    for name, parameter in parameters.items():
        if name in texts:
            values[name] = parameter.value(texts[name])
        elif parameter.default is not None:
            values[name] = parameter.default
    return values


def to_text(value: Value) -> str:
    """Return a value as text, for the API and `Std:Join`."""
    return str(value).lower() if isinstance(value, bool) else str(value)
