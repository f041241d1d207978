"""The documentation page in a real browser, from the running load balancer."""

from __future__ import annotations

import os
import shutil
from typing import TYPE_CHECKING

import pytest
from playwright.sync_api import expect, sync_playwright

from api_lambda.routes import ROUTES

if TYPE_CHECKING:
    from collections.abc import Iterator

    from playwright.sync_api import Page

    from tests.stack_runs import LocalStack

pytestmark = [pytest.mark.stack, pytest.mark.slow]


@pytest.fixture
def page() -> Iterator[Page]:
    """Open a Chromium tab; skip with a reason if there is no browser, except in CI."""
    browser = shutil.which("chromium")
    if browser is None:
        assert os.environ.get("CI") != "true", "chromium is missing: .ci/run installs it"
        pytest.skip("a browser is needed: apt-get install chromium")
    with sync_playwright() as playwright:
        chromium = playwright.chromium.launch(executable_path=browser, args=["--no-sandbox"])
        try:
            yield chromium.new_page()
        finally:
            chromium.close()


def test_page_shows_every_route_and_loads_nothing_else(local_stack: LocalStack, page: Page) -> None:
    """The page shows every route with its style, its links work, and nothing else is loaded or logged."""
    url = local_stack.environment["MLPIPE_API_URL"]
    asked: list[str] = []
    complaints: list[str] = []
    page.on("request", lambda request: asked.append(request.url))
    page.on("console", lambda message: complaints.append(message.text))
    page.on("pageerror", lambda error: complaints.append(str(error)))
    answer = page.goto(f"{url}/docs")
    assert answer is not None
    assert answer.status == 200
    for route in ROUTES:
        for method in set(route.methods) - {"HEAD"}:
            expect(page.get_by_role("heading", name=f"{method} {route.name}", exact=True)).to_be_visible()
    # The page's style is allowed by its own content security policy.
    assert page.evaluate("getComputedStyle(document.querySelector('pre')).fontFamily").endswith("monospace")
    assert page.evaluate("document.documentElement.scrollWidth <= window.innerWidth")
    page.get_by_role("link", name="Prediction", exact=True).first.click()
    expect(page.get_by_role("heading", name="Prediction", exact=True)).to_be_in_viewport()
    assert asked == [f"{url}/docs"]
    page.get_by_role("link", name="openapi.json").click()
    expect(page.get_by_text('"openapi": "3.1.0"')).to_be_visible()
    assert {address.partition("?")[0] for address in asked} <= {
        f"{url}/docs",
        f"{url}/openapi.json",
        f"{url}/favicon.ico",
    }
    assert complaints == []
