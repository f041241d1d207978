"""Tests of the API's OpenAPI document and documentation page."""

from __future__ import annotations

import re
from html.parser import HTMLParser
from typing import TYPE_CHECKING

import pytest
from jsonschema import Draft202012Validator

from api_lambda import problems
from api_lambda.documentation.openapi import openapi_document
from api_lambda.routes import ROUTES
from tests.api.api_calls import ApiUnderTest
from tests.fakes.item_readers import UnavailableReader

if TYPE_CHECKING:
    from tests.fakes.token_issuer import TokenIssuer


@pytest.fixture
def documented(session_issuer: TokenIssuer) -> ApiUnderTest:
    """Return an application with public documentation."""
    return ApiUnderTest(
        session_issuer,
        {"AWS_ENDPOINT_URL": "http://127.0.0.1:1", "MLPIPE_PUBLIC_DOCUMENTATION": "true"},
    )


def test_document_lists_exactly_the_routes() -> None:
    """The document has every path, method and parameter, and states whether a token is needed."""
    paths = openapi_document(public_documentation=True)["paths"]
    told = {
        (path, method.upper()) for path, item in paths.items() for method in item if method != "parameters"
    }
    assert told == {(route.name, method) for route in ROUTES for method in route.methods if method != "HEAD"}
    for route in ROUTES:
        for method in set(route.methods) - {"HEAD"}:
            operation = paths[route.name][method.lower()]
            assert (operation.get("security") == []) == (route.public or route.documents)
            asked = {each["name"] for each in operation.get("parameters", []) if each["in"] == "query"}
            assert asked == route.parameters
            names = {each["name"] for each in paths[route.name].get("parameters", [])}
            assert names == set(re.findall("{([a-z_]+)}", route.name))


def test_schemas_and_references_are_valid() -> None:
    """Each schema is valid JSON Schema, and each reference resolves."""
    document = openapi_document(public_documentation=True)
    assert document["openapi"].startswith("3.1")
    for schema in document["components"]["schemas"].values():
        Draft202012Validator.check_schema(schema)
    references = re.findall(r"'\$ref': '#/components/(\w+)/(\w+)'", str(document))
    assert references
    assert all(name in document["components"][kind] for kind, name in references)


def test_problem_statuses_are_documented() -> None:
    """The document has every status of a problem except 405."""
    told = {
        status
        for item in openapi_document(public_documentation=True)["paths"].values()
        for method, operation in item.items()
        if method != "parameters"
        for status in operation["responses"]
    }
    kinds = [value for value in vars(problems).values() if isinstance(value, problems.Problem)]
    # 405 is for methods without an operation, so no operation can document it.
    assert {str(kind.status) for kind in kinds} - told == {"405"}


def test_only_public_routes_need_no_token(documented: ApiUnderTest, session_issuer: TokenIssuer) -> None:
    """Only health checks and, if the deployment allows it, the documentation are open, by any method."""
    closed = ApiUnderTest(session_issuer, {"AWS_ENDPOINT_URL": "http://127.0.0.1:1"})
    opened: dict[str, set[str]] = {"closed": set(), "documented": set()}
    for name, api in (("closed", closed), ("documented", documented)):
        services = api.application._services
        services.publications._registry._reader = services.store._reader = UnavailableReader()
        for route in ROUTES:
            path = route.name.replace("{model}", "m").replace("{entity_id}", "a")
            for method in route.methods:
                answer = api.get(path, method=method, token="", body="{}")
                if answer.status == 401:
                    assert "Bearer" in answer.headers["WWW-Authenticate"]
                else:
                    opened[name].add(route.name)
    assert opened["closed"] == {"/healthz", "/readyz"}
    assert opened["documented"] == {"/healthz", "/readyz", "/openapi.json", "/docs"}


def test_documentation_is_public_only_if_configured(
    documented: ApiUnderTest, session_issuer: TokenIssuer
) -> None:
    """The OpenAPI document and the page need a token unless the deployment makes them public."""
    closed = ApiUnderTest(session_issuer, {"AWS_ENDPOINT_URL": "http://127.0.0.1:1"})
    for path in ("/openapi.json", "/docs"):
        assert documented.get(path, token="").status == 200
        assert closed.get(path, token="").problem == "missing-token"
        assert closed.get(path).status == 200
    needing = closed.get("/openapi.json").document["paths"]
    assert all("security" not in needing[path]["get"] for path in ("/openapi.json", "/docs"))
    assert documented.get("/openapi.json").document == openapi_document(public_documentation=True)


def test_page_loads_nothing_external(documented: ApiUnderTest) -> None:
    """The page has no scripts, images or external addresses, and its links and anchors match."""
    answer = documented.get("/docs")
    assert answer.headers["Content-Type"] == "text/html; charset=utf-8"
    assert "script-src" not in answer.headers["Content-Security-Policy"]
    assert answer.headers["Content-Security-Policy"].startswith("default-src 'none'")
    page = answer.event["body"]
    assert "//" not in page.replace("<!doctype", "")
    found: list[tuple[str, dict[str, str | None]]] = []

    class Tags(HTMLParser):
        def handle_starttag(self, tag: str, attrs: list[tuple[str, str | None]]) -> None:
            found.append((tag, dict(attrs)))

    Tags().feed(page)
    assert not {"script", "img", "link", "iframe"} & {tag for tag, _ in found}
    targets = {attributes["href"] for tag, attributes in found if tag == "a"}
    identifiers = {f"#{attributes['id']}" for _, attributes in found if "id" in attributes}
    assert targets <= identifiers | {"openapi.json"}
    for route in ROUTES:
        assert route.name in page
