"""From an event to an answer: route, token, answer or problem, and one line in the log."""

from __future__ import annotations

import json
import sys
import time
import traceback
from typing import TYPE_CHECKING, Any

from api_lambda import problems
from api_lambda.alb import Request, Response
from api_lambda.auth import InvalidTokenError, TokenVerifier
from api_lambda.dynamodb import DynamoDb, StoreRefusedError, StoreUnavailableError
from api_lambda.enrichment import Enricher
from api_lambda.http_connections import HttpConnections
from api_lambda.online_store import BrokenPublicationError, OnlineStore
from api_lambda.routes import Call, Route, Services, find_route
from api_lambda.signing_keys import KeysUnavailableError, SigningKeys

if TYPE_CHECKING:
    from collections.abc import Callable

    from api_lambda.settings import Settings

# Their texts are written here and hold neither tokens nor values; those of other errors may.
_TOLD = (
    InvalidTokenError,
    StoreUnavailableError,
    StoreRefusedError,
    BrokenPublicationError,
    KeysUnavailableError,
)
_INTERNAL = 500
# For all that a request asks of the store: with the issuer's keys and the enrichment budget it must fit into
# the function's timeout.
_STORE_SECONDS = 3.0
_FRAMES = 8
_LONGEST_TRACE_ID = 256


def services_of(settings: Settings) -> Services:
    """Return everything that routes work with, by the settings; nothing is asked over the network yet."""
    connections = HttpConnections()
    return Services(
        verifier=TokenVerifier(SigningKeys(connections, settings.jwks_url), settings),
        store=OnlineStore(
            DynamoDb(connections, settings), settings.deployment, pointer_seconds=settings.pointer_seconds
        ),
        enricher=Enricher(connections, settings.provider_origins, budget_seconds=settings.enrichment_seconds),
    )


class Application:
    """Answers events.

    Args:
        services: What routes work with.
        write_line: Where the log goes, one line a request; standard output if None.
    """

    def __init__(self, services: Services, write_line: Callable[[str], object] | None = None) -> None:
        self._services = services
        self._write_line = write_line or _print_line

    def answer(self, event: Any, request_id: str) -> dict[str, Any]:
        """Return the answer to a load balancer's event; never raises for what a request holds."""
        started = time.perf_counter()
        request = Request.from_event(event)
        found = find_route(request.path)
        call = Call(self._services, found[1] if found else {}, request_id, time.monotonic() + _STORE_SECONDS)
        if found is None:
            call.notes["problem"] = problems.UNKNOWN_ROUTE.kind
            response = problems.UNKNOWN_ROUTE.response(request_id)
        else:
            response = self._answer_route(request, found[0], call)
        line = {
            "level": "ERROR" if response.status >= _INTERNAL or "fault" in call.notes else "INFO",
            "request_id": request_id,
            "trace_id": "".join(request.headers.get("x-amzn-trace-id", ())[:1])[:_LONGEST_TRACE_ID],
            "route": found[0].name if found else None,
            "status": response.status,
            "milliseconds": round((time.perf_counter() - started) * 1000, 3),
            **call.notes,
        }
        self._write_line(f"{json.dumps(line)}\n")
        return response.to_event(request, request_id)

    def _answer_route(self, request: Request, route: Route, call: Call) -> Response:
        try:
            answer = route.answer_to(request.method)
            if not route.public:
                self._services.verifier.require_reader(request.headers.get("authorization", ()))
            return answer(call)
        except Exception as error:  # noqa: BLE001 -- the last boundary: one table decides what a client is told
            problem = problems.problem_of(error)
            call.notes.update({"problem": problem.kind, **_cause(error, problem)})
            return problem.response(call.request_id)


def _print_line(line: str) -> None:
    # Whatever is still in a buffer when the environment is frozen comes late, or never.
    sys.stdout.write(line)
    sys.stdout.flush()


def _cause(error: Exception, problem: problems.Problem) -> dict[str, Any]:
    """Return what the log says of an error: its own words only where they cannot hold data."""
    if isinstance(error, _TOLD):
        return {"cause": str(error)}
    if problem.status < _INTERNAL or isinstance(error, problems.ProblemError):
        return {}
    frames = traceback.extract_tb(error.__traceback__)[-_FRAMES:]
    return {
        "cause": type(error).__name__,
        "frames": [f"{frame.filename.rpartition('/')[2]}:{frame.lineno}" for frame in frames],
    }
