"""Which paths there are, and what answers them."""

from __future__ import annotations

import json
import re
import time
from collections.abc import Callable, Mapping
from dataclasses import dataclass, field
from typing import TYPE_CHECKING, Any

from api_lambda import problems
from api_lambda.alb import LARGEST_BODY, Response, decode_part
from api_lambda.online_store import UnknownModelError
from prediction_contract.errors import InvalidNameError
from prediction_contract.resource_names import require_model_name
from prediction_contract.row import KEY_BYTES

if TYPE_CHECKING:
    from api_lambda.auth import TokenVerifier
    from api_lambda.enrichment import Enricher
    from api_lambda.online_store import LiveBatch, OnlineStore

# Three characters for each byte of the longest entity id, and the rest of the path.
_LONGEST_PATH = 3 * KEY_BYTES + 128
_LONGEST_ESCAPE = len(r"\ud83d\udeeb")


@dataclass(frozen=True, slots=True)
class Services:
    """What routes work with; made once per execution environment."""

    verifier: TokenVerifier
    store: OnlineStore
    enricher: Enricher


@dataclass(frozen=True, slots=True)
class Call:
    """One request on its way through a route.

    Attributes:
        services: To work with.
        parts: What stands in the path where the route has a name, still encoded.
        request_id: Lambda's.
        until: The moment, by `time.monotonic`, at which the store has had its time.
        notes: For the log line; no token, no value of a row.
    """

    services: Services
    parts: Mapping[str, str]
    request_id: str
    until: float
    notes: dict[str, Any] = field(default_factory=dict)


@dataclass(frozen=True, slots=True)
class Route:
    """A path and what answers it, method by method.

    Attributes:
        name: The path with names in braces, as the log shows it.
        pattern: What the path must match as a whole; its groups are the call's parts.
        methods: By name.
        public: Whether it is answered without a token.
    """

    name: str
    pattern: re.Pattern[str]
    methods: Mapping[str, Callable[[Call], Response]]
    public: bool = False

    def answer_to(self, method: str) -> Callable[[Call], Response]:
        """Return what answers a method.

        Raises:
            ProblemError: Nothing does; the problem's header Allow says what would.
        """
        answer = self.methods.get(method)
        if answer is None:
            allowed = ", ".join(self.methods)
            raise problems.ProblemError(problems.METHOD_NOT_ALLOWED.with_header("Allow", allowed))
        return answer


def find_route(path: str) -> tuple[Route, Mapping[str, str]] | None:
    """Return the route of a path and the named parts, or None."""
    if len(path) > _LONGEST_PATH:
        return None
    for route in ROUTES:
        found = route.pattern.fullmatch(path)
        if found:
            return route, found.groupdict()
    return None


def healthz(_call: Call) -> Response:
    """Answer the load balancer: the function runs. What it depends on is no reason to take it out."""
    return Response(200, '{"status":"ok"}')


def get_prediction(call: Call) -> Response:
    """Answer with one entity's live prediction, its provenance and its enrichments."""
    model, entity_id = _model(call), _entity_id(call)
    live = call.services.store.live(model, call.until)
    call.notes["batch_id"] = live.batch_id
    stored = call.services.store.prediction(live, entity_id, call.until)
    if stored.expires_at <= time.time():
        # A live batch does not expire. The item is still there and right, so it is served, and reported.
        call.notes["fault"] = "live_item_expired"
    outcomes = call.services.enricher.enrich(live.serving.enrichments, stored.row)
    failed = {name: outcome.reason for name, outcome in outcomes.items() if outcome.reason}
    if failed:
        call.notes["enrichment"] = failed
    if any(
        each.required and outcomes[each.name].status == "unavailable" for each in live.serving.enrichments
    ):
        raise problems.ProblemError(problems.ENRICHMENT_UNAVAILABLE)
    enrichment = ",".join(f'"{name}":{outcome.to_json()}' for name, outcome in outcomes.items())
    body = (
        f'{{"model":{json.dumps(live.model)},"entity_id":{json.dumps(entity_id, ensure_ascii=False)},'
        f'"prediction":{live.items.render_json(stored.row)},'
        f'"provenance":{_provenance(live, call.request_id)},"enrichment":{{{enrichment}}}}}'
    )
    # The load balancer's limit is on the event, in which quotes and what is not ASCII are escaped, and what
    # lies beyond the basic plane twice.
    if len(body) * _LONGEST_ESCAPE > LARGEST_BODY and len(json.dumps(body)) > LARGEST_BODY:
        raise problems.ProblemError(problems.ANSWER_TOO_LARGE)
    return Response(200, body)


def _model(call: Call) -> str:
    try:
        return require_model_name(call.parts["model"])
    except InvalidNameError as error:
        # A name that no model can have is as unknown as one that none has.
        raise UnknownModelError from error


def _entity_id(call: Call) -> str:
    decoded = decode_part(call.parts["entity_id"])
    if not decoded or len(decoded.encode()) > KEY_BYTES:
        raise problems.ProblemError(problems.INVALID_ENTITY)
    return decoded


def _provenance(live: LiveBatch, request_id: str) -> str:
    return json.dumps(
        {
            "batch_id": live.batch_id,
            "partition": live.partition,
            "model_version": live.serving.model_version,
            "published_at": live.published_at,
            "sequence": live.sequence,
            "request_id": request_id,
        },
        ensure_ascii=False,
        separators=(",", ":"),
    )


def _route(name: str, answer: Callable[[Call], Response], *, public: bool = False, last: str = "") -> Route:
    pattern = re.sub(
        "{([a-z_]+)}", lambda found: f"(?P<{found[1]}>{'.+' if found[1] == last else '[^/]+'})", name
    )
    return Route(name, re.compile(pattern, re.DOTALL), {"GET": answer, "HEAD": answer}, public)


ROUTES = (
    _route("/healthz", healthz, public=True),
    # An entity id may hold slashes, and some load balancers hand the path on decoded.
    _route("/v1/models/{model}/predictions/{entity_id}", get_prediction, last="entity_id"),
)
