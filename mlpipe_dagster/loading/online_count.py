"""Counts a batch's rows in DynamoDB, independently of the load's own report."""

from __future__ import annotations

import hashlib
import random
import time
from collections import deque
from collections.abc import Callable, Generator, Iterable, Iterator
from concurrent.futures import Future, ThreadPoolExecutor
from dataclasses import dataclass
from itertools import islice
from typing import Any

from mlpipe_dagster.resources.data_bucket import DataBucket
from prediction_contract.cleaning.cleaning_rules import NO_CLEANING, Cleaning
from prediction_contract.cleaning.row_cleaning import row_parser
from prediction_contract.errors import ContractError, InvalidRowError
from prediction_contract.limits import MAX_BATCH_READS
from prediction_contract.manifests.manifest import Manifest
from prediction_contract.rows.checksums import RowTally
from prediction_contract.rows.row_contract import Row
from prediction_contract.stores.online_item import (
    BATCH_ATTRIBUTE,
    KEY_ATTRIBUTE,
    DamagedItemError,
    OnlineItems,
)

MAX_LINES = 5_000
_MAX_PARTS = 10
_DIGEST_BYTES = 16
_COUNT_SECONDS = 600.0
# The size of botocore's connection pool.
_PARALLEL_REQUESTS = 10
_PATIENCE_SECONDS = 60.0
_LONGEST_PAUSE_SECONDS = 5.0


class OnlineTableBusyError(ContractError):
    """The online table throttles or is slow for longer than a check can wait."""


@dataclass(frozen=True, slots=True, kw_only=True)
class OnlineCount:
    """The result of looking up rows.

    Attributes:
        asked: The number of keys that were looked up.
        found: The number and checksum of the rows found, computed from the items' values. Of a large batch,
            only rows that equal those in its JSON parts count.
        is_whole: Whether all keys of the batch were looked up; of a large batch only some are.
    """

    asked: int
    found: RowTally
    is_whole: bool


def count_online(
    bucket: DataBucket,
    dynamodb: Any,
    table: str,
    manifest: Manifest,
    *,
    cleaning: Cleaning = NO_CLEANING,
    most_lines: int = MAX_LINES,
    expires_not_before: int = 0,
    within_seconds: float = _COUNT_SECONDS,
    clock: Callable[[], float] = time.monotonic,
) -> OnlineCount:
    """Look up the rows of a batch in the online table; of a large batch, some rows of several JSON parts.

    Args:
        bucket: The bucket of the JSON parts.
        dynamodb: A boto3 DynamoDB client.
        table: The online table's name.
        manifest: The batch's manifest.
        cleaning: The batch's cleaning rules.
        most_lines: The most lines to read.
        expires_not_before: Items that expire earlier belong to an earlier load and do not count; in seconds
            since 1970.
        within_seconds: The time limit of the count.
        clock: A monotonic clock in seconds; tests pass their own.

    Raises:
        ObjectMissingError: A JSON part is missing.
        OnlineTableBusyError: DynamoDB throttled for too long, or the count did not end in time.
    """
    deadline = clock() + within_seconds
    is_whole = manifest.row_count <= most_lines
    asked, rows, checksum = 0, 0, 0
    items = OnlineItems(cleaning.stored_schema(manifest.schema))
    limit = None if is_whole else most_lines
    expected = {row.key: _pack(row) for row in _rows(bucket, manifest, cleaning, limit)}
    answers = _look_up(dynamodb, table, manifest.batch_id, expected)
    for chunk, found in answers:
        asked += len(chunk)
        if clock() > deadline:
            answers.close()
            raise OnlineTableBusyError(
                f"Only {asked} of {len(expected)} rows were looked up in {table} within "
                f"{within_seconds:.0f} s",
                remedy="Check the table's throttling and latency, then try again",
                model=manifest.model,
                batch_id=manifest.batch_id,
            )
        for item in found:
            try:
                stored = items.read(item)
            except DamagedItemError:
                continue
            if stored.expires_at < expires_not_before:
                continue
            packed = expected.get(stored.row.key, b"")
            is_same = packed[:_DIGEST_BYTES] == _row_digest(stored.row)
            if not is_whole and not is_same:
                continue
            rows += 1
            # An item with other values counts with its own checksum, which matches no manifest.
            checksum += _packed_checksum(packed) if is_same else stored.row.checksum
    return OnlineCount(asked=asked, found=RowTally(rows=rows, checksum=checksum), is_whole=is_whole)


