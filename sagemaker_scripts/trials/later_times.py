"""Finds times after a partition's start in sources that do not tell when their rows became known."""

# PyArrow creates its compute functions when it is imported.
# pyright: reportAttributeAccessIssue=false

from __future__ import annotations

from collections.abc import Mapping, Sequence
from typing import NamedTuple

import pyarrow as pa
import pyarrow.compute as pc

from prediction_contract.jobs.model_inputs import Source
from prediction_contract.naming.batch import Partition

_MOMENT = pa.timestamp("us", "UTC")


class LaterTimes(NamedTuple):
    """Rows of one column's later times; they may have become known too late for the partition.

    Attributes:
        source: The source's name.
        column: A column of times.
        rows: The number of rows whose time is not before the partition's start.
    """

    source: str
    column: str
    rows: int


def later_times(
    sources: Sequence[Source], tables: Mapping[str, pa.Table], partition: str
) -> list[LaterTimes]:
    """Return the columns with later times, except of sources with `known_at` or a reader.

    A later time is not a fault in itself: a meeting planned for tomorrow has one too.

    Args:
        sources: The model's sources.
        tables: The tables for its functions, by the source's name.
        partition: The partition.
    """
    start = pa.scalar(Partition(partition).start, _MOMENT)
    found = []
    for source in sources:
        if source.known_at is not None or source.format == "reader":
            continue
        table = tables[source.name]
        for column in table.schema:
            if pa.types.is_timestamp(column.type):
                moments = table[column.name].cast(_MOMENT, safe=False)
                later = pc.sum(pc.greater_equal(moments, start)).as_py() or 0
                found.append(LaterTimes(source.name, column.name, int(later)))
    return [each for each in found if each.rows]
