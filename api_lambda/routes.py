"""Which paths there are, and what answers them."""

from __future__ import annotations

import re
from collections.abc import Callable, Iterable, Mapping
from dataclasses import dataclass
from typing import TYPE_CHECKING

from api_lambda import history, models, predictions, problems
from api_lambda.http.load_balancer import Response

if TYPE_CHECKING:
    from api_lambda.calls import Call


@dataclass(frozen=True, slots=True)
class Route:
    """A path and what answers it, method by method.

    Attributes:
        name: The path with names in braces, as the log and the OpenAPI document show it.
        pattern: What the path must match as a whole; its groups are the call's parts.
        methods: By name.
        parameters: What its query may hold.
        public: Whether it is always answered without a token.
        documents: Whether it describes the API: answered without a token if the deployment says so.
    """

    name: str
    pattern: re.Pattern[str]
    methods: Mapping[str, Callable[[Call], Response]]
    parameters: frozenset[str] = frozenset()
    public: bool = False
    documents: bool = False

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

    def require_parameters(self, names: Iterable[str]) -> None:
        """Refuse a query that would be answered as if part of it had not been asked.

        Raises:
            ProblemError: The route knows no parameter of one of the names.
        """
        if not self.parameters.issuperset(names):
            raise problems.ProblemError(problems.INVALID_QUERY)


def find_route(path: str) -> tuple[Route, Mapping[str, str]]:
    """Return the route of a path and the named parts.

    Raises:
        ProblemError: There is none.
    """
    for route in ROUTES:
        found = route.pattern.fullmatch(path)
        if found:
            return route, found.groupdict()
    raise problems.ProblemError(problems.UNKNOWN_ROUTE)


def _healthz(_call: Call) -> Response:
    """Answer the load balancer: the function runs, whatever becomes of the stores that it depends on."""
    return Response(200, '{"status":"ok"}')


def _readyz(call: Call) -> Response:
    """Answer Route 53: the region's store answers and its pointers can be read; a late batch is no fault."""
    call.services.publications.require_ready(call.until)
    return Response(200, '{"status":"ready"}')


def _openapi(call: Call) -> Response:
    # Few cold starts are asked for documentation, so the others do not import it.
    from api_lambda.documentation.openapi import openapi_answer  # noqa: PLC0415

    return openapi_answer(public_documentation=call.services.public_documentation)


def _docs(call: Call) -> Response:
    from api_lambda.documentation.documentation_page import page_answer  # noqa: PLC0415

    return page_answer(public_documentation=call.services.public_documentation)


def _pattern(name: str) -> re.Pattern[str]:
    # An entity id may hold slashes, and some load balancers hand the path on decoded.
    kinds = {"model": "[^/]+", "entity_id": ".+"}
    pieces = re.split("{([a-z_]+)}", name)
    texts = (
        f"(?P<{piece}>{kinds[piece]})" if place % 2 else re.escape(piece)
        for place, piece in enumerate(pieces)
    )
    return re.compile("".join(texts), re.DOTALL)


def _get(
    name: str,
    answer: Callable[[Call], Response],
    *parameters: str,
    public: bool = False,
    documents: bool = False,
) -> Route:
    methods = {"GET": answer, "HEAD": answer}
    return Route(name, _pattern(name), methods, frozenset(parameters), public, documents)


def _post(name: str, answer: Callable[[Call], Response]) -> Route:
    return Route(name, _pattern(name), {"POST": answer})


# The entity ids `.` and `..` cannot stand in a path, because clients and proxies resolve them.
_BY_QUERY = "entity_id"
_PREDICTION = ("enrich", "fields")
_HISTORY = ("limit", "before", "fields")
# The first that fits counts.
ROUTES = (
    _get("/healthz", _healthz, public=True),
    _get("/readyz", _readyz, public=True),
    _get("/openapi.json", _openapi, documents=True),
    _get("/docs", _docs, documents=True),
    _get("/v1/models", models.list_models, "limit", "after"),
    _get("/v1/models/{model}", models.get_model),
    _post("/v1/models/{model}/predictions:batchGet", predictions.batch_get),
    _get("/v1/models/{model}/predictions", predictions.get_prediction, _BY_QUERY, *_PREDICTION),
    _get("/v1/models/{model}/history", history.get_history, _BY_QUERY, *_HISTORY),
    _get("/v1/models/{model}/predictions/{entity_id}/history", history.get_history, *_HISTORY),
    _get("/v1/models/{model}/predictions/{entity_id}", predictions.get_prediction, *_PREDICTION),
)
