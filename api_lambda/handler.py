"""The Lambda's entry: `api_lambda.handler.handler`."""

from __future__ import annotations

import os
from functools import cache
from typing import Any

from api_lambda.application import Application, services_of
from api_lambda.settings import Settings


@cache
def _application() -> Application:
    return Application(services_of(Settings.from_environment(os.environ)))


def handler(event: dict[str, Any], context: Any) -> dict[str, Any]:
    """Answer a load balancer's event.

    Args:
        event: A request, in single- or multi-value mode.
        context: Lambda's; gives the request id.

    Raises:
        SettingsError: The function's environment is incomplete; the load balancer answers 502.
    """
    return _application().answer(event, context.aws_request_id)
