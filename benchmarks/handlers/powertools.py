"""The lookup with Powertools' resolver for load balancers."""

from __future__ import annotations

from typing import Any

from aws_lambda_powertools import Logger
from aws_lambda_powertools.event_handler import ALBResolver
from aws_lambda_powertools.event_handler.exceptions import NotFoundError

from benchmarks.handlers.boto3_lookup import prediction, predictions, require_reader

_app = ALBResolver()
_log = Logger(service="benchmark")


@_app.get("/v1/models/<model>/predictions/<entity_id>")
def get_prediction(model: str, entity_id: str) -> dict[str, Any]:
    """Answer with one prediction."""
    require_reader(_app.current_event.headers["authorization"])
    found = prediction(model, entity_id)
    if found is None:
        raise NotFoundError
    return {"model": model, "prediction": found}


@_app.post("/v1/models/<model>/predictions:batchGet")
def batch_get(model: str) -> dict[str, Any]:
    """Answer with many predictions."""
    require_reader(_app.current_event.headers["authorization"])
    return {"model": model, "predictions": predictions(model, _app.current_event.json_body["entity_ids"])}


def handler(event: dict[str, Any], context: Any) -> dict[str, Any]:
    """Answer an event."""
    answer = _app.resolve(event, context)
    _log.info("answered", status=answer["statusCode"], request_id=context.aws_request_id)
    return answer
