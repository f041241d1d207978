"""The API as an OpenAPI 3.1 document; tests compare it with the routes and their answers."""

from __future__ import annotations

import json
from functools import cache
from typing import Any

from api_lambda import problems
from api_lambda.documentation.openapi_schemas import ENTITY_ID, MODEL_NAME, NAME, TEXT, schemas
from api_lambda.history import DEFAULT_PAGE, LONGEST_PAGE
from api_lambda.http.load_balancer import Response
from api_lambda.predictions import MAX_FIELDS
from api_lambda.store.registry_reader import MAX_MODELS
from prediction_contract.limits import MAX_BATCH_READS
from prediction_contract.registry.records import HIGHEST_SEQUENCE

_JSON = "application/json"


@cache
def openapi_answer(*, public_documentation: bool) -> Response:
    """Answer with the document as JSON."""
    return Response(200, json.dumps(openapi_document(public_documentation=public_documentation)))


def openapi_document(*, public_documentation: bool) -> dict[str, Any]:
    """Return the document.

    Args:
        public_documentation: Whether the documentation routes need no token.
    """
    return {
        "openapi": "3.1.0",
        "info": {
            "title": "mlpipe predictions",
            "version": "1",
            "description": (
                "Live predictions of models that are scored in batches. A batch is published as a whole, and "
                "an answer never mixes two batches. Numbers have all their digits: parse them as decimals, "
                "not as binary floats. An answer without enrichment has an ETag for If-None-Match."
            ),
        },
        "security": [{"token": []}],
        "paths": {**_own_paths(public_documentation), **_model_paths(), **_prediction_paths()},
        "components": {
            "securitySchemes": {
                "token": {
                    "type": "http",
                    "scheme": "bearer",
                    "bearerFormat": "JWT",
                    "description": "An RS256 access token with the scope predictions:read, for all models, "
                    "or predictions:read:<model>, for one.",
                }
            },
            "schemas": schemas(),
            "responses": {"Problem": _problem("Any other problem, for example one of the load balancer's.")},
        },
    }


def _own_paths(public_documentation: bool) -> dict[str, Any]:
    return {
        "/healthz": {
            "get": _operation("healthz", "Whether the function runs", {"200": _ok("Status")}, public=True)
        },
        "/readyz": {
            "get": _operation(
                "readyz",
                "Whether the region can serve",
                {"200": _ok("Status"), **_refusals(problems.STORE_UNAVAILABLE)},
                public=True,
            )
        },
        "/openapi.json": {
            "get": _operation(
                "openapi",
                "This document",
                {"200": _content("The document", _JSON, {"type": "object"})},
                public=public_documentation,
            )
        },
        "/docs": {
            "get": _operation(
                "docs",
                "This document for people",
                {"200": _content("A page", "text/html", TEXT)},
                public=public_documentation,
            )
        },
    }


def _model_paths() -> dict[str, Any]:
    return {
        "/v1/models": {
            "get": _operation(
                "listModels",
                "Models with live batches, by name",
                {"200": _ok("Models"), **_STORE},
                parameters=[
                    _limit("How many models to examine", MAX_MODELS, MAX_MODELS),
                    _query("after", "The previous page's next_after", MODEL_NAME),
                ],
            )
        },
        "/v1/models/{model}": {
            "parameters": [_path("model", MODEL_NAME)],
            "get": _operation(
                "getModel",
                "A model's live batch",
                {"200": _ok("Model"), **_STORE, **_refusals(problems.UNKNOWN_MODEL)},
            ),
        },
    }


