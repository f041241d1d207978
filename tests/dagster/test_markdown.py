"""Text of others in Dagster's UI: rendered as GitHub renders it, it is shown and obeyed in nothing."""

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
# What stands in this text becomes a link, an image or markup where a renderer obeys it.
HOSTILE = (
    "![seen](http://example.com/p.png) [approve](http://example.com/) <img src=x onerror=alert(1)> <b> "
    "www.example.com/login https://example.com http\\://example.com a@example.com mailto:a@example.com "
    "<https://example.com> **bold** # head `` ` ~~gone~~ &lt; \\` | end"
)
_SAID_OF_CODE = re.compile("<code>(.*?)</code>", re.DOTALL)


class Tags(HTMLParser):
    """Collects the tags of a document."""

    def __init__(self) -> None:
        super().__init__()
        self.found: set[str] = set()

    def handle_starttag(self, tag: str, attrs: list[tuple[str, str | None]]) -> None:  # noqa: ARG002
        """Keep a tag's name."""
        self.found.add(tag)


def rendered(markdown: Any) -> tuple[set[str], str]:
    """Return the tags that a description or metadata value becomes, and the text of its code."""
    text = str(markdown.md_str) if isinstance(markdown, dg.MarkdownMetadataValue) else str(markdown)
    document = GFM.render(text)
    tags = Tags()
    tags.feed(document)
    return tags.found, html.unescape("".join(_SAID_OF_CODE.findall(document)))


def test_the_renderer_obeys_what_is_not_guarded() -> None:
    """The hostile text is one: without a guard it links and shows images."""
    tags, _ = rendered(HOSTILE)
    assert {"img", "a", "strong"} <= tags


texts = st.text() | st.text(alphabet="`| \\a*_[]()<>!#~&:/.@\n\r-1")


@given(texts)
@example(HOSTILE)
@example("`")
@example("``a`")
@example(" both ")
@example("\\")
def test_a_code_span_shows_the_text_and_nothing_else(text: str) -> None:
    """Whatever it holds: one span of code with the text in it, as it is."""
    tags, shown = rendered(f"Refused: {code_span(text)}")
    assert tags <= {"p", "code"}
    assert shown == escape_unprintable(text)


@given(texts, texts)
@example(HOSTILE, "\\|")
@example("a\\", "|")
@example("\x0b|x", "=HYPERLINK(1)")
def test_a_value_stays_in_its_cell(first: str, second: str) -> None:
    """No image, link or table cell can be smuggled into Dagster's UI by a prediction."""
    table = markdown_table(("a", "b"), [(first[:60], second[:60]), (None, 1)])
    document = GFM.render(table.md_str or "")
    cells = re.findall("<td>(.*?)</td>", document, re.DOTALL)
    shown = [html.unescape(re.sub("</?code>", "", cell)) for cell in cells]
    assert shown == [escape_unprintable(first[:60]), escape_unprintable(second[:60]), "", "1"]
    assert rendered(table)[0] <= {"table", "thead", "tbody", "tr", "th", "td", "code"}


def test_long_values_are_cut() -> None:
    """A row stays readable."""
    assert markdown_table(("a",), [("x" * 99,)]).md_str == f"| a |\n| --- |\n| `{'x' * 60}…` |"


@given(st.lists(texts, max_size=3))
def test_a_list_has_one_item_for_each_line(lines: list[str]) -> None:
    """No line makes a second one, or a heading of itself."""
    tags, _ = rendered(markdown_list(lines, empty="none"))
    assert tags <= {"ul", "li", "code", "p"}


def test_a_picture_is_drawn_from_the_text_itself() -> None:
    """An image is only ever one that needs no other host."""
    shown = markdown_image("Distribution of score", "<svg><title>a</title></svg>").md_str or ""
    assert shown.startswith("![Distribution of score](data:image/svg+xml;base64,")


def publication(action: Action) -> PublicationEntry:
    """Return a publication by somebody who has read about Markdown."""
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
def test_no_event_links_to_what_somebody_else_wrote(event: Any) -> None:
    """A done file, the API's answer, a person's reason: each is shown as text."""
    shown = [event.description, *(each for each in event.metadata.values() if is_markdown(each))]
    for text in shown:
        assert rendered(text)[0] <= {"p", "code", "ul", "li"}


def is_markdown(value: Any) -> bool:
    """Return whether Dagster renders a metadata value."""
    return isinstance(value, dg.MarkdownMetadataValue)


def test_only_one_module_makes_markdown() -> None:
    """Whoever needs it takes the functions that guard it."""
    makers = [
        path.name
        for path in SOURCES.rglob("*.py")
        if re.search(r"MetadataValue\.md\(|MarkdownMetadataValue\(", path.read_text(encoding="utf-8"))
    ]
    assert makers == ["markdown.py"]
