"""The input of a route: the services, and one request with its parsed parts."""

from __future__ import annotations

import re
from collections.abc import Mapping
from dataclasses import dataclass
from typing import TYPE_CHECKING

from api_lambda import problems
from api_lambda.http.load_balancer import decode_part
from api_lambda.store.publications import ModelNotLiveError
from prediction_contract.errors import InvalidNameError
from prediction_contract.limits import MAX_PARTITION_KEY_BYTES
from prediction_contract.naming.batch import ModelName

if TYPE_CHECKING:
    from api_lambda.enrichment.enricher import Enricher
    from api_lambda.http.load_balancer import LoadBalancerRequest
    from api_lambda.request_log import RequestLog
    from api_lambda.store.live_batch import LiveBatch
    from api_lambda.store.online_store import OnlineStore
    from api_lambda.store.publications import Publications
    from api_lambda.tokens.token_verifier import Caller, TokenVerifier
    from prediction_contract.rows.schema import PredictionSchema

_NUMBER = re.compile("[1-9][0-9]{0,11}")
_MAX_NAMES = 200


@dataclass(frozen=True, slots=True)
class Services:
    """The services that routes use; made once per execution environment.

    Attributes:
        verifier: Checks tokens.
        publications: This region's publications.
        store: This region's predictions.
        enricher: Calls third parties.
        public_documentation: Whether `/openapi.json` and `/docs` are answered without a token.
    """

    verifier: TokenVerifier
    publications: Publications
    store: OnlineStore
    enricher: Enricher
    public_documentation: bool


@dataclass(frozen=True, slots=True)
class Call:
    """One request to a route.

    Attributes:
        services: The services.
        request: The request.
        parts: The path's parameters by name, still encoded.
        caller: Who asks; None on routes without a token.
        until: The deadline for reading the store, by `time.monotonic`.
        log: Collects the log line's values.
    """

    services: Services
    request: LoadBalancerRequest
    parts: Mapping[str, str]
    caller: Caller | None
    until: float
    log: RequestLog

    def model(self) -> str:
        """Return the model that the path names, if the caller may read it.

        Raises:
            ModelNotLiveError: The name is not a valid model name.
            InsufficientScopeError: The caller may read other models only.
        """
        try:
            model = ModelName(self.parts["model"])
        except InvalidNameError as error:
            # The client sees the same for an invalid name as for an unknown one.
            raise ModelNotLiveError from error
        if self.caller is not None:
            self.caller.require_access(model)
        return model

    def live(self, model: str) -> LiveBatch:
        """Return the live batch. Call it once per request, so that an answer never mixes two batches."""
        with self.log.stage("pointer"):
            live = self.services.publications.live(model, self.until)
        self.log.serves(live)
        return live

    def entity_id(self) -> str:
        """Return the entity in the path, or in the query if the route's path has none.

        Raises:
            ProblemError: The entity id is missing or invalid, or the query has several.
        """
        named = self.parts.get("entity_id")
        decoded = self.text("entity_id") if named is None else decode_part(named)
        if not decoded or len(decoded.encode()) > MAX_PARTITION_KEY_BYTES:
            raise problems.ProblemError(problems.INVALID_ENTITY)
        return decoded

    def names(self, parameter: str) -> tuple[str, ...] | None:
        """Return the unique names that a query parameter lists; None without the parameter.

        Names are separated by commas, or the parameter is repeated, as generated clients do.

        Raises:
            ProblemError: The parameter is empty, not UTF-8, or lists too many names.
        """
        values = self._values(parameter)
        if not values:
            return None
        names = tuple(dict.fromkeys(name for value in values for name in value.split(",")))
        if not all(names) or len(names) > _MAX_NAMES:
            raise problems.ProblemError(problems.INVALID_QUERY)
        return names

    def number(self, parameter: str, default: int, highest: int) -> int:
        """Return a query parameter as a whole number from 1 to `highest`.

        Raises:
            ProblemError: It is not such a number.
        """
        text = self.text(parameter)
        if text is None:
            return default
        if not _NUMBER.fullmatch(text) or int(text) > highest:
            raise problems.ProblemError(problems.INVALID_QUERY)
        return int(text)

    def text(self, parameter: str) -> str | None:
        """Return a query parameter's value; None without the parameter.

        Raises:
            ProblemError: The parameter is repeated, or not UTF-8.
        """
        values = self._values(parameter)
        if len(values) > 1:
            raise problems.ProblemError(problems.INVALID_QUERY)
        return values[0] if values else None

    def _values(self, parameter: str) -> list[str]:
        # In a query, unlike in a path, a plus sign means a space.
        values = self.request.query.get(parameter, ())
        decoded = [text for value in values if (text := decode_part(value.replace("+", " "))) is not None]
        if len(decoded) < len(values):
            raise problems.ProblemError(problems.INVALID_QUERY)
        return decoded


def require_columns(schema: PredictionSchema, names: tuple[str, ...] | None) -> tuple[str, ...] | None:
    """Return `names`, the columns to show; None means all.

    Raises:
        ProblemError: The schema lacks a column.
    """
    if names is not None and not set(names) <= set(schema.names):
        raise problems.ProblemError(problems.UNKNOWN_FIELD)
    return names
