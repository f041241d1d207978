"""Turns an event into an answer: finds the route, checks the token, answers, and logs one line."""

from __future__ import annotations

import re
import sys
import time
import traceback
from typing import TYPE_CHECKING, Any

from api_lambda import problems
from api_lambda.calls import Call, Services
from api_lambda.enrichment.enricher import Enricher
from api_lambda.enrichment.provider_secrets import ProviderSecret
from api_lambda.enrichment.providers import Provider
from api_lambda.http.http_connections import TRACE_ID, HttpConnections
from api_lambda.http.load_balancer import LoadBalancerRequest, Response
from api_lambda.request_log import RequestLog
from api_lambda.routes import Route, find_route
from api_lambda.store.item_reader import ItemReader, StoreRefusedError, StoreUnavailableError
from api_lambda.store.live_batch import BrokenPublicationError
from api_lambda.store.online_store import OnlineStore
from api_lambda.store.publications import Publications
from api_lambda.tokens.signing_keys import KeysUnavailableError, SigningKeys
from api_lambda.tokens.token_verifier import InvalidTokenError, TokenVerifier
from prediction_contract.limits import MAX_FUNCTION_REQUEST_BYTES, MAX_PARTITION_KEY_BYTES
from prediction_contract.stores.serving_record import LONGEST_QUERY

if TYPE_CHECKING:
    from collections.abc import Callable, Mapping

    from api_lambda.settings import Settings

# Their messages are our own and hold neither tokens nor values; messages of other errors may.
_LOGGED_ERRORS = (
    InvalidTokenError,
    StoreUnavailableError,
    StoreRefusedError,
    BrokenPublicationError,
    KeysUnavailableError,
)
_INTERNAL = 500
# For all store reads of a request. Together with fetching the issuer's keys and the enrichment budget it must
# fit into the function's timeout.
_STORE_SECONDS = 3.0
_FRAMES = 8
_TRACE_ID = re.compile("[A-Za-z]+=[A-Za-z0-9:-]{1,80}(?:;[A-Za-z]+=[A-Za-z0-9:-]{1,80}){0,7}")
# Three characters for each percent-encoded byte of the longest entity id, and the rest of the path.
LONGEST_PATH = 3 * MAX_PARTITION_KEY_BYTES + 128
LARGEST_HEADERS = 32_768


def services_of(settings: Settings) -> Services:
    """Return the services that the settings describe, without any network request."""
    connections = HttpConnections()
    tables = ItemReader(connections, settings)
    return Services(
        verifier=TokenVerifier(SigningKeys(connections, settings.jwks_url), settings),
        publications=Publications(tables, settings.deployment, pointer_seconds=settings.pointer_seconds),
        store=OnlineStore(tables, settings.deployment),
        enricher=Enricher(
            {
                origin: Provider(
                    connections,
                    origin,
                    secret=ProviderSecret(connections, settings, secret) if secret else None,
                )
                for origin, secret in settings.providers.items()
            },
            budget_seconds=settings.enrichment_seconds,
        ),
        public_documentation=settings.public_documentation,
    )


class Application:
    """Answers events.

    Args:
        services: The services that routes use.
        stage: The deployment's stage, for the log.
        write_line: Writes one log line per request; to standard output if None.
    """

    def __init__(
        self, services: Services, stage: str, write_line: Callable[[str], object] | None = None
    ) -> None:
        self._services = services
        self._stage = stage
        self._write_line = write_line or _print_line

    def answer(self, event: Any, request_id: str, trace_id: str | None = None) -> dict[str, Any]:
        """Return the answer to a load balancer's event. It never raises, whatever the request contains.

        Args:
            event: The event.
            request_id: Lambda's request id.
            trace_id: The X-Ray trace header for outgoing requests; None for the one in the event.
        """
        log = RequestLog()
        request = LoadBalancerRequest.from_event(event)
        trace_id = trace_id or "".join(request.headers.get("x-amzn-trace-id", ())[:1])
        if not _TRACE_ID.fullmatch(trace_id):
            # The client may have set the header.
            trace_id = ""
        TRACE_ID.set(trace_id)
        route: Route | None = None
        try:
            _require_limits(request)
            route, parts = find_route(request.path)
            response = self._answer_route(request, route, parts, log)
        except Exception as error:  # noqa: BLE001 -- the last boundary: one table decides what the client sees
            problem = problems.problem_of(error)
            log.notes.update({"problem": problem.kind, **_cause(error, problem)})
            response = problem.response(request_id)
        line = log.line(
            stage=self._stage,
            request_id=request_id,
            trace_id=trace_id,
            route=route.name if route else None,
            status=response.status,
        )
        self._write_line(f"{line}\n")
        return response.to_event(request, request_id)

    def _answer_route(
        self, request: LoadBalancerRequest, route: Route, parts: Mapping[str, str], log: RequestLog
    ) -> Response:
        answer = route.answer_to(request.method)
        services, until = self._services, time.monotonic() + _STORE_SECONDS
        caller = None
        if not (route.public or (route.documents and services.public_documentation)):
            with log.stage("token"):
                caller = services.verifier.verify(request.headers.get("authorization", ()))
        route.require_parameters(request.query)
        response = answer(Call(services, request, parts, caller, until, log))
        if not response.fits:
            raise problems.ProblemError(problems.ANSWER_TOO_LARGE)
        return response


def _require_limits(request: LoadBalancerRequest) -> None:
    """Refuse oversized requests before anything parses them.

    Raises:
        ProblemError: The request is too large.
    """
    if len(request.path) > LONGEST_PATH or _weight(request.query) > LONGEST_QUERY:
        raise problems.ProblemError(problems.ADDRESS_TOO_LONG)
    if _weight(request.headers) > LARGEST_HEADERS:
        raise problems.ProblemError(problems.HEADERS_TOO_LARGE)
    if len(request.body) > MAX_FUNCTION_REQUEST_BYTES:
        raise problems.ProblemError(problems.BODY_TOO_LARGE)


def _weight(texts: Mapping[str, tuple[str, ...]]) -> int:
    return sum(len(name) * len(values) + sum(map(len, values)) for name, values in texts.items())


def _print_line(line: str) -> None:
    # Lambda freezes the environment afterwards, which would delay or lose buffered output.
    sys.stdout.write(line)
    sys.stdout.flush()


def _cause(error: Exception, problem: problems.Problem) -> dict[str, Any]:
    """Return the error's members of the log line; its message only if that cannot hold data."""
    if isinstance(error, _LOGGED_ERRORS):
        return {"cause": str(error)}
    if problem.status < _INTERNAL or isinstance(error, problems.ProblemError):
        return {}
    frames = traceback.extract_tb(error.__traceback__)[-_FRAMES:]
    return {
        "cause": type(error).__name__,
        "frames": [f"{frame.filename.rpartition('/')[2]}:{frame.lineno}" for frame in frames],
    }
