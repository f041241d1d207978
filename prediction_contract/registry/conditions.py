"""Conditions on one registry record.

Each condition is written once and evaluated twice. DynamoDB evaluates it atomically with the change, and that
result decides. It is also evaluated here on a record that was read, to explain a refusal in words.
"""

from __future__ import annotations

from dataclasses import dataclass, field
from typing import Protocol

from prediction_contract.registry.stored_record import Attributes, Value, encode_value


@dataclass(slots=True)
class Placeholders:
    """The placeholders for names and values in one DynamoDB expression."""

    names: dict[str, str] = field(default_factory=dict)
    values: dict[str, dict[str, object]] = field(default_factory=dict)

    def name(self, attribute: str) -> str:
        """Return an attribute's placeholder. One attribute always has the same placeholder."""
        placeholder = f"#{attribute}"
        self.names[placeholder] = attribute
        return placeholder

    def value(self, value: Value) -> str:
        """Return a new placeholder for a value."""
        placeholder = f":v{len(self.values)}"
        self.values[placeholder] = encode_value(value)
        return placeholder


class Clause(Protocol):
    """A test on the attributes of one record. An absent record has no attributes."""

    def holds(self, attributes: Attributes) -> bool:
        """Return whether the test holds, with DynamoDB's semantics."""
        ...

    def render(self, placeholders: Placeholders) -> str:
        """Return the test as part of a DynamoDB condition expression."""
        ...


@dataclass(frozen=True, slots=True)
class Equals:
    """The attribute exists and has this value."""

    attribute: str
    value: Value

    def holds(self, attributes: Attributes) -> bool:
        """See `Clause`."""
        return attributes.get(self.attribute) == self.value

    def render(self, placeholders: Placeholders) -> str:
        """See `Clause`."""
        return f"{placeholders.name(self.attribute)} = {placeholders.value(self.value)}"


@dataclass(frozen=True, slots=True)
class Differs:
    """The attribute does not exist or has another value."""

    attribute: str
    value: Value

    def holds(self, attributes: Attributes) -> bool:
        """See `Clause`."""
        return attributes.get(self.attribute) != self.value

    def render(self, placeholders: Placeholders) -> str:
        """See `Clause`."""
        name = placeholders.name(self.attribute)
        return f"(attribute_not_exists({name}) OR {name} <> {placeholders.value(self.value)})"


@dataclass(frozen=True, slots=True)
class OneOf:
    """The attribute exists and has one of these values."""

    attribute: str
    values: tuple[str, ...]

    def holds(self, attributes: Attributes) -> bool:
        """See `Clause`."""
        return attributes.get(self.attribute) in self.values

    def render(self, placeholders: Placeholders) -> str:
        """See `Clause`."""
        listed = ", ".join(placeholders.value(value) for value in self.values)
        return f"{placeholders.name(self.attribute)} IN ({listed})"


@dataclass(frozen=True, slots=True)
class Missing:
    """The attribute does not exist."""

    attribute: str

    def holds(self, attributes: Attributes) -> bool:
        """See `Clause`."""
        return self.attribute not in attributes

    def render(self, placeholders: Placeholders) -> str:
        """See `Clause`."""
        return f"attribute_not_exists({placeholders.name(self.attribute)})"


@dataclass(frozen=True, slots=True)
class Below:
    """The attribute exists and is less than the bound. Text is compared by code point."""

    attribute: str
    bound: str | int

    def holds(self, attributes: Attributes) -> bool:
        """See `Clause`."""
        actual = attributes.get(self.attribute)
        if isinstance(actual, str) and isinstance(self.bound, str):
            return actual < self.bound
        return isinstance(actual, int) and isinstance(self.bound, int) and actual < self.bound

    def render(self, placeholders: Placeholders) -> str:
        """See `Clause`."""
        return f"{placeholders.name(self.attribute)} < {placeholders.value(self.bound)}"


@dataclass(frozen=True, slots=True)
class NotBelow:
    """The attribute exists and is at least the bound."""

    attribute: str
    bound: str | int

    def holds(self, attributes: Attributes) -> bool:
        """See `Clause`."""
        return self.attribute in attributes and not Below(self.attribute, self.bound).holds(attributes)

    def render(self, placeholders: Placeholders) -> str:
        """See `Clause`."""
        return f"{placeholders.name(self.attribute)} >= {placeholders.value(self.bound)}"


@dataclass(frozen=True, slots=True)
class Contains:
    """The attribute is a set that has this member."""

    attribute: str
    member: str

    def holds(self, attributes: Attributes) -> bool:
        """See `Clause`."""
        members = attributes.get(self.attribute)
        return isinstance(members, frozenset) and self.member in members

    def render(self, placeholders: Placeholders) -> str:
        """See `Clause`."""
        return f"contains({placeholders.name(self.attribute)}, {placeholders.value(self.member)})"


@dataclass(frozen=True, slots=True)
class AllOf:
    """All clauses hold."""

    clauses: tuple[Clause, ...]

    def holds(self, attributes: Attributes) -> bool:
        """See `Clause`."""
        return all(clause.holds(attributes) for clause in self.clauses)

    def render(self, placeholders: Placeholders) -> str:
        """See `Clause`."""
        return _joined(" AND ", self.clauses, placeholders)


@dataclass(frozen=True, slots=True)
class AnyOf:
    """At least one clause holds."""

    clauses: tuple[Clause, ...]

    def holds(self, attributes: Attributes) -> bool:
        """See `Clause`."""
        return any(clause.holds(attributes) for clause in self.clauses)

    def render(self, placeholders: Placeholders) -> str:
        """See `Clause`."""
        return _joined(" OR ", self.clauses, placeholders)


@dataclass(frozen=True, slots=True)
class Condition:
    """A named clause, with the message to show if it fails.

    Args:
        name: A stable identifier, for example `target_is_verified`.
        clause: The test on the record.
        otherwise: What is wrong if the clause fails, as a sentence without a full stop.
        remedy: What the reader can do about it, as a sentence without a full stop.
    """

    name: str
    clause: Clause
    otherwise: str
    remedy: str


def _joined(operator: str, clauses: tuple[Clause, ...], placeholders: Placeholders) -> str:
    # DynamoDB refuses redundant parentheses.
    rendered = [clause.render(placeholders) for clause in clauses]
    return rendered[0] if len(rendered) == 1 else f"({operator.join(rendered)})"
