"""A publication needs serving facts of its batch; if they are unusable, the error names the batch."""

from __future__ import annotations

from types import SimpleNamespace
from typing import Any

import pytest

from mlpipe_dagster.publication.publisher import PublishingError, serving_text
from prediction_contract.naming.batch import LONGEST_MODEL_VERSION
from prediction_contract.registry.records import BatchRecord
from tests.dagster.small_model import attributes, declaration

BATCH = "20130201T060000Z-0123abcd"
WEATHER = {"name": "weather", "provider": "weather", "path": "/v1/{place}", "fields": ["degrees"]}
PLACE = {"name": "place", "type": "string"}


@pytest.mark.parametrize(
    ("version", "enrichments", "words"),
    [
        ("v" * (LONGEST_MODEL_VERSION + 1), [], "model version has 257 .* Score the batch again"),
        ("v1", [WEATHER], "uses place, .* Correct the model's declaration"),
    ],
)
def test_unservable_batch_error_names_batch_and_remedy(
    version: str, enrichments: list[Any], words: str
) -> None:
    """A long model version calls for a new batch, a missing enrichment column for a new declaration."""
    columns = [*attributes()["columns"], PLACE]
    model = declaration("tides", columns=columns, enrichments=enrichments)
    schema = declaration("tides").prediction_schema
    manifest: Any = SimpleNamespace(schema=schema, model_version=version, model_package=None, checksum="6")
    record = BatchRecord(model="tides", batch_id=BATCH, row_count=3, accepted_rows=3)
    with pytest.raises(PublishingError, match=f"^tides/{BATCH}: .*{words}"):
        serving_text(model, manifest, record, lambda _provider: "https://api.example")
