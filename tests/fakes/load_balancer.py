"""A WSGI application that turns requests into load balancer events and answers into responses."""

from __future__ import annotations

import base64
import json
from typing import TYPE_CHECKING, Any
from urllib.parse import quote

from prediction_contract.limits import MAX_FUNCTION_ANSWER_BYTES

if TYPE_CHECKING:
    from collections.abc import Callable, Iterable

    from api_lambda.application import Application


class LoadBalancer:
    """Passes requests to an application like AWS's load balancer in multi-value mode.

    Path and query arrive encoded; a body that is not text arrives in base64.
    """

    def __init__(self, application: Application) -> None:
        self._application = application

    def __call__(self, environ: dict[str, Any], start_response: Callable[..., Any]) -> Iterable[bytes]:
        """Answer a WSGI request."""
        answer = self._application.answer(self._event(environ), "request-1")
        assert len(json.dumps(answer)) <= MAX_FUNCTION_ANSWER_BYTES
        headers = [(name, value) for name, values in answer["multiValueHeaders"].items() for value in values]
        body = answer["body"].encode()
        start_response(answer["statusDescription"], [*headers, ("Content-Length", str(len(body)))])
        return [body]

    def _event(self, environ: dict[str, Any]) -> dict[str, Any]:
        query: dict[str, list[str]] = {}
        for pair in filter(None, environ.get("QUERY_STRING", "").split("&")):
            name, _, value = pair.partition("=")
            query.setdefault(name, []).append(value)
        headers = {
            name[5:].replace("_", "-").lower(): [value]
            for name, value in environ.items()
            if name.startswith("HTTP_")
        }
        body = environ["wsgi.input"].read(int(environ.get("CONTENT_LENGTH") or 0))
        try:
            text, encoded = body.decode(), False
        except UnicodeDecodeError:
            text, encoded = base64.b64encode(body).decode(), True
        return {
            "httpMethod": environ["REQUEST_METHOD"],
            "path": quote(environ["PATH_INFO"].encode("latin-1"), safe="/:%"),
            "multiValueQueryStringParameters": query,
            "multiValueHeaders": headers,
            "body": text,
            "isBase64Encoded": encoded,
        }
