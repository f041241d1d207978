"""Errors as RFC 9457 problem documents: one table from exceptions to the problems that clients see.

Types are stable. Titles and details are fixed texts, so a problem never repeats content of the request.
"""

from __future__ import annotations

import json
from dataclasses import dataclass, field, replace
from typing import TYPE_CHECKING

from api_lambda.http.load_balancer import Response
from api_lambda.store.item_reader import StoreRefusedError, StoreUnavailableError
from api_lambda.store.live_batch import BrokenPublicationError
from api_lambda.store.online_store import UnknownEntityError
from api_lambda.store.pointer_resolver import PublicationNotReplicatedError
from api_lambda.store.publications import ModelNotLiveError
from api_lambda.tokens.signing_keys import KeysUnavailableError
from api_lambda.tokens.token_verifier import InsufficientScopeError, InvalidTokenError, MissingTokenError
from prediction_contract.limits import MAX_BATCH_READS, MAX_PARTITION_KEY_BYTES
from prediction_contract.stores.online_item import DamagedItemError

if TYPE_CHECKING:
    from collections.abc import Mapping

CONTENT_TYPE = "application/problem+json"
TYPE_PREFIX = "urn:mlpipe:problem:"
_RETRY = {"Retry-After": "1"}
_CHALLENGE = 'Bearer realm="mlpipe"'


@dataclass(frozen=True, slots=True)
class Problem:
    """One kind of problem: the last part of its type, its status, title, detail and headers."""

    kind: str
    status: int
    title: str
    detail: str
    headers: Mapping[str, str] = field(default_factory=dict)

    def with_header(self, name: str, value: str) -> Problem:
        """Return the problem with one more header."""
        return replace(self, headers={**self.headers, name: value})

    def response(self, request_id: str) -> Response:
        """Return the answer."""
        document = {
            "type": f"{TYPE_PREFIX}{self.kind}",
            "title": self.title,
            "status": self.status,
            "detail": self.detail,
            "instance": f"urn:mlpipe:request:{request_id}",
        }
        return Response(self.status, json.dumps(document), CONTENT_TYPE, self.headers)


class ProblemError(Exception):
    """A request that a route cannot answer, with the problem to show."""

    def __init__(self, problem: Problem) -> None:
        self.problem = problem
        super().__init__(problem.kind)


UNKNOWN_ROUTE = Problem(
    "unknown-route", 404, "There is nothing here", "See the documentation for the routes."
)
METHOD_NOT_ALLOWED = Problem(
    "method-not-allowed",
    405,
    "The method is not allowed",
    "The Allow header lists the methods of this route.",
)
UNKNOWN_MODEL = Problem(
    "unknown-model", 404, "Nothing is live", "No model of this name has published predictions."
)
UNKNOWN_ENTITY = Problem(
    "unknown-entity", 404, "No prediction", "The live batch has no prediction for this entity."
)
INVALID_ENTITY = Problem(
    "invalid-entity-id",
    400,
    "The entity id is not valid",
    f"An entity id is 1 to {MAX_PARTITION_KEY_BYTES} bytes of UTF-8, percent-encoded once.",
)
ENRICHMENT_UNAVAILABLE = Problem(
    "enrichment-unavailable",
    503,
    "A required enrichment is unavailable",
    "A third party that this model requires does not answer. Ask again.",
    _RETRY,
)
ANSWER_TOO_LARGE = Problem(
    "answer-too-large",
    400,
    "The answer is too large",
    "The limit is 1 MB. Ask for fewer entities, a shorter page, or fewer fields.",
)
INVALID_QUERY = Problem(
    "invalid-query",
    400,
    "The query is not valid",
    "A parameter is unknown, repeated, empty, not a number, or out of range.",
)
UNKNOWN_FIELD = Problem(
    "unknown-field", 400, "There is no such field", "The model's route lists the columns of its predictions."
)
UNKNOWN_ENRICHMENT = Problem(
    "unknown-enrichment",
    400,
    "There is no such enrichment",
    "The model's route lists its enrichments. The single values none and all are valid too.",
)
INVALID_BODY = Problem(
    "invalid-body",
    400,
    "The body is not valid",
    f"Send a JSON object with entity_ids, a list of 1 to {MAX_BATCH_READS} texts of 1 to "
    f"{MAX_PARTITION_KEY_BYTES} bytes, and optionally fields.",
)
ADDRESS_TOO_LONG = Problem(
    "address-too-long",
    414,
    "The address is too long",
    "See the documentation for the limits of path and query.",
)
HEADERS_TOO_LARGE = Problem(
    "headers-too-large", 431, "The headers are too large", "The limit is 32 kB for all headers together."
)
BODY_TOO_LARGE = Problem("body-too-large", 413, "The body is too large", "The limit is 1 MB.")
INTERNAL_FAULT = Problem(
    "internal-fault",
    500,
    "Internal error",
    "The service's log holds the cause under the request id.",
)
MISSING_TOKEN = Problem(
    "missing-token",
    401,
    "A token is needed",
    "Send a bearer token in one Authorization header.",
    {"WWW-Authenticate": _CHALLENGE},
)
INVALID_TOKEN = Problem(
    "invalid-token",
    401,
    "The token is not valid",
    "Obtain a new token from the issuer for a client that may use this service.",
    {"WWW-Authenticate": f'{_CHALLENGE}, error="invalid_token"'},
)
INSUFFICIENT_SCOPE = Problem(
    "insufficient-scope",
    403,
    "The token does not allow this",
    "Obtain a token with the scope to read predictions.",
    {"WWW-Authenticate": f'{_CHALLENGE}, error="insufficient_scope"'},
)
STORE_UNAVAILABLE = Problem(
    "store-unavailable",
    503,
    "The store does not answer",
    "The prediction could not be read. Ask again.",
    _RETRY,
)
PUBLICATION_NOT_REPLICATED = Problem(
    "publication-not-replicated",
    503,
    "The publication has not arrived here",
    "The record of the live batch has not been replicated to this region yet. Ask again.",
    _RETRY,
)
KEYS_UNAVAILABLE = Problem(
    "keys-unavailable",
    503,
    "Tokens cannot be checked",
    "The issuer's keys cannot be fetched. Ask again.",
    _RETRY,
)

PROBLEM_OF: Mapping[type[Exception], Problem] = {
    MissingTokenError: MISSING_TOKEN,
    InvalidTokenError: INVALID_TOKEN,
    InsufficientScopeError: INSUFFICIENT_SCOPE,
    KeysUnavailableError: KEYS_UNAVAILABLE,
    ModelNotLiveError: UNKNOWN_MODEL,
    UnknownEntityError: UNKNOWN_ENTITY,
    StoreUnavailableError: STORE_UNAVAILABLE,
    StoreRefusedError: INTERNAL_FAULT,
    PublicationNotReplicatedError: PUBLICATION_NOT_REPLICATED,
    BrokenPublicationError: INTERNAL_FAULT,
    DamagedItemError: INTERNAL_FAULT,
}


def problem_of(error: Exception) -> Problem:
    """Return the problem to show for an error; `INTERNAL_FAULT` if the table has no entry for it."""
    if isinstance(error, ProblemError):
        return error.problem
    return PROBLEM_OF.get(type(error), INTERNAL_FAULT)
