"""The route of an entity's history: its prediction in each publication, newest first."""

from __future__ import annotations

import time
from json.encoder import encode_basestring
from typing import TYPE_CHECKING

from api_lambda.calls import require_columns
from api_lambda.http.load_balancer import Response, longest_fitting_page
from prediction_contract.registry.records import HIGHEST_SEQUENCE

if TYPE_CHECKING:
    from api_lambda.calls import Call
    from api_lambda.store.live_batch import LiveBatch
    from prediction_contract.stores.online_item import StoredPrediction

DEFAULT_PAGE = 20
LONGEST_PAGE = 50


def get_history(call: Call) -> Response:
    """Answer with one page of the entity's predictions, from the live publication backwards.

    Batches that were loaded and never published are not shown.
    """
    model, entity_id = call.model(), call.entity_id()
    limit = call.number("limit", DEFAULT_PAGE, LONGEST_PAGE)
    before = call.number("before", HIGHEST_SEQUENCE, HIGHEST_SEQUENCE)
    names = call.names("fields")
    live = call.live(model)
    require_columns(live.serving.schema, names)
    publications, store = call.services.publications, call.services.store
    with call.log.stage("publications"):
        published, following = publications.published(live, before=before, most=limit, until=call.until)
    with call.log.stage("items"):
        found = store.predictions_of(published, entity_id, call.until)
    now = time.time()
    entries = []
    for batch in published:
        stored = found.get(batch.batch_id)
        # A superseded batch's items expire; DynamoDB may take days to remove them.
        kept = stored if stored is not None and stored.expires_at > now else None
        entries.append(f'{{"provenance":{batch.provenance},{_value(batch, kept, names)}}}')

    def page(count: int) -> Response:
        before = published[count - 1].sequence if count < len(published) else following
        more = f',"next_before":{before}' if before is not None else ""
        return Response(
            200,
            f'{{"model":{encode_basestring(model)},"entity_id":{encode_basestring(entity_id)},'
            f'"history":[{",".join(entries[:count])}]{more}}}',
        )

    return longest_fitting_page(len(published), page)


def _value(batch: LiveBatch, stored: StoredPrediction | None, names: tuple[str, ...] | None) -> str:
    if stored is None:
        return '"found":false'
    # An earlier batch may lack a column that the live one has.
    shown = None if names is None else tuple(name for name in names if name in batch.serving.schema.names)
    return f'"found":true,"prediction":{batch.items.render_json(stored.row, shown)}'
