"""The routes of models and their live batches."""

from __future__ import annotations

import json
import time
from typing import TYPE_CHECKING, Any

from api_lambda import problems
from api_lambda.http.load_balancer import Response, longest_fitting_page
from api_lambda.request_log import NOT_REPLICATED
from api_lambda.store.live_batch import BrokenPublicationError, model_members
from api_lambda.store.registry_reader import MAX_MODELS
from prediction_contract.errors import InvalidNameError
from prediction_contract.naming.batch import ModelName

if TYPE_CHECKING:
    from api_lambda.calls import Call
    from api_lambda.store.live_batch import LiveBatch


def list_models(call: Call) -> Response:
    """Answer with one page of the models that are live and that the caller may read, by name."""
    caller, after = call.caller, _after(call)
    limit = call.number("limit", MAX_MODELS, MAX_MODELS)
    with call.log.stage("models"):
        names = call.services.publications.models(call.until)
    left = [name for name in names if name > after and (caller is None or caller.may_read(name))]
    shown = left[:limit]
    with call.log.stage("pointer"):
        found = call.services.publications.live_of(shown, call.until)
    faults = [fault for each in found.values() if (fault := _fault(each))]
    if faults:
        call.log.notes["fault"] = "; ".join(faults)

    def page(count: int) -> Response:
        part = [_list_entry(name, found[name]) for name in shown[:count] if name in found]
        more = {"next_after": shown[count - 1]} if 0 < count < len(left) else {}
        return Response(200, json.dumps({"models": part, **more}, ensure_ascii=False))

    return longest_fitting_page(len(shown), page)


def get_model(call: Call) -> Response:
    """Answer with a model's live batch, its age, accepted rows and columns."""
    return Response(200, json.dumps(_document(call.live(call.model())), ensure_ascii=False))


def _after(call: Call) -> str:
    name = call.text("after")
    try:
        return ModelName(name) if name is not None else ""
    except InvalidNameError as error:
        raise problems.ProblemError(problems.INVALID_QUERY) from error


def _fault(live: LiveBatch | BrokenPublicationError) -> str | None:
    if isinstance(live, BrokenPublicationError):
        return str(live)
    return f"{live.model}: {NOT_REPLICATED}" if live.is_behind else None


def _list_entry(model: str, live: LiveBatch | BrokenPublicationError) -> dict[str, Any]:
    """Return a model's entry in the list; a broken publication shows as its fault."""
    if isinstance(live, BrokenPublicationError):
        return {"model": model, "problem": f"{problems.TYPE_PREFIX}{problems.problem_of(live).kind}"}
    return _document(live)


def _document(live: LiveBatch) -> dict[str, Any]:
    serving = live.serving
    return {
        "model": live.model,
        "batch_id": live.batch_id,
        "partition": live.partition,
        **model_members(serving),
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
