"""The OpenAPI document's schemas of requests and answers."""

from __future__ import annotations

from typing import Any

from api_lambda import problems
from api_lambda.predictions import MAX_ENTITIES, MAX_FIELDS
from prediction_contract.limits import MAX_PARTITION_KEY_BYTES
from prediction_contract.naming.batch import MODEL_PATTERN
from prediction_contract.naming.s3_layout import HIGHEST_VERSION
from prediction_contract.rows.schema import COLUMN_PATTERN

TEXT: dict[str, Any] = {"type": "string"}
_COUNT: dict[str, Any] = {"type": "integer", "minimum": 0}
MODEL_NAME: dict[str, Any] = {"type": "string", "pattern": f"^{MODEL_PATTERN}$"}
ENTITY_ID: dict[str, Any] = {"type": "string", "minLength": 1, "maxLength": MAX_PARTITION_KEY_BYTES}
# The name of a column or an enrichment.
NAME: dict[str, Any] = {"type": "string", "pattern": f"^{COLUMN_PATTERN}$"}
# Only batches of a registered model version have these members.
_REGISTERED = ("model_package_version",)
_FIELD_NAMES: dict[str, Any] = {
    "type": "array",
    "items": NAME,
    "minItems": 1,
    "maxItems": MAX_FIELDS,
}


def schemas() -> dict[str, Any]:
    """Return the schemas by name."""
    provenance = _object(
        {
            "batch_id": TEXT,
            "partition": TEXT,
            "model_version": {**TEXT, "description": "The digest of the trained objects"},
            "model_package_version": {
                "type": "integer",
                "minimum": 1,
                "maximum": HIGHEST_VERSION,
                "description": "The registered model version's number; absent if there is none",
            },
            "published_at": {"type": "string", "format": "date-time"},
            "sequence": {"type": "integer", "minimum": 1},
        },
        optional=_REGISTERED,
    )
    column = _object({"name": TEXT, "type": TEXT, "nullable": {"type": "boolean"}})
    declared = _object(
        {"name": TEXT, "required": {"type": "boolean"}, "fields": {"type": "array", "items": TEXT}}
    )
    model = _object(
        {
            "model": MODEL_NAME,
            **provenance["properties"],
            "age_seconds": _COUNT,
            "rows": {**_COUNT, "description": "The batch's accepted rows, without quarantined ones"},
            "key": TEXT,
            "columns": {"type": "array", "items": column},
            "enrichments": {"type": "array", "items": declared},
        },
        optional=_REGISTERED,
    )
    row: dict[str, Any] = {"type": "object", "description": "Columns by name"}
    outcome = _object(
        {
            "status": {"enum": ["ok", "stale", "unavailable", "not_applicable"]},
            "age_seconds": _COUNT,
            "data": {"type": "object"},
        },
        optional=("age_seconds", "data"),
    )
    found = _object(
        {"entity_id": ENTITY_ID, "found": {"type": "boolean"}, "prediction": row}, optional=("prediction",)
    )
    publication = _object(
        {"provenance": provenance, "found": {"type": "boolean"}, "prediction": row}, optional=("prediction",)
    )
    return {
        "Status": _object({"status": TEXT}),
        "Model": model,
        "Models": _object(
            {
                "models": {
                    "type": "array",
                    "items": {"anyOf": [model, _object({"model": MODEL_NAME, "problem": TEXT})]},
                },
                "next_after": MODEL_NAME,
            },
            optional=("next_after",),
        ),
        "Prediction": _object(
            {
                "model": MODEL_NAME,
                "entity_id": ENTITY_ID,
                "prediction": row,
                "provenance": provenance,
                "enrichment": {"type": "object", "additionalProperties": outcome},
            }
        ),
        "BatchGet": {
            **_object(
                {
                    "entity_ids": {
                        "type": "array",
                        "items": ENTITY_ID,
                        "minItems": 1,
                        "maxItems": MAX_ENTITIES,
                    },
                    "fields": _FIELD_NAMES,
                },
                optional=("fields",),
            )
        },
        "Predictions": _object(
            {
                "model": MODEL_NAME,
                "predictions": {"type": "array", "items": found},
                "provenance": provenance,
            }
        ),
        "History": _object(
            {
                "model": MODEL_NAME,
                "entity_id": ENTITY_ID,
                "history": {"type": "array", "items": publication},
                "next_before": {"type": "integer", "minimum": 2},
            },
            optional=("next_before",),
        ),
        "Problem": _object(
            {
                "type": {"type": "string", "pattern": f"^{problems.TYPE_PREFIX}[a-z-]+$"},
                "title": TEXT,
                "status": {"type": "integer", "minimum": 400, "maximum": 599},
                "detail": TEXT,
                "instance": TEXT,
            }
        ),
    }


def _object(properties: dict[str, Any], *, optional: tuple[str, ...] = ()) -> dict[str, Any]:
    required = [name for name in properties if name not in optional]
    return {
        "type": "object",
        "properties": properties,
        "required": required,
        "additionalProperties": False,
    }
