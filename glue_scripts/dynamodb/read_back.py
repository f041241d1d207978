"""Reads the online table back: a part's rows by key, or the whole table to find extra items.

The table has no index by batch, so a scan reads the items of all batches. Only `verify: scan` does it.
"""

from __future__ import annotations

from bisect import bisect_left
from dataclasses import dataclass
from itertools import islice
from typing import TYPE_CHECKING, Any

from botocore.exceptions import BotoCoreError, ClientError

from glue_scripts.aws_clients import bulk_dynamodb, client
from glue_scripts.dynamodb.dynamodb_retries import Patience, transient_reason
from glue_scripts.errors import LoadFailedError
from glue_scripts.files.part_lines import accepted_rows
from prediction_contract.limits import MAX_BATCH_READS
from prediction_contract.rows.checksums import RowTally
from prediction_contract.rows.key_digests import DIGEST_BYTES, key_digest
from prediction_contract.stores.online_item import (
    BATCH_ATTRIBUTE,
    KEY_ATTRIBUTE,
    DamagedItemError,
    OnlineItems,
)

if TYPE_CHECKING:
    from collections.abc import Callable, Iterator, Sequence

    from glue_scripts.engine import Engine
    from glue_scripts.files.part_lines import PartSource
    from prediction_contract.jobs.job_arguments import LoadArguments
    from prediction_contract.rows.row_contract import Row

_READ_PATIENCE_SECONDS = 120.0
_SCAN_PATIENCE_SECONDS = 300.0
_SEGMENTS_EACH = 4
_NAMED_KEYS = 5
# Sorting this many digests takes about 30 MB.
_RUN_DIGESTS = 400_000


class DifferentRowError(LoadFailedError):
    """A row of the online table is missing or differs from the row that was written."""


def compare_rows(
    source: PartSource,
    table: str,
    expire_at: int,
    rows: Iterator[Row],
    count: Callable[[int], object] | None = None,
) -> RowTally:
    """Compare rows of a part with the table's items; return the number of rows and their checksum.

    Args:
        source: The part.
        table: The online table.
        expire_at: The earliest TTL that an item may have, seconds since 1970.
        rows: The rows as they should be stored.
        count: Called with the number of rows of each request.

    Raises:
        DifferentRowError: A row is missing or altered, or expires too early.
        LoadFailedError: The items could not be read in time.
    """
    items = OnlineItems(source.schema)
    verified = checksum = 0
    while expected := {row.key: row for row in islice(rows, MAX_BATCH_READS)}:
        found = {item[KEY_ATTRIBUTE]["S"]: item for item in _read_items(source, table, list(expected))}
        for key, row in expected.items():
            fault = _fault(items, row, found.get(key), source.batch_id, expire_at)
            if fault:
                raise DifferentRowError(
                    f"{table} was read back, and the row {key[:100]!r} of {source.part.key} {fault}",
                    remedy="Find out who else writes to the table, then load the batch again",
                    model=source.model,
                    batch_id=source.batch_id,
                )
            checksum += row.checksum
        verified += len(expected)
        if count is not None:
            count(len(expected))
    return RowTally(rows=verified, checksum=checksum)


def _fault(items: OnlineItems, row: Row, item: Any, batch_id: str, expire_at: int) -> str | None:
    if item is None:
        return "is missing"
    try:
        stored = items.read(item)
    except DamagedItemError as error:
        return f"is damaged: {error.what}"
    is_same = stored.row == row and stored.row_checksum == row.checksum and stored.is_intact
    if not is_same or stored.batch_id != batch_id:
        return "is not what was written"
    # Another load of the same batch may have set a later TTL, which does no harm.
    return "expires too early" if stored.expires_at < expire_at else None


def _read_items(source: PartSource, table: str, keys: list[str]) -> list[Any]:
    batch = {"S": source.batch_id}
    left: Any = [{KEY_ATTRIBUTE: {"S": key}, BATCH_ATTRIBUTE: batch} for key in keys]
    found: list[Any] = []
    patience = Patience(_READ_PATIENCE_SECONDS)
    while True:
        try:
            answer = bulk_dynamodb().batch_get_item(
                RequestItems={table: {"Keys": left, "ConsistentRead": True}}
            )
        except (ClientError, BotoCoreError) as error:
            why = transient_reason(error)
            if why is None:
                raise
        else:
            why = "UnprocessedKeys"
            found += answer["Responses"].get(table, [])
            left = answer.get("UnprocessedKeys", {}).get(table, {}).get("Keys", [])
        if not left:
            return found
        if not patience.wait():
            raise LoadFailedError(
                f"{table} did not return {len(left)} keys within {_READ_PATIENCE_SECONDS:.0f} s ({why})",
                remedy="Check the table's throttling, then load the batch again",
                model=source.model,
                batch_id=source.batch_id,
            )


