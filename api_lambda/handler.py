"""The Lambda's entry point: `api_lambda.handler.handler`."""

from __future__ import annotations

import os
from functools import cache
from typing import Any

from api_lambda.application import Application, services_of
from api_lambda.settings import Settings


@cache
def _application() -> Application:
    settings = Settings.from_environment(os.environ)
    return Application(services_of(settings), settings.deployment.stage)


def handler(event: dict[str, Any], context: Any) -> dict[str, Any]:
    """Answer a load balancer's event.

    Args:
        event: A request, with single- or multi-value headers.
        context: Lambda's context, with the request id.

    Raises:
        SettingsError: The function's environment is incomplete; the load balancer answers 502.
    """
    # Lambda sets this variable anew for every request, with the function's own segment.
    return _application().answer(event, context.aws_request_id, os.environ.get("_X_AMZN_TRACE_ID"))
