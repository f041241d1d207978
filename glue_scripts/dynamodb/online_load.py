"""Loads a batch into the online table: writes each part unless it is already there, then reads rows back."""

from __future__ import annotations

from dataclasses import dataclass, replace
from typing import TYPE_CHECKING

from glue_scripts.aws_clients import client
from glue_scripts.dynamodb.acknowledgement import Acknowledgement
from glue_scripts.dynamodb.dynamodb_endpoint import default_endpoint
from glue_scripts.dynamodb.item_writer import OnlineWriter, WriteCounts
from glue_scripts.dynamodb.read_back import DifferentRowError, compare_rows, scan_for_extras
from glue_scripts.errors import LoadFailedError
from glue_scripts.files.part_lines import PartSource, RefusedLine, accepted_rows, read_rows
from glue_scripts.files.survey import NOTHING
from glue_scripts.progress import COUNTED_ROWS, count_rows
from prediction_contract.manifests.load_report import StoreReport
from prediction_contract.naming.s3_layout import acknowledgement_key
from prediction_contract.rows.checksums import RowTally, batch_checksum
from prediction_contract.rows.row_contract import Row
from prediction_contract.stores.online_item_text import OnlineItemTexts

if TYPE_CHECKING:
    from collections.abc import Iterable, Iterator

    from glue_scripts.dynamodb.item_writer import WrittenItem
    from glue_scripts.engine import Engine
    from glue_scripts.files.survey import Survey
    from glue_scripts.progress import Progress
    from prediction_contract.jobs.job_arguments import LoadArguments

# `verify: sample` reads one row in this many back; the row's checksum decides, so the choice is stable.
SAMPLE_ONE_IN = 100


@dataclass(frozen=True, slots=True)
class OnlineTask:
    """A part to write and verify.

    Attributes:
        source: The part.
        table: The online table.
        items_expire_at: The items' TTL, seconds since 1970.
        units_per_second: The most write units to consume; None for no limit.
        verify: `full`, `sample` or `scan`.
        acknowledgement: The record to write to S3 once DynamoDB has the whole part; None for no record.
    """

    source: PartSource
    table: str
    items_expire_at: int
    units_per_second: float | None
    verify: str
    acknowledgement: Acknowledgement | None = None


@dataclass(frozen=True, slots=True)
class WrittenPart:
    """One part in the online table.

    Attributes:
        key: The part's key.
        acknowledged: The part's rows that are in the online table.
        counts: The writer's counts.
        expire_at: The earliest TTL of the part's items, seconds since 1970.
        was_found: Whether an earlier attempt had written the part, so all its rows were only read back.
    """

    key: str
    acknowledged: RowTally
    counts: WriteCounts
    expire_at: int
    was_found: bool = False


def rows_to_verify(task: OnlineTask) -> Iterator[Row]:
    """Yield the part's accepted rows that should be read back from a store."""
    every_row = task.verify != "sample"
    for row in accepted_rows(task.source, client("s3")):
        if every_row or row.checksum % SAMPLE_ONE_IN == 0:
            yield row


def write_part(task: OnlineTask) -> WrittenPart:
    """Write a part's rows into the online table, unless an earlier attempt has written them.

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
        acknowledgement.record(s3, written.acknowledged)
    return written


def _found_part(task: OnlineTask) -> WrittenPart | None:
    """Return the part if all its rows are in the table and live long enough, else None."""
    try:
        rows = accepted_rows(task.source, client("s3"))
        tally = compare_rows(task.source, task.table, task.items_expire_at, rows)
    except DifferentRowError:
        return None
    count_rows(tally.rows)
    return WrittenPart(task.source.part.key, tally, WriteCounts(), task.items_expire_at, was_found=True)


def write_rows(task: OnlineTask, rows: Iterable[Row | RefusedLine]) -> WrittenPart:
    """Write a part's accepted rows into the online table.

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
                    count_rows(COUNTED_ROWS)
                yield row.key, text(row)
        count_rows(passed % COUNTED_ROWS)

    writer = OnlineWriter(default_endpoint(), task.table, units_per_second=task.units_per_second)
    acknowledged = writer.write_items(items())
    if acknowledged != passed:
        raise LoadFailedError(
            f"{task.table} acknowledged {acknowledged} of {passed} rows of {source.part.key}",
            remedy="Load the batch again",
            model=source.model,
            batch_id=source.batch_id,
        )
    tally = RowTally(rows=passed, checksum=checksum)
    return WrittenPart(source.part.key, tally, writer.counts, task.items_expire_at)


