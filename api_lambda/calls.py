"""What a route works with: the services, and one request with its parsed parts."""

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
    """What routes work with; made once per execution environment.

    Attributes:
        verifier: Judges tokens.
        publications: Of this region.
        store: The same region's predictions.
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
        services: To work with.
        request: As it came.
        parts: What stands in the path where the route has a name, still encoded.
        caller: Who asks; None on routes without a token.
        until: The moment, by `time.monotonic`, until which the store may take.
        log: Collects what the log line says of the request.
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
            ModelNotLiveError: No model can have the name.
            InsufficientScopeError: The caller may read other models only.
        """
        try:
            model = ModelName(self.parts["model"])
        except InvalidNameError as error:
            # A name that no model can have is as unknown as one that none has.
            raise ModelNotLiveError from error
        if self.caller is not None:
            self.caller.require_access(model)
        return model

    def live(self, model: str) -> LiveBatch:
        """Return the live batch; called once per request, because an answer never mixes two batches."""
        with self.log.stage("pointer"):
            live = self.services.publications.live(model, self.until)
        self.log.serves(live)
        return live

    def entity_id(self) -> str:
        """Return the entity that the path names, or the query where the path has no place for it.

        Raises:
            ProblemError: It is no entity id, or the query names several.
        """
        named = self.parts.get("entity_id")
        decoded = self.text("entity_id") if named is None else decode_part(named)
        if not decoded or len(decoded.encode()) > MAX_PARTITION_KEY_BYTES:
            raise problems.ProblemError(problems.INVALID_ENTITY)
        return decoded

    def names(self, parameter: str) -> tuple[str, ...] | None:
        """Return the names that a query parameter lists, each once; None without the parameter.

        They are separated by commas, or the parameter is repeated, as generated clients do.

        Raises:
            ProblemError: It is empty, no UTF-8, or lists too many.
        """
        values = self._values(parameter)
        if not values:
            return None
        names = tuple(dict.fromkeys(name for value in values for name in value.split(",")))
        if not all(names) or len(names) > _MAX_NAMES:
            raise problems.ProblemError(problems.INVALID_QUERY)
        return names

    def number(self, parameter: str, default: int, highest: int) -> int:
        """Return a query parameter's number, 1 or more.

        Raises:
            ProblemError: It is none, or higher than the highest.
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
            ProblemError: It is there twice, or no UTF-8.
        """
        values = self._values(parameter)
        if len(values) > 1:
            raise problems.ProblemError(problems.INVALID_QUERY)
        return values[0] if values else None

    def _values(self, parameter: str) -> list[str]:
        # In a query, unlike in a path, a plus sign stands for a space.
        values = self.request.query.get(parameter, ())
        decoded = [text for value in values if (text := decode_part(value.replace("+", " "))) is not None]
        if len(decoded) < len(values):
            raise problems.ProblemError(problems.INVALID_QUERY)
        return decoded


def require_columns(schema: PredictionSchema, names: tuple[str, ...] | None) -> tuple[str, ...] | None:
    """Return the names of columns to show; None for all.

    Raises:
        ProblemError: The schema has no such column.
    """
    if names is not None and not set(names) <= set(schema.names):
        raise problems.ProblemError(problems.UNKNOWN_FIELD)
    return names
