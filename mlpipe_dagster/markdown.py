"""Markdown for Dagster: descriptions of events, and Markdown metadata.

Only this module puts external text into Markdown. It shows such text in code spans, so that it cannot become
a link, an image, markup or a table cell of its own.
"""

from __future__ import annotations

import base64
import re
from collections.abc import Iterable, Sequence
from typing import Any

import dagster as dg

from prediction_contract.printable_text import escape_unprintable

_LONGEST_CELL = 60
_BACKTICKS = re.compile("`+")


def code_span(text: str) -> str:
    """Return text as one line of code in which no character acts as markup; empty text stays empty."""
    line = escape_unprintable(text)
    if not line:
        return ""
    fence = "`" * (1 + max((len(found) for found in _BACKTICKS.findall(line)), default=0))
    # Markdown strips one space at both ends of a code span, unless it holds only spaces.
    is_open = "`" in {line[0], line[-1]} or (line[0] == line[-1] == " " and not line.isspace())
    room = " " if is_open else ""
    return f"{fence}{room}{line}{room}{fence}"


def markdown_table(columns: Sequence[str], rows: Iterable[Sequence[Any]]) -> dg.MarkdownMetadataValue:
    """Return a table in which long values are cut.

    Args:
        columns: Column names; they must be names that the contract or the platform allows.
        rows: Any values.
    """
    lines = [columns, ["---"] * len(columns), *([_cell(value) for value in row] for row in rows)]
    return dg.MetadataValue.md("\n".join(f"| {' | '.join(line)} |" for line in lines))


def _cell(value: Any) -> str:
    text = "" if value is None else str(value)
    short = text if len(text) <= _LONGEST_CELL else f"{text[:_LONGEST_CELL]}…"
    # A pipe would end the cell even within code, and renderers treat `\|` there differently.
    return r"\|".join(map(code_span, short.split("|")))


def markdown_list(lines: Iterable[str], *, empty: str) -> dg.MarkdownMetadataValue:
    """Return a list with one item per line; without lines, return `empty`, which may contain Markdown."""
    return dg.MetadataValue.md("\n".join(f"- {code_span(line)}" for line in lines) or empty)


def markdown_image(text: str, svg: str) -> dg.MarkdownMetadataValue:
    """Return an image that is embedded, so no other host is needed.

    Args:
        text: The text for screen readers: the platform's own words, and names that the contract allows.
        svg: The picture.
    """
    encoded = base64.b64encode(svg.encode()).decode()
    return dg.MetadataValue.md(f"![{text}](data:image/svg+xml;base64,{encoded})")
