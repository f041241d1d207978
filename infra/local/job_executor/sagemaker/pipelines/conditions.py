"""Conditions of Condition steps: validation and evaluation."""

from __future__ import annotations

from typing import TYPE_CHECKING, Any

if TYPE_CHECKING:
    from collections.abc import Callable

_ORDERED: dict[str, Callable[[Any, Any], bool]] = {
    "GreaterThan": lambda left, right: left > right,
    "GreaterThanOrEqualTo": lambda left, right: left >= right,
    "LessThan": lambda left, right: left < right,
    "LessThanOrEqualTo": lambda left, right: left <= right,
}
_MEMBERS = {
    "Equals": {"Type", "LeftValue", "RightValue"},
    **{kind: {"Type", "LeftValue", "RightValue"} for kind in _ORDERED},
    "In": {"Type", "QueryValue", "Values"},
    "Not": {"Type", "Condition"},
    "Or": {"Type", "Conditions"},
}


class ConditionError(ValueError):
    """A condition is malformed, or compares values of different types."""


def check_condition(condition: Any) -> None:
    """Check the form of a condition and of nested conditions.

    Raises:
        ConditionError: A condition is malformed.
    """
    kind = condition.get("Type") if isinstance(condition, dict) else None
    if kind not in _MEMBERS or set(condition) != _MEMBERS[kind]:
        raise ConditionError(f"a condition is malformed: {condition!r}"[:300])
    if kind == "Not":
        check_condition(condition["Condition"])
    for member in ("Values", "Conditions"):
        if member in condition and (not isinstance(condition[member], list) or not condition[member]):
            raise ConditionError(f"{member} of a condition {kind} must be a non-empty list")
    for inner in condition.get("Conditions", ()):
        check_condition(inner)


def holds(condition: dict[str, Any], value_of: Callable[[Any], Any]) -> bool:
    """Return whether a condition is true.

    Args:
        condition: A condition that was checked.
        value_of: Returns the value of a literal, a reference or a function call.

    Raises:
        ConditionError: Values of different types are compared.
    """
    kind = condition["Type"]
    if kind == "Not":
        return not holds(condition["Condition"], value_of)
    if kind == "Or":
        # Evaluate all, so that a wrong one is always found.
        held = [holds(inner, value_of) for inner in condition["Conditions"]]
        return any(held)
    if kind == "In":
        query = value_of(condition["QueryValue"])
        equal = [_equal(query, value_of(value)) for value in condition["Values"]]
        return any(equal)
    left, right = value_of(condition["LeftValue"]), value_of(condition["RightValue"])
    if kind == "Equals":
        return _equal(left, right)
    if _type_of(left) == "Boolean":
        raise ConditionError(f"{kind} cannot compare {left!r} and {right!r}")
    _check_types(left, right)
    return _ORDERED[kind](left, right)


def _equal(left: Any, right: Any) -> bool:
    _check_types(left, right)
    return left == right


def _check_types(left: Any, right: Any) -> None:
    if _type_of(left) != _type_of(right):
        raise ConditionError(f"{left!r} and {right!r} are of different types")


def _type_of(value: Any) -> str:
    if isinstance(value, bool):
        return "Boolean"
    return "Number" if isinstance(value, int | float) else "String"
