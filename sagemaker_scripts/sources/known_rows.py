"""Point in time: selects a source's rows that were known when a partition began."""

# PyArrow creates its compute functions when it is imported, where no type checker sees them.
# pyright: reportAttributeAccessIssue=false

from __future__ import annotations

from datetime import datetime

import pyarrow as pa
import pyarrow.compute as pc

from sagemaker_scripts.sources.source_objects import SourceError


def known_rows(rows: pa.Table, known_at: str | None, moment: datetime) -> pa.Table:
    """Return the rows that became known before a time; rows without a time are left out.

    Args:
        rows: A source's rows.
        known_at: The column with the time when a row became known; None to return all rows.
        moment: The beginning of a partition.
    """
    if known_at is None or not rows.num_rows:
        return rows
    known = _before(rows[known_at], moment)
    # Do not filter without need, because a filter copies the rows.
    return rows if pc.all(known, skip_nulls=False).as_py() else rows.filter(known)


def refuse_later_rows(rows: pa.Table, known_at: str | None, moment: datetime, who: str) -> None:
    """Refuse rows that did not become known before a time.

    Args:
        rows: The rows that a reader returned.
        known_at: As in `known_rows`.
        moment: The beginning of a partition.
        who: The origin of the rows, with which error messages begin.

    Raises:
        SourceError: A row became known later, or has no time; the error names the first such row.
    """
    if known_at is None or not rows.num_rows:
        return
    later = pc.invert(pc.fill_null(_before(rows[known_at], moment), fill_value=False))
    count = pc.sum(later).as_py() or 0
    if count:
        row = pc.index(later, value=True).as_py() + 1
        raise SourceError(
            f"{who} returned rows that were not known yet at {moment:%Y-%m-%dT%H:%MZ}, according to "
            f"{known_at}: {count} of {rows.num_rows}, first row {row}",
            remedy="Leave out these rows in the reader, or remove its point_in_time, so that the platform "
            "leaves them out",
        )


def _before(times: pa.ChunkedArray, moment: datetime) -> pa.ChunkedArray:
    kind = times.type
    # Times without a zone are UTC.
    limit = pa.scalar(moment if kind.tz is not None else moment.replace(tzinfo=None), type=kind)
    return pc.less(times, limit)
