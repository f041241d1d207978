"""A bar chart of a verdict: candidate and champion for each metric and slice."""

from __future__ import annotations

from html import escape
from math import isfinite

from prediction_contract.jobs.verdict import Verdict

_WIDTH, _ROW, _TOP, _LEFT, _RIGHT = 460, 26, 20, 150, 70
_CANDIDATE, _CHAMPION, _BASELINE = "#1f77b4", "#d0d0d0", "#eeeeee"
# Each row takes about 300 bytes of the event log.
_MAX_ROWS = 16
_LONGEST_NAME = 24


def comparison_svg(verdict: Verdict) -> str:
    """Return an SVG bar chart with a row per metric and slice, scaled to the row's longest bar."""
    rows = [
        (
            metric.name,
            [
                (metric.candidate, _CANDIDATE),
                (metric.champion, _CHAMPION),
                *((value, _BASELINE) for value in list(metric.baselines.values())[:1]),
            ],
        )
        for metric in verdict.metrics
    ]
    rows += [
        (f"{each.column} {each.value}", [(each.candidate, _CANDIDATE), (each.champion, _CHAMPION)])
        for each in verdict.slices
        if each.candidate is not None
    ]
    drawn = "".join(_row(number, *row) for number, row in enumerate(rows[:_MAX_ROWS]))
    height = _TOP + _ROW * len(rows[:_MAX_ROWS]) + 4
    champion = f"version {verdict.champion_version}" if verdict.champion_version else "no champion"
    return (
        f'<svg xmlns="http://www.w3.org/2000/svg" width="{_WIDTH}" height="{height}" '
        f'viewBox="0 0 {_WIDTH} {height}" font-family="sans-serif" font-size="10">'
        f"<title>Candidate and champion</title>"
        f'<text x="{_LEFT}" y="13" fill="{_CANDIDATE}">candidate</text>'
        f'<text x="{_LEFT + 70}" y="13" fill="#777">{champion}</text>{drawn}</svg>'
    )


def _row(number: int, name: str, bars: list[tuple[float | None, str]]) -> str:
    top = _TOP + _ROW * number
    known = [(value, colour) for value, colour in bars if value is not None and isfinite(value)]
    longest = max((abs(value) for value, _ in known), default=0.0) or 1.0
    height = (_ROW - 6) / max(len(known), 1)
    drawn = "".join(
        f'<rect x="{_LEFT}" y="{top + place * height:.1f}" '
        f'width="{abs(value) / longest * (_WIDTH - _LEFT - _RIGHT):.1f}" height="{height:.1f}" '
        f'fill="{colour}"/>'
        for place, (value, colour) in enumerate(known)
    )
    short = name if len(name) <= _LONGEST_NAME else f"{name[:_LONGEST_NAME]}…"
    figure = f'<text x="{_WIDTH - _RIGHT + 6}" y="{top + 13}">{known[0][0]:.4g}</text>' if known else ""
    return f'<text x="4" y="{top + 13}">{escape(short)}</text>{drawn}{figure}'