@dataclass(frozen=True, slots=True)
class ScanTask:
    """A segment of a table to scan.

    Attributes:
        table: The online table.
        model: The model's name.
        batch_id: The batch whose items are counted.
        segment: The segment's number, from 0.
        segments: How many there are.
    """

    table: str
    model: str
    batch_id: str
    segment: int
    segments: int


@dataclass(frozen=True, slots=True)
class SegmentCount:
    """The number of the batch's items in a segment, and the read units that counting them took."""

    items: int
    read_units: float


def count_segment(task: ScanTask) -> SegmentCount:
    """Count the batch's items in one segment.

    Raises:
        LoadFailedError: The segment could not be read in time.
    """
    items, units = 0, 0.0
    for page in _pages(task, {"Select": "COUNT"}):
        items += page["Count"]
        units += page.get("ConsumedCapacity", {}).get("CapacityUnits", 0.0)
    return SegmentCount(items, units)


def scan_for_extras(
    arguments: LoadArguments, sources: Sequence[PartSource], engine: Engine, accepted: int
) -> float:
    """Scan the table for items of the batch that are not accepted rows; return the read units consumed.

    Args:
        arguments: The load's arguments.
        sources: The parts; their rows must have been read back before.
        engine: Runs the segments.
        accepted: How many items of the batch the table should hold.

    Raises:
        LoadFailedError: The table holds more or fewer items; the message names the first extra ones.
    """
    table, model, batch_id = arguments.online_table, arguments.model, arguments.batch_id
    segments = engine.concurrency * _SEGMENTS_EACH
    scans = [ScanTask(table, model, batch_id, number, segments) for number in range(segments)]
    counts = list(engine.run(count_segment, scans))
    found = sum(count.items for count in counts)
    if found != accepted:
        extras = [] if found < accepted else list(islice(_extras(sources, scans), _NAMED_KEYS))
        named = f": {', '.join(key[:80] for key in extras)}" if extras else ""
        raise LoadFailedError(
            f"{table} was scanned and holds {found} items of the batch, which has {accepted} rows{named}",
            remedy="Find out who else writes to the table, delete the extra items, then load the batch again",
            model=model,
            batch_id=batch_id,
        )
    return sum(count.read_units for count in counts)


def _extras(sources: Sequence[PartSource], scans: Sequence[ScanTask]) -> Iterator[str]:
    """Yield the keys of the batch's items that are not accepted rows."""
    keys = (row.key for source in sources for row in accepted_rows(source, client("s3")))
    digests, runs = map(key_digest, keys), list[bytes]()
    while run := sorted(islice(digests, _RUN_DIGESTS)):
        runs.append(b"".join(run))
    for scan in scans:
        for page in _pages(scan, {"ProjectionExpression": KEY_ATTRIBUTE}):
            for item in page["Items"]:
                digest = key_digest(item[KEY_ATTRIBUTE]["S"])
                if not any(_contains(run, digest) for run in runs):
                    yield item[KEY_ATTRIBUTE]["S"]


def _contains(run: bytes, digest: bytes) -> bool:
    """Return whether a sorted run of joined digests contains this one."""
    starts = range(0, len(run), DIGEST_BYTES)
    found = bisect_left(starts, digest, key=lambda start: run[start : start + DIGEST_BYTES]) * DIGEST_BYTES
    return run[found : found + DIGEST_BYTES] == digest


def _pages(task: ScanTask, wanted: dict[str, str]) -> Iterator[Any]:
    """Yield the segment's pages; each request is retried until a deadline."""
    request: dict[str, Any] = {
        "TableName": task.table,
        "Segment": task.segment,
        "TotalSegments": task.segments,
        "ConsistentRead": True,
        "FilterExpression": f"{BATCH_ATTRIBUTE} = :batch",
        "ExpressionAttributeValues": {":batch": {"S": task.batch_id}},
        "ReturnConsumedCapacity": "TOTAL",
        **wanted,
    }
    while True:
        answer = _scan(task, request)
        yield answer
        if "LastEvaluatedKey" not in answer:
            return
        request["ExclusiveStartKey"] = answer["LastEvaluatedKey"]


def _scan(task: ScanTask, request: dict[str, Any]) -> Any:
    patience = Patience(_SCAN_PATIENCE_SECONDS)
    while True:
        try:
            return bulk_dynamodb().scan(**request)
        except (ClientError, BotoCoreError) as error:
            why = transient_reason(error)
            if why is None:
                raise
        if not patience.wait():
            raise LoadFailedError(
                f"{task.table} could not be scanned within {_SCAN_PATIENCE_SECONDS:.0f} s ({why})",
                remedy="Check the table's throttling, then load the batch again",
                model=task.model,
                batch_id=task.batch_id,
            )
