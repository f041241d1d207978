"""Draws a bar chart of a metric over a model's batches, with a line at the promised value."""

from __future__ import annotations

from collections.abc import Sequence
from html import escape
from typing import NamedTuple

_WIDTH, _HEIGHT, _MARGIN = 460, 120, 22
_OWN, _OTHER, _PROMISE = "#1f77b4", "#d0d0d0", "#d62728"
# Each bar takes about a hundred bytes of the event log.
MAX_BARS = 30


class Bar(NamedTuple):
    """One batch: its partition, its value, and whether the measured batch's version scored it."""

    partition: str
    value: float
    is_own: bool


def accuracy_svg(metric: str, bars: Sequence[Bar], promise: float | None) -> str:
    """Return an SVG bar chart: a bar per batch, grey for other model versions, and a line at the promise.

    Args:
        metric: The metric's name, used as the title.
        bars: The batches in order of their partitions; only the last `MAX_BARS` are drawn.
        promise: The promised value; None if there is none.
    """
    drawn = bars[-MAX_BARS:]
    highest = max((abs(value) for value in (*(bar.value for bar in drawn), promise or 0.0)), default=0) or 1.0
    step = (_WIDTH - 2 * _MARGIN) / max(len(drawn), 1)
    shapes = "".join(
        f'<rect x="{_MARGIN + step * number:.1f}" '
        f'y="{_HEIGHT - _MARGIN - _bar_height(bar.value, highest):.1f}" '
        f'width="{step * 0.85:.1f}" height="{_bar_height(bar.value, highest):.1f}" '
        f'fill="{_OWN if bar.is_own else _OTHER}"/>'
        for number, bar in enumerate(drawn)
    )
    line = ""
    if promise is not None:
        level = _HEIGHT - _MARGIN - _bar_height(promise, highest)
        line = (
            f'<line x1="{_MARGIN}" x2="{_WIDTH - _MARGIN}" y1="{level:.1f}" y2="{level:.1f}" '
            f'stroke="{_PROMISE}"/><text x="{_WIDTH - _MARGIN}" y="13" text-anchor="end" fill="{_PROMISE}">'
            f"promised {promise:g}</text>"
        )
    ends = (
        f'<text x="{_MARGIN}" y="{_HEIGHT - 6}">{escape(drawn[0].partition)}</text>'
        f'<text x="{_WIDTH - _MARGIN}" y="{_HEIGHT - 6}" text-anchor="end">'
        f"{escape(drawn[-1].partition)}</text>"
        if drawn
        else ""
    )
    return (
        f'<svg xmlns="http://www.w3.org/2000/svg" width="{_WIDTH}" height="{_HEIGHT}" '
        f'viewBox="0 0 {_WIDTH} {_HEIGHT}" font-family="sans-serif" font-size="10">'
        f"<title>{escape(metric)}</title>"
        f'<text x="{_MARGIN}" y="13" fill="{_OWN}">{escape(metric)}</text>{shapes}{line}{ends}</svg>'
    )


def _bar_height(value: float, highest: float) -> float:
    return abs(value) / highest * (_HEIGHT - 2 * _MARGIN)
