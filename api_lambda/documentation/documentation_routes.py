"""The routes that describe the API: an OpenAPI document, and a page that needs nothing but itself."""

from __future__ import annotations

import json
from functools import cache
from typing import TYPE_CHECKING

from api_lambda.http.load_balancer import Response

if TYPE_CHECKING:
    from api_lambda.calls import Call

# The page has a style of its own and neither scripts nor anything from elsewhere.
_PAGE_POLICY = (
    "default-src 'none'; style-src 'unsafe-inline'; base-uri 'none'; form-action 'none'; "
    "frame-ancestors 'none'"
)


def openapi(call: Call) -> Response:
    """Answer with the OpenAPI 3.1 document."""
    return Response(200, _openapi_text(call.services.public_documentation))


def docs(call: Call) -> Response:
    """Answer with the documentation page."""
    return Response(
        200,
        _page_text(call.services.public_documentation),
        "text/html; charset=utf-8",
        {"Content-Security-Policy": _PAGE_POLICY},
    )


@cache
def _openapi_text(public: bool) -> str:
    # Few cold starts are asked for it.
    from api_lambda.documentation.openapi import openapi_document  # noqa: PLC0415

    return json.dumps(openapi_document(public_documentation=public))


@cache
def _page_text(public: bool) -> str:
    from api_lambda.documentation.documentation_page import page  # noqa: PLC0415
    from api_lambda.documentation.openapi import openapi_document  # noqa: PLC0415

    return page(openapi_document(public_documentation=public))
