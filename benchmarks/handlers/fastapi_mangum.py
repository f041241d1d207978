"""The lookup with FastAPI, called through Mangum."""

# FastAPI evaluates the annotations of its routes at import time.
import json
import sys
from typing import Annotated, Any

from fastapi import FastAPI, Header, HTTPException
from mangum import Mangum
from pydantic import BaseModel

from benchmarks.handlers.boto3_lookup import prediction, predictions, require_reader

_app = FastAPI()
_mangum = Mangum(_app, lifespan="off")


class BatchGetBody(BaseModel):
    """The body of a batch."""

    entity_ids: list[str]


@_app.get("/v1/models/{model}/predictions/{entity_id}")
def get_prediction(model: str, entity_id: str, authorization: Annotated[str, Header()]) -> dict[str, Any]:
    """Answer with one prediction."""
    require_reader(authorization)
    found = prediction(model, entity_id)
    if found is None:
        raise HTTPException(404)
    return {"model": model, "prediction": found}


@_app.post("/v1/models/{model}/predictions:batchGet")
def batch_get(model: str, body: BatchGetBody, authorization: Annotated[str, Header()]) -> dict[str, Any]:
    """Answer with many predictions."""
    require_reader(authorization)
    return {"model": model, "predictions": predictions(model, body.entity_ids)}


def handler(event: dict[str, Any], context: Any) -> dict[str, Any]:
    """Answer an event."""
    answer = _mangum(event, context)
    sys.stdout.write(
        f"{json.dumps({'status': answer['statusCode'], 'request_id': context.aws_request_id})}\n"
    )
    return answer
