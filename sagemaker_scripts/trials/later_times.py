"""Times from a partition's beginning on, in sources that do not say when their rows became known."""

# PyArrow makes its compute functions when it is imported.
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
    """Rows that the functions see, and that may have become known too late.

    Attributes:
        source: The source's name.
        column: A column of times.
        rows: In how many rows it is not before the partition's beginning.
    """

    source: str
    column: str
    rows: int


def later_times(
    sources: Sequence[Source], tables: Mapping[str, pa.Table], partition: str
) -> list[LaterTimes]:
    """Return the columns with later times; a reader says itself that it shows none, or has `known_at`.

    A meeting of tomorrow that is planned today is such a time as well, so this is no fault.

    Args:
        sources: The model's.
        tables: What its functions receive, by the source's name.
        partition: For which partition.
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
