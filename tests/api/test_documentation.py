"""The API describes itself, wholly and truly, and needs nobody else for it."""

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
    """Give an application whose documentation is public."""
    return ApiUnderTest(
        session_issuer,
        {"AWS_ENDPOINT_URL": "http://127.0.0.1:1", "MLPIPE_PUBLIC_DOCUMENTATION": "true"},
    )


def test_the_document_has_the_routes_and_no_others() -> None:
    """Every path and method, and of each whether it needs a token."""
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


def test_every_schema_is_one_and_every_reference_leads_somewhere() -> None:
    """By JSON Schema's own rules, which OpenAPI 3.1 takes over."""
    document = openapi_document(public_documentation=True)
    assert document["openapi"].startswith("3.1")
    for schema in document["components"]["schemas"].values():
        Draft202012Validator.check_schema(schema)
    references = re.findall(r"'\$ref': '#/components/(\w+)/(\w+)'", str(document))
    assert references
    assert all(name in document["components"][kind] for kind, name in references)


def test_every_status_of_a_problem_is_documented() -> None:
    """No client meets a status that the document does not know."""
    told = {
        status
        for item in openapi_document(public_documentation=True)["paths"].values()
        for method, operation in item.items()
        if method != "parameters"
        for status in operation["responses"]
    }
    kinds = [value for value in vars(problems).values() if isinstance(value, problems.Problem)]
    # A method that is not there has no operation to stand with.
    assert {str(kind.status) for kind in kinds} - told == {"405"}


def test_every_route_but_the_public_ones_needs_a_token(
    documented: ApiUnderTest, session_issuer: TokenIssuer
) -> None:
    """Health and, where the deployment says so, documentation are open; nothing else, by any method."""
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


def test_both_are_public_where_the_deployment_says_so(
    documented: ApiUnderTest, session_issuer: TokenIssuer
) -> None:
    """Without the setting they need a token, as everything that is not health does."""
    closed = ApiUnderTest(session_issuer, {"AWS_ENDPOINT_URL": "http://127.0.0.1:1"})
    for path in ("/openapi.json", "/docs"):
        assert documented.get(path, token="").status == 200
        assert closed.get(path, token="").problem == "missing-token"
        assert closed.get(path).status == 200
    needing = closed.get("/openapi.json").document["paths"]
    assert all("security" not in needing[path]["get"] for path in ("/openapi.json", "/docs"))
    assert documented.get("/openapi.json").document == openapi_document(public_documentation=True)


def test_the_page_needs_nothing_from_elsewhere(documented: ApiUnderTest) -> None:
    """No script, no image, no address but its own; the policy would stop them anyway."""
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
