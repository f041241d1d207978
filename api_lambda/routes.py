"""The API's paths and the functions that answer them."""

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
    """A path and the functions that answer its methods.

    Attributes:
        name: The path with parameters in braces, as the log and the OpenAPI document show it.
        pattern: The pattern that the whole path must match; its groups are the call's parts.
        methods: The answering functions by HTTP method.
        parameters: The allowed query parameters.
        public: Whether it never needs a token.
        documents: Whether it serves the API's documentation, which the deployment may make public.
    """

    name: str
    pattern: re.Pattern[str]
    methods: Mapping[str, Callable[[Call], Response]]
    parameters: frozenset[str] = frozenset()
    public: bool = False
    documents: bool = False

    def answer_to(self, method: str) -> Callable[[Call], Response]:
        """Return the function that answers a method.

        Raises:
            ProblemError: The route does not have the method. The Allow header lists those that it has.
        """
        answer = self.methods.get(method)
        if answer is None:
            allowed = ", ".join(self.methods)
            raise problems.ProblemError(problems.METHOD_NOT_ALLOWED.with_header("Allow", allowed))
        return answer

    def require_parameters(self, names: Iterable[str]) -> None:
        """Refuse unknown query parameters, which would otherwise be ignored silently.

        Raises:
            ProblemError: A parameter is unknown to the route.
        """
        if not self.parameters.issuperset(names):
            raise problems.ProblemError(problems.INVALID_QUERY)


def find_route(path: str) -> tuple[Route, Mapping[str, str]]:
    """Return a path's route and its parts by name.

    Raises:
        ProblemError: No route matches.
    """
    for route in ROUTES:
        found = route.pattern.fullmatch(path)
        if found:
            return route, found.groupdict()
    raise problems.ProblemError(problems.UNKNOWN_ROUTE)


def _healthz(_call: Call) -> Response:
    """Answer the load balancer's health check without touching any store."""
    return Response(200, '{"status":"ok"}')


def _readyz(call: Call) -> Response:
    """Answer Route 53's health check: the region's pointers can be read. A late batch does not matter."""
    call.services.publications.require_ready(call.until)
    return Response(200, '{"status":"ready"}')


def _openapi(call: Call) -> Response:
    # Imported on demand, because it would slow every cold start.
    from api_lambda.documentation.openapi import openapi_answer  # noqa: PLC0415

    return openapi_answer(public_documentation=call.services.public_documentation)


def _docs(call: Call) -> Response:
    from api_lambda.documentation.documentation_page import page_answer  # noqa: PLC0415

    return page_answer(public_documentation=call.services.public_documentation)


def _pattern(name: str) -> re.Pattern[str]:
    # Entity ids may hold slashes, and some load balancers decode the path.
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


# The query can hold the entity ids `.` and `..`, which clients and proxies resolve in a path.
_BY_QUERY = "entity_id"
_PREDICTION = ("enrich", "fields")
_HISTORY = ("limit", "before", "fields")
# The first match wins.
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
