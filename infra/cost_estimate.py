"""Check the calculated figures of docs/costs.md: `python -m infra.cost_estimate`.

The page works like a spreadsheet: prices and quantities have names, and each calculated row has its formula.
After changing prices or quantities, run it with `--write`.
"""

from __future__ import annotations

import argparse
import ast
import math
import operator
import re
import sys
from dataclasses import dataclass, field
from pathlib import Path
from typing import TYPE_CHECKING

if TYPE_CHECKING:
    from collections.abc import Callable, Iterator, Mapping, Sequence

PAGE = Path(__file__).resolve().parents[1] / "docs" / "costs.md"
# The columns of figures: idle, 1, 10 and 100 million predictions a day.
SCALES = 4
# The column whose arithmetic is written out.
_SHOWN_COLUMN = 2
_TOTAL = "together"
_PER_MILLION = "for a million predictions"
_CODE = re.compile(r"`([^`]+)`")
_WORD = re.compile(r"[a-z_]+")
_SMALLEST, _LARGEST_WITH_CENTS = 0.01, 100_000
_OPERATORS: Mapping[type[ast.operator], Callable[[float, float], float]] = {
    ast.Add: operator.add,
    ast.Sub: operator.sub,
    ast.Mult: operator.mul,
    ast.Div: operator.truediv,
}
_FUNCTIONS: Mapping[str, Callable[..., float]] = {"min": min, "max": max, "ceil": math.ceil}


class SheetError(Exception):
    """The page cannot be calculated; the message names the row."""


@dataclass
class Sheet:
    """The values and totals read or calculated so far.

    Attributes:
        values: The four figures of each price or quantity, by name.
        groups: The dollars per month of the rows below each heading, by heading.
    """

    values: dict[str, list[float]] = field(default_factory=dict)
    groups: dict[str, list[float]] = field(default_factory=dict)

    def evaluate(self, formula: str) -> list[float]:
        """Return a formula's four figures.

        Raises:
            SheetError: The formula has a name that is not known yet, or is not arithmetic.
        """
        try:
            tree = ast.parse(formula, mode="eval").body
        except SyntaxError as error:
            raise SheetError(f"`{formula}` is not a formula") from error
        return [self._value(tree, scale) for scale in range(SCALES)]

    def with_figures(self, formula: str) -> str:
        """Return a formula with its names replaced by the figures for ten million predictions."""

        def figure(found: re.Match[str]) -> str:
            name = found[0]
            return name if name in _FUNCTIONS else _format_number(self.values[name][_SHOWN_COLUMN])

        return _WORD.sub(figure, formula)

    def _value(self, node: ast.expr, scale: int) -> float:
        match node:
            case ast.Constant(value=int() | float() as number):
                return number
            case ast.Name(id=name) if name in self.values:
                return self.values[name][scale]
            case ast.BinOp(left=left, op=op, right=right) if type(op) in _OPERATORS:
                return _OPERATORS[type(op)](self._value(left, scale), self._value(right, scale))
            case ast.Call(func=ast.Name(id=name), args=arguments) if name in _FUNCTIONS:
                return _FUNCTIONS[name](*(self._value(each, scale) for each in arguments))
        raise SheetError(f"`{ast.unparse(node)}` is neither a known name nor arithmetic")


def recomputed(page: str, sheet: Sheet | None = None) -> str:
    """Return the page with all derived figures calculated again.

    Args:
        page: The page's text.
        sheet: Receives the values and totals, for callers that need them.

    Raises:
        SheetError: A row is malformed, or a formula uses a name that is not defined above it.
    """
    sheet = Sheet() if sheet is None else sheet
    lines = list(_rows(page.splitlines(), sheet))
    # The table of totals stands above the groups.
    return "\n".join(_with_totals(lines, sheet.groups)) + "\n"


def _rows(lines: Sequence[str], sheet: Sheet) -> Iterator[str]:
    table, heading, total = "", "", [0.0] * SCALES
    for line in lines:
        cells = _cells(line)
        if line.startswith("#"):
            heading, total = line.lstrip("# "), [0.0] * SCALES
        if not cells:
            table = ""
        elif not table:
            table = cells[0]
        elif not set(line) <= set("|-: "):
            try:
                line = _row(table, cells, sheet, total)  # noqa: PLW2901  # replaced by its calculated form
            except (ValueError, IndexError, ZeroDivisionError, KeyError) as error:
                raise SheetError(f"The row {line!r} is malformed: {error}") from error
            if table == "cost":
                sheet.groups[heading] = list(total)
        yield line


