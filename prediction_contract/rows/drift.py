"""The population stability index, which measures how far a column's values moved between two batches."""

from __future__ import annotations

import math
from collections.abc import Sequence
from dataclasses import dataclass
from itertools import pairwise

MAX_BINS = 10
# With fewer rows per bin, chance alone moves the index beyond a sensible threshold.
_ROWS_PER_BIN = 20
# An empty bin would make the index infinite.
_LEAST_SHARE = 0.0001


@dataclass(frozen=True, slots=True)
class Distribution:
    """The number of rows in each bin, and of rows without a value.

    Attributes:
        counts: Rows per bin, in the order of the edges. The last bin is above the last edge.
        nulls: Rows without a value.
    """

    counts: tuple[int, ...]
    nulls: int

    @classmethod
    def of_cumulative(cls, below: Sequence[int], valued: int, rows: int) -> Distribution:
        """Return the distribution for cumulative counts.

        Args:
            below: Rows up to and including each edge.
            valued: Rows with a value.
            rows: All rows.
        """
        steps = (0, *below, valued)
        return cls(tuple(after - before for before, after in pairwise(steps)), rows - valued)

    @property
    def rows(self) -> int:
        """All rows."""
        return sum(self.counts) + self.nulls


def bins_for(rows: int) -> int:
    """Return a sensible number of bins for a number of rows; 0 if there are too few rows."""
    bins = min(MAX_BINS, rows // _ROWS_PER_BIN)
    return bins if bins > 1 else 0


def bin_fractions(bins: int) -> tuple[float, ...]:
    """Return the quantiles that divide a batch into bins with equal numbers of rows."""
    return tuple(number / bins for number in range(1, bins))


def distinct_edges(edges: Sequence[float | None]) -> tuple[float, ...]:
    """Return the sorted edges without nulls and duplicates. A column with few values has duplicates."""
    return tuple(sorted({edge for edge in edges if edge is not None}))


def stability_index(expected: Distribution, actual: Distribution) -> float:
    """Return the population stability index of two distributions over the same bins. Nulls are one more bin.

    0 means no difference. By convention, 0.1 is small and 0.25 is considerable.
    """
    if not expected.rows or not actual.rows:
        return 0.0
    index = 0.0
    for was, now in zip((*expected.counts, expected.nulls), (*actual.counts, actual.nulls), strict=True):
        if not was and not now:
            continue
        before = max(was / expected.rows, _LEAST_SHARE)
        after = max(now / actual.rows, _LEAST_SHARE)
        index += (after - before) * math.log(after / before)
    return index
