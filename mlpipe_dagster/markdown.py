"""What Dagster renders as Markdown: descriptions of events, and metadata of that type.

Only this module makes Markdown of text that comes from elsewhere: it is shown as it is, in code spans, and
becomes neither link, image, markup nor a cell of its own.
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
    """Return text as one line of code, of which no character is markup; empty text stays empty."""
    line = escape_unprintable(text)
    if not line:
        return ""
    fence = "`" * (1 + max((len(found) for found in _BACKTICKS.findall(line)), default=0))
    # One space at both ends is no part of a code span, unless all of it is spaces.
    is_open = "`" in {line[0], line[-1]} or (line[0] == line[-1] == " " and not line.isspace())
    room = " " if is_open else ""
    return f"{fence}{room}{line}{room}{fence}"


def markdown_table(columns: Sequence[str], rows: Iterable[Sequence[Any]]) -> dg.MarkdownMetadataValue:
    """Return a table; long values are cut.

    Args:
        columns: Names that the contract or the platform allows.
        rows: Any values.
    """
    lines = [columns, ["---"] * len(columns), *([_cell(value) for value in row] for row in rows)]
    return dg.MetadataValue.md("\n".join(f"| {' | '.join(line)} |" for line in lines))


def _cell(value: Any) -> str:
    text = "" if value is None else str(value)
    short = text if len(text) <= _LONGEST_CELL else f"{text[:_LONGEST_CELL]}…"
    # A pipe would end the cell even within code, and renderers differ about a backslash before it there.
    return r"\|".join(map(code_span, short.split("|")))


def markdown_list(lines: Iterable[str], *, empty: str) -> dg.MarkdownMetadataValue:
    """Return one item for each line; what is said if there is none is the platform's own text."""
    return dg.MetadataValue.md("\n".join(f"- {code_span(line)}" for line in lines) or empty)


def markdown_image(text: str, svg: str) -> dg.MarkdownMetadataValue:
    """Return an image that needs no other host.

    Args:
        text: What screen readers read: the platform's own words, and names that the contract allows.
        svg: The picture.
    """
    encoded = base64.b64encode(svg.encode()).decode()
    return dg.MetadataValue.md(f"![{text}](data:image/svg+xml;base64,{encoded})")
