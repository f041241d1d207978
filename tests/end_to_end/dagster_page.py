"""Dagster's web page in a real browser."""

from __future__ import annotations

import os
import re
import shutil
from contextlib import contextmanager
from dataclasses import dataclass
from typing import TYPE_CHECKING

import pytest
from playwright.sync_api import Locator, Page, expect, sync_playwright

from tests.stack_runs import PROJECT_ROOT

if TYPE_CHECKING:
    from collections.abc import Iterator

PICTURES = PROJECT_ROOT / "build" / "pictures"
# On a smaller page Dagster draws lineage nodes without their details.
_SIZE = {"width": 2240, "height": 1260}
_SEEN_MILLISECONDS = 60_000


@dataclass(frozen=True)
class DagsterPage:
    """One browser tab.

    Attributes:
        url: The web server's address, without a slash at the end.
        page: The tab.
    """

    url: str
    page: Page

    def open(self, path: str) -> None:
        """Go to a page of Dagster."""
        self.page.goto(f"{self.url}{path}", timeout=_SEEN_MILLISECONDS)

    def see(self, text: str | re.Pattern[str], *, seconds: float = 60) -> Locator:
        """Wait until a text is visible, or fail after the given time."""
        found = self.page.get_by_text(text).first
        expect(found).to_be_visible(timeout=seconds * 1000)
        return found

    def see_asset(self, name: str, *shown: str) -> None:
        """Wait until a lineage graph has a node of this name that shows these texts."""
        # A node's text begins with the asset's name, which other nodes may show as a kind.
        its_text = re.compile(rf"^\s*{name}\s*Latest event")
        node = self.page.locator("foreignObject").filter(has_text=its_text).first
        expect(node).to_be_visible(timeout=_SEEN_MILLISECONDS)
        for text in shown:
            expect(node).to_contain_text(text, timeout=_SEEN_MILLISECONDS)

    def see_plot(self, entry: str, of: str) -> None:
        """Open a plot in an asset's metadata, and wait until the browser has drawn it.

        Args:
            entry: The metadata's key.
            of: The plot's text.
        """
        row = self.page.locator("tr").filter(has_text=entry).first
        row.get_by_text("Show Markdown").click(timeout=_SEEN_MILLISECONDS)
        plot = self.page.get_by_role("dialog").get_by_role("img", name=of)
        expect(plot).to_be_visible(timeout=_SEEN_MILLISECONDS)
        # A picture that the page cannot load is visible as a frame of zero natural width.
        expect(plot).not_to_have_js_property("naturalWidth", 0, timeout=_SEEN_MILLISECONDS)

    def picture(self, name: str) -> None:
        """Save a screenshot as `build/pictures/<name>.png`."""
        PICTURES.mkdir(parents=True, exist_ok=True)
        self.page.screenshot(path=PICTURES / f"{name}.png")


@contextmanager
def dagster_page(url: str) -> Iterator[DagsterPage]:
    """Open Dagster in Chromium; skip with a reason if there is no browser, except in CI."""
    browser = shutil.which("chromium")
    if browser is None:
        assert os.environ.get("CI") != "true", "chromium is missing: .ci/run installs it"
        pytest.skip("a browser is needed: apt-get install chromium")
    with sync_playwright() as playwright:
        chromium = playwright.chromium.launch(executable_path=browser, args=["--no-sandbox"])
        try:
            tab = chromium.new_page(viewport=_SIZE)  # type: ignore[arg-type]  # a TypedDict of the library's own
            # Dagster shows a new browser a greeting that blocks all other clicks.
            tab.add_locator_handler(tab.get_by_text("Skip", exact=True), lambda skip: skip.click())
            yield DagsterPage(url, tab)
        finally:
            chromium.close()