def _row(table: str, cells: list[str], sheet: Sheet, total: list[float]) -> str:
    """Return the calculated row of a table of prices, quantities or costs."""
    if table == "price":
        sheet.values[_name(cells[0])] = [_number(cells[2])] * SCALES
    elif table == "quantity":
        name, formula = _name(cells[0]), _CODE.fullmatch(cells[2])
        if formula is None:
            sheet.values[name] = [_number(cell) for cell in _four_figures(cells[-SCALES:])]
        else:
            sheet.values[name] = sheet.evaluate(formula[1])
            cells[-SCALES:] = map(_format_number, sheet.values[name])
    elif table == "cost" and cells[0] == _TOTAL:
        cells[-SCALES:] = map(_format_dollars, total)
    elif table == "cost":
        formula = _name(cells[1])
        figures = sheet.evaluate(formula)
        total[:] = [one + two for one, two in zip(total, figures, strict=True)]
        cells[2] = sheet.with_figures(formula)
        cells[-SCALES:] = map(_format_dollars, figures)
    return _line(cells)


def _with_totals(lines: Sequence[str], groups: Mapping[str, list[float]]) -> Iterator[str]:
    is_summary = False
    sums = [sum(figures) for figures in zip(*groups.values(), strict=True)]
    days = 365 / 12
    for line in lines:
        cells = _cells(line)
        is_summary = bool(cells) and (is_summary or cells[0] == "dollars a month")
        if is_summary and cells[0] in groups:
            yield _line([cells[0], *map(_format_dollars, groups[cells[0]])])
        elif is_summary and cells[0] == _TOTAL:
            yield _line([_TOTAL, *map(_format_dollars, sums)])
        elif is_summary and cells[0] == _PER_MILLION:
            millions = (days, 10 * days, 100 * days)
            shares = (_format_dollars(each / many) for each, many in zip(sums[1:], millions, strict=True))
            yield _line([_PER_MILLION, "", *shares])
        else:
            yield line


def _cells(line: str) -> list[str]:
    return [cell.strip() for cell in line.strip().strip("|").split("|")] if line.startswith("|") else []


def _line(cells: Sequence[str]) -> str:
    return f"| {' | '.join(cells)} |"


def _four_figures(cells: list[str]) -> list[str]:
    """Return four figures; a single figure followed by empty cells applies to all four."""
    return [cells[0]] * SCALES if not any(cells[1:]) else cells


def _name(cell: str) -> str:
    found = _CODE.fullmatch(cell)
    if found is None:
        raise ValueError(f"{cell!r} is not in backquotes")
    return found[1]


def _number(cell: str) -> float:
    return float(cell.replace(",", ""))


def _format_number(value: float) -> str:
    """Return a figure as text; with at most six significant digits if it is not whole."""
    if value == int(value):
        return f"{int(value):,}"
    return f"{value:,.0f}" if value >= _LARGEST_WITH_CENTS else f"{value:.6g}"


def _format_dollars(value: float) -> str:
    return "0" if value == 0 else "below 0.01" if value < _SMALLEST else f"{value:,.2f}"


def main(arguments: list[str] | None = None) -> int:
    """Check the page's figures, or write the calculated ones; return 1 if they differ or a row is wrong."""
    parser = argparse.ArgumentParser(prog="python -m infra.cost_estimate", description=__doc__)
    parser.add_argument("--write", action="store_true", help="write the calculated figures to the page")
    options = parser.parse_args(arguments)
    before = PAGE.read_text(encoding="utf-8")
    try:
        after = recomputed(before)
    except SheetError as error:
        sys.stderr.write(f"{PAGE}: {error}\n")
        return 1
    if options.write:
        PAGE.write_text(after, encoding="utf-8")
    elif after != before:
        sys.stderr.write(f"The figures of {PAGE} do not match its prices. Run this again with --write.\n")
        return 1
    sys.stdout.write(f"The figures of {PAGE} match its prices and quantities.\n")
    return 0


if __name__ == "__main__":
    sys.exit(main())
