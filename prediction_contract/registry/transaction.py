"""Guarded changes of the registry. DynamoDB applies all writes and checks of a transaction or none."""

from __future__ import annotations

from collections.abc import Mapping
from dataclasses import dataclass, field
from enum import StrEnum
from typing import Any

from prediction_contract.errors import RuleViolationError
from prediction_contract.registry.conditions import Condition, Missing, Placeholders
from prediction_contract.registry.records import ChangeRequest, RecordKey
from prediction_contract.registry.stored_record import Attributes, Value


@dataclass(frozen=True, slots=True)
class Write:
    """The change of one record: its conditions, and the attributes to set, remove or add members to.

    A write without changes only checks its conditions. Setting attributes of an absent record creates it.
    """

    key: RecordKey
    conditions: tuple[Condition, ...] = ()
    assign: Mapping[str, Value] = field(default_factory=dict)
    remove: tuple[str, ...] = ()
    add: Mapping[str, frozenset[str]] = field(default_factory=dict)

    def item(self, table: str) -> dict[str, Any]:
        """Return the write as one entry of `TransactWriteItems`, in low-level DynamoDB form."""
        placeholders = Placeholders()
        entry: dict[str, Any] = {"TableName": table, "Key": self.key.item()}
        if update := self._update_expression(placeholders):
            entry["UpdateExpression"] = update
        if self.conditions:
            entry["ConditionExpression"] = " AND ".join(
                condition.clause.render(placeholders) for condition in self.conditions
            )
        entry["ExpressionAttributeNames"] = placeholders.names
        if placeholders.values:
            entry["ExpressionAttributeValues"] = placeholders.values
        return {"Update" if update else "ConditionCheck": entry}

    def _update_expression(self, placeholders: Placeholders) -> str:
        parts: list[str] = []
        if self.assign:
            parts.append(
                "SET "
                + ", ".join(
                    f"{placeholders.name(name)} = {placeholders.value(value)}"
                    for name, value in self.assign.items()
                )
            )
        if self.remove:
            parts.append("REMOVE " + ", ".join(placeholders.name(name) for name in self.remove))
        if self.add:
            parts.append(
                "ADD "
                + ", ".join(
                    f"{placeholders.name(name)} {placeholders.value(members)}"
                    for name, members in self.add.items()
                )
            )
        return " ".join(parts)


def request_is_new(key: RecordKey, request: ChangeRequest, action: StrEnum, sequence: int) -> Write:
    """Return the write that records a request and refuses one that was already carried out."""
    unknown = Condition(
        "request_is_new",
        Missing("record"),
        f"The request {request.request_id} has already been carried out",
        "Nothing needs to be done",
    )
    return Write(
        key=key,
        conditions=(unknown,),
        assign={"action": action, "sequence": sequence, "actor": request.actor},
    )


@dataclass(frozen=True, slots=True)
class Transaction:
    """Writes to distinct records of one model, applied together or not at all.

    An empty transaction means that the registry is already as requested.
    """

    model: str
    batch_id: str | None
    writes: tuple[Write, ...] = ()

    def items(self, table: str) -> list[dict[str, Any]]:
        """Return the entries for DynamoDB's `TransactWriteItems(TransactItems=...)`."""
        return [write.item(table) for write in self.writes]

    def check(self, records: Mapping[RecordKey, Attributes]) -> None:
        """Check all conditions on records that were read.

        Args:
            records: The attributes read for each key; a missing key means an absent record.

        Raises:
            RuleViolationError: A condition does not hold; the error names the first such condition.
        """
        for write in self.writes:
            attributes = records.get(write.key, {})
            for condition in write.conditions:
                if not condition.clause.holds(attributes):
                    raise RuleViolationError(
                        condition.name,
                        condition.otherwise,
                        remedy=condition.remedy,
                        model=self.model,
                        batch_id=self.batch_id,
                    )
