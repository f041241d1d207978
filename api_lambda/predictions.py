"""The routes of live predictions: one entity with its enrichments, or up to a hundred without."""

from __future__ import annotations

import hashlib
import json
import time
from json.encoder import encode_basestring
from typing import TYPE_CHECKING, Any

from api_lambda import problems
from api_lambda.calls import require_columns
from api_lambda.http.load_balancer import Response
from prediction_contract.limits import MAX_BATCH_READS, MAX_PARTITION_KEY_BYTES
from prediction_contract.text.canonical_json import InvalidJsonError, parse_json

if TYPE_CHECKING:
    from collections.abc import Iterable, Mapping

    from api_lambda.calls import Call
    from api_lambda.enrichment.enricher import EnrichmentOutcome
    from api_lambda.store.live_batch import LiveBatch
    from prediction_contract.stores.online_item import StoredPrediction
    from prediction_contract.stores.serving_record import Enrichment

MAX_ENTITIES = MAX_BATCH_READS
MAX_FIELDS = 200
# Part of every ETag; change it whenever the form of answers changes.
_FORM = "1"
_ETAG_DIGITS = 32
_REVALIDATE = {"Cache-Control": "private, no-cache"}


def get_prediction(call: Call) -> Response:
    """Answer with one entity's live prediction, its provenance and its enrichments."""
    model, entity_id = call.model(), call.entity_id()
    live = call.live(model)
    names = require_columns(live.serving.schema, call.names("fields"))
    chosen = _chosen(live.serving.enrichments, call.names("enrich"))
    # A publication never changes, but third parties' answers do, so only answers without them have an ETag.
    headers = {} if chosen else {"ETag": _etag(call, live), **_REVALIDATE}
    known = _client_etags(call)
    if headers.get("ETag") in known:
        return Response(304, "", headers=headers)
    call.log.found(1, not_found=1)
    with call.log.stage("items"):
        stored = call.services.store.prediction(live, entity_id, call.until)
    call.log.found(1, not_found=0)
    if known == {"*"}:
        # `*` matches any answer (RFC 9110, section 13.1.2), so it is enough that one exists.
        return Response(304, "", headers=headers)
    _note_expiry(call, [stored])
    outcomes: Mapping[str, EnrichmentOutcome] = {}
    if chosen:
        with call.log.stage("enrichment"):
            outcomes = call.services.enricher.enrich(chosen, stored.row)
        _note_outcomes(call, outcomes)
    if any(each.required and outcomes[each.name].status == "unavailable" for each in chosen):
        raise problems.ProblemError(problems.ENRICHMENT_UNAVAILABLE)
    enrichment = ",".join(f'"{name}":{outcome.to_json()}' for name, outcome in outcomes.items())
    return Response(
        200,
        f'{{"model":{encode_basestring(live.model)},"entity_id":{encode_basestring(entity_id)},'
        f'"prediction":{live.items.render_json(stored.row, names)},'
        f'"provenance":{live.provenance},"enrichment":{{{enrichment}}}}}',
        headers=headers,
    )


def batch_get(call: Call) -> Response:
    """Answer with the live predictions of up to a hundred entities, of one batch, in the order requested."""
    model = call.model()
    entity_ids, fields = _requested(call.request.body)
    live = call.live(model)
    names = require_columns(live.serving.schema, fields)
    with call.log.stage("items"):
        found = call.services.store.predictions(live, entity_ids, call.until)
    _note_expiry(call, found.values())
    call.log.found(len(entity_ids), not_found=sum(entity_id not in found for entity_id in entity_ids))
    entries = []
    for entity_id in entity_ids:
        stored = found.get(entity_id)
        shown = f',"prediction":{live.items.render_json(stored.row, names)}' if stored else ""
        entries.append(
            f'{{"entity_id":{encode_basestring(entity_id)},"found":{json.dumps(stored is not None)}{shown}}}'
        )
    return Response(
        200,
        f'{{"model":{encode_basestring(live.model)},"predictions":[{",".join(entries)}],'
        f'"provenance":{live.provenance}}}',
    )


def _chosen(enrichments: tuple[Enrichment, ...], names: tuple[str, ...] | None) -> tuple[Enrichment, ...]:
    if names is None or names == ("all",):
        return enrichments
    if names == ("none",):
        return ()
    if not set(names) <= {enrichment.name for enrichment in enrichments}:
        raise problems.ProblemError(problems.UNKNOWN_ENRICHMENT)
    return tuple(enrichment for enrichment in enrichments if enrichment.name in names)


def _etag(call: Call, live: LiveBatch) -> str:
    query = sorted((name, values) for name, values in call.request.query.items())
    identity = json.dumps([_FORM, live.provenance, call.request.path, query])
    return f'"{hashlib.sha256(identity.encode()).hexdigest()[:_ETAG_DIGITS]}"'


def _client_etags(call: Call) -> set[str]:
    """Return the ETags in the request's If-None-Match header."""
    values = ",".join(call.request.headers.get("if-none-match", ()))
    return {value.strip().removeprefix("W/") for value in values.split(",")}


def _note_expiry(call: Call, found: Iterable[StoredPrediction]) -> None:
    now = time.time()
    if any(stored.expires_at <= now for stored in found):
        # Items of a live batch should not expire. This one is still correct, so it is served and reported.
        call.log.notes["fault"] = "live_item_expired"


def _note_outcomes(call: Call, outcomes: Mapping[str, EnrichmentOutcome]) -> None:
    statuses = [outcome.status for outcome in outcomes.values()]
    call.log.notes.update(
        stale_enrichments=statuses.count("stale"), unavailable_enrichments=statuses.count("unavailable")
    )
    failed = {name: outcome.reason for name, outcome in outcomes.items() if outcome.reason}
    if failed:
        call.log.notes["enrichment"] = failed


def _requested(body: bytes) -> tuple[list[str], tuple[str, ...] | None]:
    """Return the entities and fields that the body asks for.

    Raises:
        ProblemError: The body is malformed.
    """
    try:
        document: Any = parse_json(body)
    except InvalidJsonError as error:
        raise problems.ProblemError(problems.INVALID_BODY) from error
    if not isinstance(document, dict) or not set(document) <= {"entity_ids", "fields"}:
        raise problems.ProblemError(problems.INVALID_BODY)
    fields = document.get("fields")
    return (
        _texts(document.get("entity_ids"), MAX_ENTITIES),
        None if fields is None else tuple(dict.fromkeys(_texts(fields, MAX_FIELDS))),
    )


def _texts(values: object, most: int) -> list[str]:
    """Return a list of 1 to `most` texts that could be keys.

    Raises:
        ProblemError: It is not such a list.
    """
    if isinstance(values, list) and 1 <= len(values) <= most and all(map(_could_be_key, values)):
        return values
    raise problems.ProblemError(problems.INVALID_BODY)


def _could_be_key(value: object) -> bool:
    try:
        return isinstance(value, str) and 1 <= len(value.encode()) <= MAX_PARTITION_KEY_BYTES
    except UnicodeEncodeError:
        # A lone surrogate.
        return False
