"""Looks through the whole online table for items of a batch that the batch does not have.

No index leads to a batch's items, so every item of the table is read, of all batches: only `verify: scan`
asks for it.
"""

from __future__ import annotations

from bisect import bisect_left
from dataclasses import dataclass
from itertools import islice
from typing import TYPE_CHECKING, Any

from botocore.exceptions import BotoCoreError, ClientError

from glue_scripts.aws_clients import bulk_dynamodb
from glue_scripts.dynamodb.dynamodb_retries import Patience, passing_reason
from glue_scripts.dynamodb.part_writer import accepted_rows
from glue_scripts.errors import LoadFailedError
from glue_scripts.files.duplicate_keys import KeyDigests
from glue_scripts.files.part_lines import DIGEST_BYTES, key_digest
from prediction_contract.stores.online_item import BATCH_ATTRIBUTE, KEY_ATTRIBUTE

if TYPE_CHECKING:
    from collections.abc import Iterator, Sequence

    from glue_scripts.dynamodb.part_writer import OnlineTask
    from glue_scripts.engine import Engine
    from prediction_contract.jobs.job_arguments import LoadArguments

_SEGMENTS_EACH = 4
_PATIENCE_SECONDS = 300.0
_NAMED_KEYS = 5


@dataclass(frozen=True, slots=True)
class ScanTask:
    """A segment of a table to look through.

    Attributes:
        table: The online table.
        model: The model's name.
        batch_id: The batch whose items count.
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
    """How many items of the batch a segment has, and the read units that finding out took."""

    items: int
    read_units: float


def count_segment(task: ScanTask) -> SegmentCount:
    """Count the batch's items in one segment.

    Raises:
        LoadFailedError: It could not be read in time.
    """
    items, units = 0, 0.0
    for page in _pages(task, {"Select": "COUNT"}):
        items += page["Count"]
        units += page.get("ConsumedCapacity", {}).get("CapacityUnits", 0.0)
    return SegmentCount(items, units)


def scan_for_extras(
    arguments: LoadArguments, tasks: Sequence[OnlineTask], engine: Engine, accepted: int
) -> float:
    """Look for items of the batch beside its accepted rows; return the read units it took.

    Args:
        arguments: The load's.
        tasks: The parts, whose rows were read back before.
        engine: Runs the segments.
        accepted: How many rows the batch's parts have that belong into the table.

    Raises:
        LoadFailedError: There are more items than rows, or fewer; the first extra ones are named.
    """
    table, model, batch_id = arguments.online_table, arguments.model, arguments.batch_id
    segments = engine.concurrency * _SEGMENTS_EACH
    scans = [ScanTask(table, model, batch_id, number, segments) for number in range(segments)]
    counts = list(engine.run(count_segment, scans))
    found = sum(count.items for count in counts)
    if found != accepted:
        extras = [] if found < accepted else list(islice(_extras(tasks, scans), _NAMED_KEYS))
        named = f": {', '.join(key[:80] for key in extras)}" if extras else ""
        raise LoadFailedError(
            f"{table} was scanned and holds {found} items of the batch, which has {accepted} rows{named}",
            remedy="Find out who else writes into the table, delete what is extra, then load the batch again",
            model=model,
            batch_id=batch_id,
        )
    return sum(count.read_units for count in counts)


def _extras(tasks: Sequence[OnlineTask], scans: Sequence[ScanTask]) -> Iterator[str]:
    """Yield the keys of the batch's items that are none of its rows."""
    digests = KeyDigests()
    for task in tasks:
        for row in accepted_rows(task.source):
            digests.add(key_digest(row.key))
    runs = [_Digests(run) for run in digests.runs()]
    for scan in scans:
        for page in _pages(scan, {"ProjectionExpression": KEY_ATTRIBUTE}):
            for item in page["Items"]:
                digest = key_digest(item[KEY_ATTRIBUTE]["S"])
                if not any(digest in run for run in runs):
                    yield item[KEY_ATTRIBUTE]["S"]


class _Digests:
    """A sorted run of digests, joined."""

    def __init__(self, run: bytes) -> None:
        self._run = run

    def __len__(self) -> int:
        return len(self._run) // DIGEST_BYTES

    def __getitem__(self, index: int) -> bytes:
        return self._run[index * DIGEST_BYTES : (index + 1) * DIGEST_BYTES]

    def __contains__(self, digest: bytes) -> bool:
        index = bisect_left(self, digest)
        return index < len(self) and self[index] == digest


def _pages(task: ScanTask, wanted: dict[str, str]) -> Iterator[Any]:
    """Yield the answers for one segment, each retried until a deadline."""
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
        answer = _answer(task, request)
        yield answer
        if "LastEvaluatedKey" not in answer:
            return
        request["ExclusiveStartKey"] = answer["LastEvaluatedKey"]


def _answer(task: ScanTask, request: dict[str, Any]) -> Any:
    patience = Patience(_PATIENCE_SECONDS)
    while True:
        try:
            return bulk_dynamodb().scan(**request)
        except (ClientError, BotoCoreError) as error:
            why = passing_reason(error)
            if why is None:
                raise
        if not patience.wait():
            raise LoadFailedError(
                f"{task.table} could not be scanned within {_PATIENCE_SECONDS:.0f} s ({why})",
                remedy="Look at the table's throttling, then load the batch again",
                model=task.model,
                batch_id=task.batch_id,
            )
