"""A JSON part of a small model's batch that exists in the bucket."""

from __future__ import annotations

import gzip
import hashlib
from decimal import Decimal
from typing import TYPE_CHECKING, Any

from prediction_contract.manifests.manifest import JsonPart
from prediction_contract.naming.s3_layout import json_part_key
from prediction_contract.rows.prediction_line import prediction_line
from prediction_contract.rows.row_contract import Row, row_contract
from tests.dagster.small_model import PARTITION

if TYPE_CHECKING:
    from tests.dagster.small_model import SmallModel


class WrittenPart:
    """The only part of a batch, put into the bucket at construction.

    Attributes:
        rows: The rows that the contract accepts; a score above 99,999 is refused.
        manifest_changes: The manifest's fields for this part.
    """

    def __init__(
        self, model: SmallModel, *, rows: int, partition: str = PARTITION, first_score: int = 0
    ) -> None:
        contract = row_contract(model.declaration.prediction_schema)
        lines = [
            prediction_line(contract, {"entity_id": f"E{number}", "score": Decimal(first_score + number)})
            for number in range(rows)
        ]
        batch_id = model.batch_id()
        content = gzip.compress(b"".join(line.content for line in lines))
        key = json_part_key(model.name, partition, batch_id, 1, share="part", number=0)
        model.platform.bucket.put(key, content)
        self.rows: list[Row] = [line.row for line in lines if line.row is not None]
        self.manifest_changes: dict[str, Any] = {
            "batch_id": batch_id,
            "partition": partition,
            "json_parts": [JsonPart(key, rows, len(content), hashlib.sha256(content).hexdigest())],
        }
