"""A batch's way into the online table: its parts written or found written, read back, and reported."""

from __future__ import annotations

from typing import TYPE_CHECKING

from glue_scripts.dynamodb.acknowledgement import Acknowledgement
from glue_scripts.dynamodb.part_writer import (
    OnlineTask,
    PartWritten,
    accepted_rows,
    is_in_sample,
    verify_part,
    write_part,
)
from glue_scripts.dynamodb.table_scan import scan_for_extras
from glue_scripts.errors import LoadFailedError
from glue_scripts.files.part_lines import sources
from glue_scripts.files.survey import NOTHING
from prediction_contract.manifests.load_report import StoreReport
from prediction_contract.naming.s3_layout import acknowledgement_key
from prediction_contract.rows.checksums import batch_checksum

if TYPE_CHECKING:
    from collections.abc import Iterator

    from glue_scripts.engine import Engine
    from glue_scripts.files.survey import Survey
    from glue_scripts.progress import Progress
    from prediction_contract.jobs.job_arguments import LoadArguments
    from prediction_contract.manifests.manifest import Manifest
    from prediction_contract.rows.checksums import RowTally
    from prediction_contract.rows.row import Row


class OnlineLoad:
    """The load of one batch into its online table.

    Args:
        arguments: The load's.
        manifest: The validated manifest.
        survey: What its parts hold.
        engine: Runs the parts.
        progress: Where the steps are told.

    Attributes:
        written: By part, in the manifest's order, once `write` has ended.
    """

    def __init__(
        self,
        arguments: LoadArguments,
        manifest: Manifest,
        survey: Survey,
        engine: Engine,
        progress: Progress,
    ) -> None:
        self._arguments = arguments
        self._survey = survey
        self._engine = engine
        self._progress = progress
        self._tasks = self._made_tasks(manifest)
        self._verified = 0
        self._scan_units: float | None = None
        self.written: list[PartWritten] = []

    def write(self) -> None:
        """Write every part, or find it written by an earlier attempt.

        Raises:
            LoadFailedError: DynamoDB does not have all of them; it says which.
        """
        with self._progress.step("write_online", self._survey.accepted.rows):
            for part, one in zip(self._survey.parts, self._engine.run(write_part, self._tasks), strict=True):
                if one.acknowledged != part.accepted:
                    raise LoadFailedError(
                        f"DynamoDB acknowledged {_told(one.acknowledged)} of {part.key}, and "
                        f"{_told(part.accepted)} were accepted",
                        remedy="Find out who changed the part while it was read, then load the batch again",
                        model=self._arguments.model,
                        batch_id=self._arguments.batch_id,
                    )
                self.written.append(one)
                self._progress.advance(one.acknowledged.rows)

    def rows_to_verify(self) -> Iterator[Row]:
        """Yield the accepted rows that are read back from a store."""
        verify = self._arguments.verify
        return (
            row for task in self._tasks for row in accepted_rows(task.source) if is_in_sample(row, verify)
        )

    def verify(self) -> None:
        """Read back what was written; of a part that was found written every row was read already.

        Raises:
            LoadFailedError: A row is missing or altered; with `verify: scan`, or there is one too many.
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
                    self._arguments, self._tasks, self._engine, self._survey.accepted.rows
                )

    @property
    def expire_at(self) -> int:
        """Until when all of the batch's items live, seconds since 1970."""
        return min((one.expire_at for one in self.written), default=self._arguments.items_expire_at)

    def report(self) -> StoreReport:
        """Return what the table holds now, and what it took."""
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

    def _made_tasks(self, manifest: Manifest) -> list[OnlineTask]:
        arguments = self._arguments
        at_once = max(1, min(self._engine.concurrency, len(manifest.json_parts)))
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
                    manifest_digest=manifest.digest,
                    part=source.part.key,
                    table=arguments.online_table,
                    items_expire_at=arguments.items_expire_at,
                    attempt=arguments.load_attempt,
                ),
            )
            for number, source in enumerate(sources(manifest, self._survey.duplicates, self._survey.cleaning))
        ]


def _told(tally: RowTally) -> str:
    return f"{tally.rows} rows with the checksum {batch_checksum([tally.checksum])}"