def verify_part(task: OnlineTask) -> int:
    """Read a part's rows back and compare them with the accepted rows; return how many were compared.

    Raises:
        LoadFailedError: A row is missing or altered, or could not be read in time.
    """
    return compare_rows(task.source, task.table, task.items_expire_at, rows_to_verify(task), count_rows).rows


class OnlineLoad:
    """The load of one batch into its online table.

    Args:
        arguments: The load's arguments.
        survey: The batch's survey.
        engine: Runs the parts.
        progress: Reports the steps.

    Attributes:
        written: The written parts in the manifest's order; empty before `write`.
    """

    def __init__(self, arguments: LoadArguments, survey: Survey, engine: Engine, progress: Progress) -> None:
        self._arguments = arguments
        self._survey = survey
        self._engine = engine
        self._progress = progress
        self._tasks = self._part_tasks()
        self._verified = 0
        self._scan_units: float | None = None
        self.written: list[WrittenPart] = []

    def write(self) -> None:
        """Write every part, unless an earlier attempt has written it.

        Raises:
            LoadFailedError: DynamoDB does not have all rows of a part; the message names it.
        """
        with self._progress.step("write_online", self._survey.accepted.rows):
            for part, one in zip(self._survey.parts, self._engine.run(write_part, self._tasks), strict=True):
                if one.acknowledged != part.accepted:
                    raise LoadFailedError(
                        f"DynamoDB acknowledged {_tally_text(one.acknowledged)} of {part.key}, but "
                        f"{_tally_text(part.accepted)} were accepted",
                        remedy="Find out who changed the part while it was read, then load the batch again",
                        model=self._arguments.model,
                        batch_id=self._arguments.batch_id,
                    )
                self.written.append(one)
                self._progress.advance(one.acknowledged.rows)

    def rows_to_verify(self) -> Iterator[Row]:
        """Yield the batch's accepted rows that should be read back from a store."""
        return (row for task in self._tasks for row in rows_to_verify(task))

    def verify(self) -> None:
        """Read back the parts that this load wrote; parts of earlier attempts were already read in full.

        Raises:
            LoadFailedError: A row is missing or altered, or `verify: scan` found an extra item.
        """
        found = [one.acknowledged.rows for one in self.written if one.was_found]
        written = [task for task, one in zip(self._tasks, self.written, strict=True) if not one.was_found]
        with self._progress.step("verify_online", self._survey.accepted.rows):
            for rows in (*found, *self._engine.run(verify_part, written)):
                self._verified += rows
                self._progress.advance(rows)
        if self._arguments.verify == "scan":
            with self._progress.step("scan_online"):
                self._scan_units = scan_for_extras(
                    self._arguments, self._survey.sources, self._engine, self._survey.accepted.rows
                )

    @property
    def expire_at(self) -> int:
        """The earliest TTL of the batch's items, seconds since 1970."""
        return min((one.expire_at for one in self.written), default=self._arguments.items_expire_at)

    def report(self) -> StoreReport:
        """Return the rows that the table holds now, and what writing and verifying them took."""
        total, found = NOTHING, 0
        for one in self.written:
            total = total.plus(one.acknowledged)
            found += one.was_found and one.acknowledged.rows
        units = sum(one.counts.write_units for one in self.written)
        seconds = max(0.001, self._progress.durations["write_online"] / 1000)
        details = {
            "write_units": units,
            "write_units_per_second": round(units / seconds),
            "retried_items": sum(one.counts.retried for one in self.written),
            "found_rows": found,
        }
        if self._scan_units is not None:
            details["scan_read_units"] = round(self._scan_units)
        return StoreReport(
            table=self._arguments.online_table, rows=total, verified_rows=self._verified, details=details
        )

    def _part_tasks(self) -> list[OnlineTask]:
        arguments = self._arguments
        sources = self._survey.sources
        at_once = max(1, min(self._engine.concurrency, len(sources)))
        most = arguments.max_write_units_per_second
        return [
            OnlineTask(
                source=source,
                table=arguments.online_table,
                items_expire_at=arguments.items_expire_at,
                units_per_second=None if most is None else most / at_once,
                verify=arguments.verify,
                acknowledgement=Acknowledgement(
                    bucket=arguments.bucket,
                    key=acknowledgement_key(arguments.model, arguments.batch_id, number),
                    manifest_digest=arguments.manifest_digest,
                    part=source.part.key,
                    table=arguments.online_table,
                    items_expire_at=arguments.items_expire_at,
                    attempt=arguments.load_attempt,
                ),
            )
            for number, source in enumerate(sources)
        ]


def _tally_text(tally: RowTally) -> str:
    return f"{tally.rows} rows with checksum {batch_checksum([tally.checksum])}"
