"""Items of the online table as JSON text of DynamoDB's protocol, built from the pieces of a row."""

from __future__ import annotations

import json
from json.encoder import encode_basestring
from typing import TYPE_CHECKING

from prediction_contract.naming.batch import BatchId
from prediction_contract.rows.canonical_lines import QUOTES, RowTemplate
from prediction_contract.rows.schema import Kind
from prediction_contract.stores.online_item import (
    BATCH_ATTRIBUTE,
    CHECKSUM_ATTRIBUTE,
    EXPIRY_ATTRIBUTE,
    STORED_CHECKSUM_ATTRIBUTE,
    attribute_value,
    attributes_of,
)

if TYPE_CHECKING:
    from prediction_contract.rows.row_contract import Row
    from prediction_contract.rows.schema import PredictionSchema

_AROUND = {
    Kind.STRING: ('{"S":"', '"}'),
    Kind.DATE: ('{"S":"', '"}'),
    Kind.TIMESTAMP: ('{"S":"', '"}'),
    Kind.LONG: ('{"N":"', '"}'),
    Kind.DECIMAL: ('{"N":"', '"}'),
    Kind.DOUBLE: ('{"N":"', '"}'),
    Kind.BOOLEAN: ('{"BOOL":', "}"),
    # The piece is inserted unchanged.
    Kind.JSON: ("", ""),
}


class OnlineItemTexts:
    """Writes the items of one batch as JSON, with the same content as `OnlineItems.build`.

    Args:
        schema: The rows' schema.
        batch_id: The batch.
        expires_at: When the items expire, in seconds since 1970.
    """

    def __init__(self, schema: PredictionSchema, batch_id: str, expires_at: int) -> None:
        attributes = attributes_of(schema)
        self._kinds = [(name, kind) for name, _, kind in attributes]
        members = [
            (f"{encode_basestring(attribute)}:{_AROUND[kind][0]}", _AROUND[kind][1])
            for _, attribute, kind in attributes
        ]
        batch = f'"{BATCH_ATTRIBUTE}":{{"S":"{BatchId(batch_id)}"}}'
        own = f'{{{batch},"{EXPIRY_ATTRIBUTE}":{{"N":"{expires_at}"}},'
        checksum, stored_checksum = (
            (f'"{attribute}":{{"N":"', '"}') for attribute in (CHECKSUM_ATTRIBUTE, STORED_CHECKSUM_ATTRIBUTE)
        )
        self._template = RowTemplate([*members, checksum], first=own)
        self._cleaned_template = RowTemplate([*members, checksum, stored_checksum], first=own)

    def text(self, row: Row) -> str:
        """Return the JSON text of a row's item."""
        pieces = row.pieces or self._pieces(row)
        if row.stored_checksum is None:
            return self._template.fill([*pieces, row.checksum])
        return self._cleaned_template.fill([*pieces, row.checksum, row.stored_checksum])

    def _pieces(self, row: Row) -> list[str | None]:
        pieces: list[str | None] = []
        for (name, kind), text in zip(self._kinds, row.texts, strict=True):
            if text is None:
                pieces.append(None)
            elif kind is Kind.JSON:
                value = attribute_value(row.values[name])
                pieces.append(json.dumps(value, ensure_ascii=False, separators=(",", ":")))
            else:
                pieces.append(text[1:-1] if kind in QUOTES else text)
        return pieces
