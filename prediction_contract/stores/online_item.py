"""Conversion between rows and items of the online table, in DynamoDB's low-level form."""

from __future__ import annotations

from dataclasses import dataclass
from functools import lru_cache
from json.encoder import encode_basestring
from typing import TYPE_CHECKING, Any

from prediction_contract.errors import ContractError, InvalidNameError, InvalidRowError
from prediction_contract.naming.batch import BatchId
from prediction_contract.rows.row_contract import row_contract
from prediction_contract.rows.schema import Kind
from prediction_contract.text.canonical_json import NumberText, number_text

if TYPE_CHECKING:
    from collections.abc import Collection, Mapping

    from prediction_contract.rows.row_contract import Row
    from prediction_contract.rows.schema import PredictionSchema

KEY_ATTRIBUTE = "entity_id"
BATCH_ATTRIBUTE = "batch_id"
EXPIRY_ATTRIBUTE = "expires_at"
CHECKSUM_ATTRIBUTE = "row_checksum"
# Cleaned rows have it, because their `row_checksum` is that of the row before cleaning.
STORED_CHECKSUM_ATTRIBUTE = "stored_checksum"


class DamagedItemError(ContractError):
    """An item of the online table does not have the form that `OnlineItems.build` gives it."""


@dataclass(frozen=True, slots=True)
class StoredPrediction:
    """One item, read back.

    Attributes:
        row: The stored row, with the declared types.
        batch_id: The row's batch.
        expires_at: When DynamoDB may delete the item, in seconds since 1970.
        row_checksum: The checksum of the row as the model wrote it.
        stored_checksum: The checksum of the stored row if it was cleaned; None otherwise.
    """

    row: Row
    batch_id: str
    expires_at: int
    row_checksum: int
    stored_checksum: int | None = None

    @property
    def is_intact(self) -> bool:
        """Whether the values match the checksum that was written with them."""
        written = self.row_checksum if self.stored_checksum is None else self.stored_checksum
        return self.row.checksum == written


class OnlineItems:
    """Builds and reads the items of one schema. A column without a value has no attribute."""

    def __init__(self, schema: PredictionSchema) -> None:
        self._schema = schema
        self._contract = row_contract(schema)
        self._attributes = attributes_of(schema)

    def build(self, row: Row, batch_id: str, expires_at: int) -> dict[str, dict[str, Any]]:
        """Return a row's item.

        Args:
            row: A row of this schema.
            batch_id: The batch id, already validated.
            expires_at: When the item expires, in seconds since 1970.
        """
        item: dict[str, dict[str, Any]] = {
            BATCH_ATTRIBUTE: {"S": batch_id},
            EXPIRY_ATTRIBUTE: {"N": str(expires_at)},
            CHECKSUM_ATTRIBUTE: {"N": str(row.checksum)},
        }
        if row.stored_checksum is not None:
            item[STORED_CHECKSUM_ATTRIBUTE] = {"N": str(row.stored_checksum)}
        values = row.values
        for (name, attribute, kind), text in zip(self._attributes, row.texts, strict=True):
            if text is None:
                continue
            if kind in _NUMBERS:
                item[attribute] = {"N": text}
            elif kind is Kind.STRING:
                item[attribute] = {"S": values[name]}
            elif kind is Kind.BOOLEAN:
                item[attribute] = {"BOOL": values[name]}
            elif kind is Kind.JSON:
                item[attribute] = attribute_value(values[name])
            else:
                item[attribute] = {"S": text[1:-1]}
        return item

    def read(self, item: Mapping[str, Mapping[str, Any]]) -> StoredPrediction:
        """Return the content of an item that `build` made. Attributes outside the schema are ignored.

        Raises:
            DamagedItemError: An attribute is missing or has the wrong type.
        """
        try:
            members = {
                name: _raw_value(item[attribute])
                for name, attribute, _ in self._attributes
                if attribute in item
            }
            return StoredPrediction(
                row=self._contract.accept_members(members),
                batch_id=_batch_id(item[BATCH_ATTRIBUTE]["S"]),
                expires_at=int(item[EXPIRY_ATTRIBUTE]["N"]),
                row_checksum=int(item[CHECKSUM_ATTRIBUTE]["N"]),
                stored_checksum=(
                    int(item[STORED_CHECKSUM_ATTRIBUTE]["N"]) if STORED_CHECKSUM_ATTRIBUTE in item else None
                ),
            )
        except (KeyError, ValueError, InvalidRowError, InvalidNameError) as error:
            why = "an attribute is missing or has the wrong type"
            raise DamagedItemError(
                "An item of the online table does not fit the schema: "
                f"{error.what if isinstance(error, ContractError) else why}",
                remedy="Read it with its own batch's schema; if it still does not fit, load the batch again",
            ) from error

    def render_json(self, row: Row, names: Collection[str] | None = None) -> str:
        """Return a row as a JSON object in the schema's order, with null for no value.

        Numbers have all their digits. Only columns declared `double` go through a binary float.

        Args:
            row: A row of this schema.
            names: The columns to show; all if None.
        """
        texts = dict(zip(self._contract.column_names, row.texts, strict=True))
        members = (
            f"{encode_basestring(name)}:{texts[name] or 'null'}"
            for name in self._schema.names
            if names is None or name in names
        )
        return f"{{{','.join(members)}}}"


_NUMBERS = frozenset({Kind.LONG, Kind.DECIMAL, Kind.DOUBLE})
# Cached because many items have the same few batch ids, and validation is the slowest part of a read.
_batch_id = lru_cache(maxsize=64)(BatchId)


def attributes_of(schema: PredictionSchema) -> list[tuple[str, str, Kind]]:
    """Return the name, the attribute name and the kind of each column, in name order."""
    return [
        (column.name, KEY_ATTRIBUTE if column.name == schema.key else column.name, column.type.kind)
        for column in sorted(schema.columns, key=lambda column: column.name)
    ]


def attribute_value(value: Any) -> dict[str, Any]:
    """Return a nested value in DynamoDB's low-level form."""
    if value is None:
        return {"NULL": True}
    if isinstance(value, str):
        return {"S": value}
    if isinstance(value, bool):
        return {"BOOL": value}
    if isinstance(value, list):
        return {"L": [attribute_value(element) for element in value]}
    if isinstance(value, dict):
        return {"M": {name: attribute_value(member) for name, member in value.items()}}
    return {"N": number_text(value)}


def _raw_value(attribute: Mapping[str, Any]) -> Any:
    """Return an attribute's value in the form that the JSON parser returns.

    Raises:
        ValueError: The contract never writes an attribute of this type.
    """
    ((kind, value),) = attribute.items()
    if kind in {"S", "BOOL"}:
        return value
    if kind == "N":
        return int(value) if value.lstrip("-").isdigit() else NumberText(value)
    if kind == "NULL":
        return None
    if kind == "L":
        return [_raw_value(element) for element in value]
    if kind == "M":
        return {name: _raw_value(member) for name, member in value.items()}
    raise ValueError(f"an attribute of type {kind}")
