"""A chart that compares one column's distribution with the live batch's."""

from __future__ import annotations

from html import escape
from typing import NamedTuple

from prediction_contract.rows.drift import Distribution

_WIDTH, _HEIGHT, _MARGIN = 460, 120, 22
_BATCH, _LIVE = "#1f77b4", "#d0d0d0"


class Series(NamedTuple):
    """One batch's distribution, and its name in the legend."""

    name: str
    distribution: Distribution


def distribution_svg(column: str, ends: tuple[str, str] | None, batch: Series, live: Series | None) -> str:
    """Return an SVG bar chart of the share of rows per bin, with the live batch's bars behind.

    Args:
        column: The column's name, used as the title.
        ends: The labels of the first and the last bar, if any.
        batch: The batch's distribution.
        live: The live batch's distribution, if there is one.
    """
    layers = [(live, _LIVE, 1.0), (batch, _BATCH, 0.55)] if live else [(batch, _BATCH, 0.55)]
    shares = [(_shares(series.distribution), colour, width) for series, colour, width in layers if series]
    highest = max((share for values, _, _ in shares for share in values), default=0.0) or 1.0
    bars = "".join(
        _bar(number, len(values), share / highest, colour, width)
        for values, colour, width in shares
        for number, share in enumerate(values)
    )
    legend = "".join(
        f'<text x="{_MARGIN + 190 * number}" y="13" fill="{"#777" if colour == _LIVE else colour}">'
        f"{escape(series.name)}</text>"
        for number, (series, colour, _) in enumerate(reversed(layers))
        if series
    )
    scale = (
        f'<text x="{_MARGIN}" y="{_HEIGHT - 6}">{escape(ends[0])}</text>'
        f'<text x="{_WIDTH - _MARGIN}" y="{_HEIGHT - 6}" text-anchor="end">{escape(ends[1])}</text>'
        if ends
        else ""
    )
    return (
        f'<svg xmlns="http://www.w3.org/2000/svg" width="{_WIDTH}" height="{_HEIGHT}" '
        f'viewBox="0 0 {_WIDTH} {_HEIGHT}" font-family="sans-serif" font-size="10">'
        f"<title>{escape(column)}</title>{legend}{bars}{scale}</svg>"
    )


def _shares(distribution: Distribution) -> list[float]:
    rows = distribution.rows or 1
    return [count / rows for count in distribution.counts]


def _bar(number: int, bars: int, height: float, colour: str, width: float) -> str:
    step = (_WIDTH - 2 * _MARGIN) / bars
    bar_height = height * (_HEIGHT - 2 * _MARGIN)
    left = _MARGIN + step * (number + (1 - width) / 2)
    return (
        f'<rect x="{left:.1f}" y="{_HEIGHT - _MARGIN - bar_height:.1f}" width="{step * width * 0.94:.1f}" '
        f'height="{bar_height:.1f}" fill="{colour}"/>'
    )
