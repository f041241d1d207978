"""One part on its way into the online table, and back: written, or found written, then read and compared."""

from __future__ import annotations

from dataclasses import dataclass, replace
from itertools import islice
from typing import TYPE_CHECKING, Any

from botocore.exceptions import BotoCoreError, ClientError

from glue_scripts.aws_clients import bulk_dynamodb, client, dynamodb_endpoint
from glue_scripts.dynamodb.dynamodb_retries import Patience, passing_reason
from glue_scripts.dynamodb.item_writer import OnlineWriter, WriteCounts
from glue_scripts.errors import LoadFailedError
from glue_scripts.files.part_lines import PartSource, RefusedLine, read_rows
from glue_scripts.row_counter import COUNTED_ROWS, came_through
from prediction_contract.limits import MAX_BATCH_READS
from prediction_contract.rows.checksums import RowTally
from prediction_contract.rows.row import Row
from prediction_contract.stores.online_item import (
    BATCH_ATTRIBUTE,
    KEY_ATTRIBUTE,
    DamagedItemError,
    OnlineItems,
)
from prediction_contract.stores.online_item_text import OnlineItemTexts

if TYPE_CHECKING:
    from collections.abc import Callable, Iterable, Iterator

    from glue_scripts.dynamodb.acknowledgement import Acknowledgement
    from glue_scripts.dynamodb.item_writer import WrittenItem

_READ_PATIENCE_SECONDS = 120.0
# One row in so many is read back by `verify: sample`; chosen by the row itself, so the same ones each time.
SAMPLE_ONE_IN = 100


@dataclass(frozen=True, slots=True)
class OnlineTask:
    """A part to write or to compare.

    Attributes:
        source: The part.
        table: The online table.
        items_expire_at: The items' TTL, seconds since 1970.
        units_per_second: The most write units to consume; None for no limit.
        verify: `full`, `sample` or `scan`.
        acknowledgement: What is left on S3 once DynamoDB has all of the part; None for nothing.
    """

    source: PartSource
    table: str
    items_expire_at: int
    units_per_second: float | None
    verify: str
    acknowledgement: Acknowledgement | None = None


@dataclass(frozen=True, slots=True)
class PartWritten:
    """What DynamoDB took of one part.

    Attributes:
        key: The part's key.
        acknowledged: Its rows that are in the online table.
        counts: What was written.
        expire_at: The TTL that each of its items has at least, seconds since 1970.
        was_found: Whether an earlier attempt had written it: all its rows were read back instead.
    """

    key: str
    acknowledged: RowTally
    counts: WriteCounts
    expire_at: int
    was_found: bool = False


class DifferentRowError(LoadFailedError):
    """A row of the online table is missing, or is not the one that was written."""


def accepted_rows(source: PartSource) -> Iterator[Row]:
    """Yield a part's rows that both stores hold, in order."""
    return (row for row in read_rows(source, client("s3")) if not isinstance(row, RefusedLine))


def is_in_sample(row: Row, verify: str) -> bool:
    """Return whether a row is to be read back."""
    return verify != "sample" or row.checksum % SAMPLE_ONE_IN == 0


def write_part(task: OnlineTask) -> PartWritten:
    """Write a part's rows into the online table, or find that an earlier attempt at the batch has done so.

    Raises:
        LoadFailedError: As `OnlineWriter.write_items`.
    """
    s3, acknowledgement = client("s3"), task.acknowledgement
    expiry = acknowledgement.earlier_expiry(s3) if acknowledgement else None
    found = None if expiry is None else _found_part(replace(task, items_expire_at=expiry))
    if found is not None:
        return found
    written = write_rows(task, read_rows(task.source, s3))
    if acknowledgement is not None:
        acknowledgement.leave(s3, written.acknowledged)
    return written


def _found_part(task: OnlineTask) -> PartWritten | None:
    """Return a part whose rows are all in the table, and live long enough; None if one is not."""
    try:
        tally = _compared(task, accepted_rows(task.source))
    except DifferentRowError:
        return None
    came_through(tally.rows)
    return PartWritten(task.source.part.key, tally, WriteCounts(), task.items_expire_at, was_found=True)