def _prediction_paths() -> dict[str, Any]:
    model, entity = _path("model", MODEL_NAME), _path("entity_id", ENTITY_ID)
    by_query = {
        **_query("entity_id", "The entity id; unlike in a path, it may be . or ..", ENTITY_ID),
        "required": True,
    }
    fields = _query(
        "fields",
        "Columns to show; by default all",
        {"type": "array", "items": NAME, "minItems": 1, "maxItems": MAX_FIELDS},
    )
    point = "/v1/models/{model}/predictions/{entity_id}"
    bad_query = _refusals(problems.INVALID_QUERY)
    unknown = _refusals(problems.UNKNOWN_ENTITY)

    def prediction(name: str, *own: dict[str, Any]) -> dict[str, Any]:
        return {
            "get": _operation(
                name,
                "An entity's live prediction",
                {
                    "200": {
                        **_ok("Prediction"),
                        "headers": {"ETag": {"schema": TEXT, "description": "Only without enrichment"}},
                    },
                    "304": {
                        "description": "If-None-Match names the current ETag, or is * and a prediction exists"
                    },
                    **_STORE,
                    **bad_query,
                    **unknown,
                },
                parameters=[
                    *own,
                    _query(
                        "enrich",
                        "Enrichments to add: all (the default), none, or their names",
                        {"type": "array", "items": NAME, "minItems": 1, "maxItems": MAX_FIELDS},
                    ),
                    fields,
                    {"name": "If-None-Match", "in": "header", "schema": TEXT},
                ],
            ),
        }

    def history(name: str, *own: dict[str, Any]) -> dict[str, Any]:
        return {
            "get": _operation(
                name,
                "An entity's prediction in each publication, newest first",
                {
                    "200": _ok("History"),
                    **_STORE,
                    **bad_query,
                    **_refusals(problems.UNKNOWN_MODEL),
                },
                parameters=[
                    *own,
                    _limit("How many publications to examine", LONGEST_PAGE, DEFAULT_PAGE),
                    _query(
                        "before",
                        "The previous page's next_before",
                        {"type": "integer", "minimum": 1, "maximum": HIGHEST_SEQUENCE},
                    ),
                    fields,
                ],
            ),
        }

    return {
        point: {"parameters": [model, entity], **prediction("getPrediction")},
        "/v1/models/{model}/predictions": {
            "parameters": [model],
            **prediction("getPredictionByQuery", by_query),
        },
        "/v1/models/{model}/predictions:batchGet": {
            "parameters": [model],
            "post": {
                **_operation(
                    "batchGetPredictions",
                    f"The live predictions of up to {MAX_BATCH_READS} entities, "
                    "of one batch, in the order requested",
                    {
                        "200": _ok("Predictions"),
                        **_STORE,
                        **_refusals(problems.INVALID_BODY, problems.UNKNOWN_MODEL, problems.BODY_TOO_LARGE),
                    },
                ),
                "requestBody": {
                    "required": True,
                    "content": {_JSON: {"schema": {"$ref": "#/components/schemas/BatchGet"}}},
                },
            },
        },
        f"{point}/history": {"parameters": [model, entity], **history("getHistory")},
        "/v1/models/{model}/history": {"parameters": [model], **history("getHistoryByQuery", by_query)},
    }


def _path(name: str, schema: dict[str, Any]) -> dict[str, Any]:
    return {"name": name, "in": "path", "required": True, "schema": schema}


def _query(name: str, description: str, schema: dict[str, Any]) -> dict[str, Any]:
    # Lists are comma-separated; the API accepts repeated parameters too.
    lists = {"style": "form", "explode": False} if schema.get("type") == "array" else {}
    return {"name": name, "in": "query", "description": description, "schema": schema, **lists}


def _limit(description: str, highest: int, default: int) -> dict[str, Any]:
    schema = {"type": "integer", "minimum": 1, "maximum": highest, "default": default}
    return _query("limit", description, schema)


def _content(description: str, kind: str, schema: dict[str, Any]) -> dict[str, Any]:
    return {"description": description, "content": {kind: {"schema": schema}}}


def _ok(schema: str) -> dict[str, Any]:
    return _content(schema, _JSON, {"$ref": f"#/components/schemas/{schema}"})


def _problem(description: str) -> dict[str, Any]:
    return _content(description, problems.CONTENT_TYPE, {"$ref": "#/components/schemas/Problem"})


def _refusals(*kinds: problems.Problem) -> dict[str, Any]:
    return {str(kind.status): _problem(kind.title) for kind in kinds}


_STORE = _refusals(problems.STORE_UNAVAILABLE)
_TOKEN = _refusals(problems.MISSING_TOKEN, problems.INSUFFICIENT_SCOPE)
_ANY = _refusals(
    problems.INVALID_QUERY, problems.ADDRESS_TOO_LONG, problems.HEADERS_TOO_LARGE, problems.INTERNAL_FAULT
)


def _operation(
    name: str,
    summary: str,
    responses: dict[str, Any],
    *,
    parameters: list[dict[str, Any]] | None = None,
    public: bool = False,
) -> dict[str, Any]:
    operation: dict[str, Any] = {"operationId": name, "summary": summary}
    if parameters:
        operation["parameters"] = parameters
    if public:
        operation["security"] = []
    refusals = {**_ANY, **({} if public else _TOKEN)}
    operation["responses"] = {
        **responses,
        **{status: refusal for status, refusal in refusals.items() if status not in responses},
        "default": {"$ref": "#/components/responses/Problem"},
    }
    return operation
