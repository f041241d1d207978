"""The documentation page: the OpenAPI document as HTML without scripts."""

from __future__ import annotations

import json
from functools import cache
from html import escape
from typing import Any

from api_lambda.documentation.openapi import openapi_document
from api_lambda.http.load_balancer import Response

# The page has inline styles, no scripts, and loads nothing from elsewhere.
_POLICY = (
    "default-src 'none'; style-src 'unsafe-inline'; base-uri 'none'; form-action 'none'; "
    "frame-ancestors 'none'"
)
_STYLE = """
body { font: 16px/1.5 system-ui, sans-serif; max-width: 60rem; margin: 2rem auto; padding: 0 1rem; }
h2 { border-top: 1px solid #8888; padding-top: 1rem; }
code, pre { font-family: ui-monospace, monospace; font-size: 0.9em; }
pre { padding: 0.75rem; overflow: auto; background: #8882; }
table { border-collapse: collapse; width: 100%; }
td, th { text-align: left; vertical-align: top; padding: 0.25rem 0.75rem 0.25rem 0; }
:root { color-scheme: light dark; }
"""


@cache
def page_answer(*, public_documentation: bool) -> Response:
    """Answer with the OpenAPI document as an HTML page."""
    page = _page(openapi_document(public_documentation=public_documentation))
    return Response(200, page, "text/html; charset=utf-8", {"Content-Security-Policy": _POLICY})


def _page(document: dict[str, Any]) -> str:
    info = document["info"]
    operations = "".join(
        _operation(path, method, item[method], item.get("parameters", []))
        for path, item in document["paths"].items()
        for method in ("get", "post")
        if method in item
    )
    token = document["components"]["securitySchemes"]["token"]["description"]
    schemas = "".join(
        f'<h3 id="{escape(name)}">{escape(name)}</h3><pre>{escape(json.dumps(schema, indent=2))}</pre>'
        for name, schema in document["components"]["schemas"].items()
    )
    return (
        '<!doctype html><html lang="en"><head><meta charset="utf-8">'
        '<meta name="viewport" content="width=device-width, initial-scale=1">'
        f"<title>{escape(info['title'])}</title><style>{_STYLE}</style></head><body>"
        f"<h1>{escape(info['title'])}</h1><p>{escape(info['description'])}</p>"
        '<p>Machine-readable: <a href="openapi.json">openapi.json</a>.</p>'
        f"<h2>Token</h2><p>{escape(token)}</p>{operations}<h2>Schemas</h2>{schemas}</body></html>"
    )


def _operation(path: str, method: str, operation: dict[str, Any], shared: list[dict[str, Any]]) -> str:
    parameters = [*shared, *operation.get("parameters", [])]
    rows = "".join(
        f"<tr><td><code>{escape(each['name'])}</code></td><td>{escape(each['in'])}</td>"
        f"<td>{escape(each.get('description', ''))}</td></tr>"
        for each in parameters
    )
    body = operation.get("requestBody")
    asked = f"<p>Body: {_links(body)}</p>" if body else ""
    answers = "".join(
        f"<tr><td><code>{escape(status)}</code></td><td>{escape(answer.get('description', ''))}</td>"
        f"<td>{_links(answer)}</td></tr>"
        for status, answer in operation["responses"].items()
        if status != "default"
    )
    open_to_all = "<p>Needs no token.</p>" if operation.get("security") == [] else ""
    return (
        f'<h2 id="{escape(operation["operationId"])}"><code>{method.upper()} {escape(path)}</code></h2>'
        f"<p>{escape(operation['summary'])}.</p>{open_to_all}"
        f"{f'<table>{rows}</table>' if rows else ''}{asked}<table>{answers}</table>"
    )


def _links(described: dict[str, Any]) -> str:
    references = [content["schema"].get("$ref", "") for content in described.get("content", {}).values()]
    names = [escape(reference.rpartition("/")[2]) for reference in references if reference]
    return ", ".join(f'<a href="#{name}">{name}</a>' for name in names)
