"""Foreign text in Dagster's UI is shown literally, rendered as GitHub renders it."""

from __future__ import annotations

import html
import re
from html.parser import HTMLParser
from pathlib import Path
from typing import Any

import dagster as dg
import pytest
from hypothesis import example, given
from hypothesis import strategies as st
from markdown_it import MarkdownIt

from mlpipe_dagster.done_files.load_requests import refusal_event
from mlpipe_dagster.done_files.registration import DoneFile
from mlpipe_dagster.markdown import code_span, markdown_image, markdown_list, markdown_table
from mlpipe_dagster.pipeline.asset_names import API_CANARY
from mlpipe_dagster.publication.api_canary import CanaryResult, canary_check_result
from mlpipe_dagster.publication.live_batch_rules import CheckVerdict
from mlpipe_dagster.publication.publication_events import publication_events
from mlpipe_dagster.retention.retention_sensor import sweep_observation
from mlpipe_dagster.retention.retention_sweep import SweepResult
from prediction_contract.printable_text import escape_unprintable
from prediction_contract.registry.records import Action, PublicationEntry

GFM = MarkdownIt("gfm-like", {"linkify": True})
SOURCES = Path(__file__).resolve().parents[2] / "mlpipe_dagster"
# A renderer turns parts of this text into links, images or markup.
HOSTILE = (
    "![seen](http://example.com/p.png) [approve](http://example.com/) <img src=x onerror=alert(1)> <b> "
    "www.example.com/login https://example.com http\\://example.com a@example.com mailto:a@example.com "
    "<https://example.com> **bold** # head `` ` ~~gone~~ &lt; \\` | end"
)
_SAID_OF_CODE = re.compile("<code>(.*?)</code>", re.DOTALL)


class Tags(HTMLParser):
    """Collects the tags of an HTML document."""

    def __init__(self) -> None:
        super().__init__()
        self.found: set[str] = set()

    def handle_starttag(self, tag: str, attrs: list[tuple[str, str | None]]) -> None:  # noqa: ARG002
        """Record a tag's name."""
        self.found.add(tag)


def rendered(markdown: Any) -> tuple[set[str], str]:
    """Return the tags and the code text that a description or metadata value is rendered to."""
    text = str(markdown.md_str) if isinstance(markdown, dg.MarkdownMetadataValue) else str(markdown)
    document = GFM.render(text)
    tags = Tags()
    tags.feed(document)
    return tags.found, html.unescape("".join(_SAID_OF_CODE.findall(document)))


def test_renderer_interprets_unguarded_text() -> None:
    """Without a guard the hostile text becomes links, images and bold text."""
    tags, _ = rendered(HOSTILE)
    assert {"img", "a", "strong"} <= tags


texts = st.text() | st.text(alphabet="`| \\a*_[]()<>!#~&:/.@\n\r-1")


@given(texts)
@example(HOSTILE)
@example("`")
@example("``a`")
@example(" both ")
@example("\\")
def test_code_span_shows_text_literally(text: str) -> None:
    """Any text becomes exactly one code span with that text."""
    tags, shown = rendered(f"Refused: {code_span(text)}")
    assert tags <= {"p", "code"}
    assert shown == escape_unprintable(text)


@given(texts, texts)
@example(HOSTILE, "\\|")
@example("a\\", "|")
@example("\x0b|x", "=HYPERLINK(1)")
def test_table_value_stays_in_its_cell(first: str, second: str) -> None:
    """A prediction cannot add an image, a link or a table cell to Dagster's UI."""
    table = markdown_table(("a", "b"), [(first[:60], second[:60]), (None, 1)])
    document = GFM.render(table.md_str or "")
    cells = re.findall("<td>(.*?)</td>", document, re.DOTALL)
    shown = [html.unescape(re.sub("</?code>", "", cell)) for cell in cells]
    assert shown == [escape_unprintable(first[:60]), escape_unprintable(second[:60]), "", "1"]
    assert rendered(table)[0] <= {"table", "thead", "tbody", "tr", "th", "td", "code"}


def test_long_values_are_shortened() -> None:
    """A table row stays readable."""
    assert markdown_table(("a",), [("x" * 99,)]).md_str == f"| a |\n| --- |\n| `{'x' * 60}…` |"


@given(st.lists(texts, max_size=3))
def test_list_item_contains_no_other_markup(lines: list[str]) -> None:
    """A line cannot become a heading, a link or an image."""
    tags, _ = rendered(markdown_list(lines, empty="none"))
    assert tags <= {"ul", "li", "code", "p"}


def test_image_is_embedded() -> None:
    """An image is a data URI and needs no other host."""
    shown = markdown_image("Distribution of score", "<svg><title>a</title></svg>").md_str or ""
    assert shown.startswith("![Distribution of score](data:image/svg+xml;base64,")


def publication(action: Action) -> PublicationEntry:
    """Return a publication whose actor and reason are hostile text."""
    batch = "20130201T060000Z-0123abcd"
    return PublicationEntry(
        model="tides",
        sequence=2,
        action=action,
        batch_id=batch,
        partition="2013-02-01",
        previous_batch_id=batch,
        published_at="2026-11-23T01:02:03Z",
        actor=HOSTILE,
        reason=HOSTILE,
        request_id="r",
    )


@pytest.mark.parametrize(
    "event",
    [
        refusal_event(DoneFile(key=HOSTILE, refusal=HOSTILE), ()),
        canary_check_result(
            CanaryResult(CheckVerdict(False, HOSTILE)),
            dg.AssetCheckSpec(API_CANARY, asset=dg.AssetKey(["tides", "x"])),
        ),
        *publication_events(publication(Action.PUBLISH), None),
        *publication_events(publication(Action.ROLLBACK), "2013-01-31"),
        *publication_events(publication(Action.HOLD), None),
        sweep_observation("tides", SweepResult(kept={"b": HOSTILE}), ()),
    ],
)
def test_event_shows_foreign_text_literally(event: Any) -> None:
    """Done files, API answers and reasons of people cannot add links or images."""
    shown = [event.description, *(each for each in event.metadata.values() if is_markdown(each))]
    for text in shown:
        assert rendered(text)[0] <= {"p", "code", "ul", "li"}


def is_markdown(value: Any) -> bool:
    """Return whether Dagster renders a metadata value as Markdown."""
    return isinstance(value, dg.MarkdownMetadataValue)


def test_only_one_module_makes_markdown() -> None:
    """Other modules must use its guarded functions."""
    makers = [
        path.name
        for path in SOURCES.rglob("*.py")
        if re.search(r"MetadataValue\.md\(|MarkdownMetadataValue\(", path.read_text(encoding="utf-8"))
    ]
    assert makers == ["markdown.py"]