def first_stored_key(
    bucket: DataBucket,
    dynamodb: Any,
    table: str,
    manifest: Manifest,
    *,
    refused_rows: int,
    cleaning: Cleaning = NO_CLEANING,
) -> str | None:
    """Return an entity that readers must find; None if no row of the batch can be stored.

    All rows of a duplicate key are in quarantine, but its second row may be at the end of a billion rows.
    Each duplicate key has at least two refused rows, so the first `refused_rows // 2 + 1` keys include a
    stored one.

    Args:
        bucket: The bucket of the JSON parts.
        dynamodb: A boto3 DynamoDB client.
        table: The online table's name.
        manifest: The batch's manifest.
        refused_rows: The number of its rows in quarantine.
        cleaning: The batch's cleaning rules.

    Returns:
        The first key that the table holds. If it holds none of them, the batch's first key, which
        readers will not find.

    Raises:
        ObjectMissingError: A JSON part is missing.
        OnlineTableBusyError: DynamoDB throttled for too long.
    """
    keys = islice(
        _distinct(row.key for row in _rows(bucket, manifest, cleaning, None)), refused_rows // 2 + 1
    )
    first = None
    while chunk := list(islice(keys, MAX_BATCH_READS)):
        first = first or chunk[0]
        found = _items(dynamodb, table, manifest.batch_id, chunk)
        stored = {item[KEY_ATTRIBUTE]["S"] for item in found}
        if stored:
            return next(key for key in chunk if key in stored)
    return first


def _distinct(keys: Iterable[str]) -> Iterator[str]:
    seen: set[str] = set()
    for key in keys:
        if key not in seen:
            seen.add(key)
            yield key


def _rows(
    bucket: DataBucket, manifest: Manifest, cleaning: Cleaning, most_lines: int | None
) -> Iterator[Row]:
    """Yield the rows to store: those of all parts, or of the first lines of parts across the batch."""
    accept = row_parser(manifest.schema, cleaning)
    parts = manifest.json_parts
    if most_lines is not None:
        parts = parts[:: -(-len(parts) // _MAX_PARTS)]
    lines_of_each = None if most_lines is None else most_lines // len(parts)
    for part in parts:
        for line in islice(bucket.lines(part.key), lines_of_each):
            try:
                yield accept(line)
            except InvalidRowError:
                # The row is in quarantine, so no store has it.
                continue


def _pack(row: Row) -> bytes:
    """Return a row's digest and checksum, which are small enough to keep for all rows at once."""
    return _row_digest(row) + row.checksum.to_bytes(8, "big", signed=True)


def _row_digest(row: Row) -> bytes:
    return hashlib.blake2b(row.canonical, digest_size=_DIGEST_BYTES).digest()


def _packed_checksum(packed: bytes) -> int:
    return int.from_bytes(packed[_DIGEST_BYTES:], "big", signed=True)


def _look_up(
    dynamodb: Any, table: str, batch_id: str, keys: Iterable[str]
) -> Generator[tuple[list[str], list[Any]]]:
    """Yield keys with the items found under them, with several requests in parallel."""
    left, waiting = iter(keys), deque[tuple[list[str], Future[list[Any]]]]()
    with ThreadPoolExecutor(_PARALLEL_REQUESTS) as workers:
        try:
            while chunk := list(islice(left, MAX_BATCH_READS)):
                waiting.append((chunk, workers.submit(_items, dynamodb, table, batch_id, chunk)))
                # Limited to the requests in parallel, so that answers do not pile up.
                if len(waiting) == _PARALLEL_REQUESTS:
                    asked, found = waiting.popleft()
                    yield asked, found.result()
            while waiting:
                asked, found = waiting.popleft()
                yield asked, found.result()
        finally:
            for _, found in waiting:
                found.cancel()


def _items(
    dynamodb: Any,
    table: str,
    batch_id: str,
    keys: Iterable[str],
) -> list[Any]:
    left: Any = [{KEY_ATTRIBUTE: {"S": key}, BATCH_ATTRIBUTE: {"S": batch_id}} for key in keys]
    found: list[Any] = []
    deadline, pause = time.monotonic() + _PATIENCE_SECONDS, 0.05
    while True:
        answer = dynamodb.batch_get_item(RequestItems={table: {"Keys": left, "ConsistentRead": True}})
        found += answer["Responses"].get(table, [])
        left = answer.get("UnprocessedKeys", {}).get(table, {}).get("Keys", [])
        if not left:
            return found
        if time.monotonic() + pause > deadline:
            raise OnlineTableBusyError(
                f"{table} did not return {len(left)} keys within {_PATIENCE_SECONDS:.0f} s",
                remedy="Check the table's throttling, then try again",
                batch_id=batch_id,
            )
        time.sleep(random.uniform(0, pause))  # noqa: S311  # spreads load, guards nothing
        pause = min(pause * 2, _LONGEST_PAUSE_SECONDS)
