"""The routes of models: what is live of each."""

from __future__ import annotations

import json
import time
from typing import TYPE_CHECKING, Any

from api_lambda.alb import Response
from api_lambda.calls import Call
from api_lambda.online_store import BrokenPublicationError, UnknownModelError

if TYPE_CHECKING:
    from api_lambda.online_store import LiveBatch


def list_models(call: Call) -> Response:
    """Answer with every model that the reader may read and that has a live batch, by name."""
    store, reader = call.services.store, call.reader
    found: list[dict[str, Any]] = []
    faults: list[str] = []
    for model in store.models(call.until):
        if reader is not None and not reader.may_read(model):
            continue
        try:
            found.append(_document(store.live(model, call.until)))
        except UnknownModelError:
            continue
        except BrokenPublicationError as error:
            # One model's fault does not hide the others, and is not hidden itself.
            faults.append(str(error))
            found.append({"model": model, "problem": "urn:mlpipe:problem:internal-fault"})
    if faults:
        call.log.notes["fault"] = "; ".join(faults)
    return Response(200, json.dumps({"models": found}, ensure_ascii=False))


def get_model(call: Call) -> Response:
    """Answer with a model's live batch, its age, rows and columns."""
    return Response(200, json.dumps(_document(call.live(call.model())), ensure_ascii=False))


def _document(live: LiveBatch) -> dict[str, Any]:
    serving = live.serving
    return {
        "model": live.model,
        "batch_id": live.batch_id,
        "partition": live.partition,
        "model_version": serving.model_version,
        "published_at": live.published_at,
        "sequence": live.sequence,
        "age_seconds": max(0, int(time.time() - live.published)),
        "rows": serving.row_count,
        "key": serving.schema.key,
        "columns": [
            {"name": column.name, "type": str(column.type), "nullable": column.nullable}
            for column in serving.schema.columns
        ],
        "enrichments": [
            {"name": each.name, "required": each.required, "fields": list(each.fields)}
            for each in serving.enrichments
        ],
    }