def write_rows(task: OnlineTask, rows: Iterable[Row | RefusedLine]) -> PartWritten:
    """Write those of a part's rows that both stores hold into the online table.

    Raises:
        LoadFailedError: As `OnlineWriter.write_items`.
    """
    source, passed, checksum = task.source, 0, 0
    text = OnlineItemTexts(source.schema, source.batch_id, task.items_expire_at).text

    def items() -> Iterator[WrittenItem]:
        nonlocal passed, checksum
        for row in rows:
            if type(row) is Row:
                passed += 1
                checksum += row.checksum
                if not passed % COUNTED_ROWS:
                    came_through(COUNTED_ROWS)
                yield row.key, text(row)
        came_through(passed % COUNTED_ROWS)

    writer = OnlineWriter(dynamodb_endpoint(), task.table, units_per_second=task.units_per_second)
    acknowledged = writer.write_items(items())
    if acknowledged != passed:
        raise LoadFailedError(
            f"{task.table} acknowledged {acknowledged} of {passed} rows of {source.part.key}",
            remedy="Load the batch again",
            model=source.model,
            batch_id=source.batch_id,
        )
    tally = RowTally(rows=passed, checksum=checksum)
    return PartWritten(source.part.key, tally, writer.counts, task.items_expire_at)


def verify_part(task: OnlineTask) -> int:
    """Read a part's rows back and compare each with the row as it should be stored; return how many.

    Raises:
        LoadFailedError: A row is missing or altered, or could not be read in time.
    """
    rows = (row for row in accepted_rows(task.source) if is_in_sample(row, task.verify))
    return _compared(task, rows, came_through).rows


def _compared(
    task: OnlineTask, rows: Iterator[Row], count: Callable[[int], object] | None = None
) -> RowTally:
    """Compare rows with what the table holds of them; return how many there were, and their checksum.

    Raises:
        DifferentRowError: One is missing or altered, or expires too early.
        LoadFailedError: They could not be read in time.
    """
    source, items = task.source, OnlineItems(task.source.schema)
    verified = checksum = 0
    while expected := {row.key: row for row in islice(rows, MAX_BATCH_READS)}:
        found = {item[KEY_ATTRIBUTE]["S"]: item for item in _read_items(task, list(expected))}
        for key, row in expected.items():
            fault = _fault(items, row, found.get(key), task)
            if fault:
                raise DifferentRowError(
                    f"{task.table} was read back, and the row {key[:100]!r} of {source.part.key} {fault}",
                    remedy="Find out who else writes into the table, then load the batch again",
                    model=source.model,
                    batch_id=source.batch_id,
                )
            checksum += row.checksum
        verified += len(expected)
        if count is not None:
            count(len(expected))
    return RowTally(rows=verified, checksum=checksum)


def _fault(items: OnlineItems, row: Row, item: Any, task: OnlineTask) -> str | None:
    if item is None:
        return "is missing"
    try:
        stored = items.read(item)
    except DamagedItemError as error:
        return f"is damaged: {error.what}"
    is_same = stored.row == row and stored.row_checksum == row.checksum and stored.is_intact
    if not is_same or stored.batch_id != task.source.batch_id:
        return "is not what was written"
    # A later expiry is another load's of the same batch, and does no harm.
    return "expires too early" if stored.expires_at < task.items_expire_at else None


def _read_items(task: OnlineTask, keys: list[str]) -> list[Any]:
    batch = {"S": task.source.batch_id}
    left: Any = [{KEY_ATTRIBUTE: {"S": key}, BATCH_ATTRIBUTE: batch} for key in keys]
    found: list[Any] = []
    patience = Patience(_READ_PATIENCE_SECONDS)
    while True:
        try:
            answer = bulk_dynamodb().batch_get_item(
                RequestItems={task.table: {"Keys": left, "ConsistentRead": True}}
            )
        except (ClientError, BotoCoreError) as error:
            why = passing_reason(error)
            if why is None:
                raise
        else:
            why = "UnprocessedKeys"
            found += answer["Responses"].get(task.table, [])
            left = answer.get("UnprocessedKeys", {}).get(task.table, {}).get("Keys", [])
        if not left:
            return found
        if not patience.wait():
            raise LoadFailedError(
                f"{task.table} did not return {len(left)} keys within {_READ_PATIENCE_SECONDS:.0f} s ({why})",
                remedy="Look at the table's throttling, then load the batch again",
                model=task.source.model,
                batch_id=task.source.batch_id,
            )
