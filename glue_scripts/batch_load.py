"""One load of one batch, from the confirmed claim to the end of it."""

from __future__ import annotations

from datetime import UTC, datetime
from typing import TYPE_CHECKING

from botocore.exceptions import BotoCoreError, ClientError

from glue_scripts.aws_clients import client, delta_storage_options
from glue_scripts.batch_files import check_delta, read_manifest
from glue_scripts.engine import engine_for
from glue_scripts.errors import BatchFaultError, BatchRefusedError, ClaimNotHeldError, LoadFailedError
from glue_scripts.online_table import OnlineTask, accepted_rows, is_in_sample, verify_part, write_part
from glue_scripts.part_lines import sources
from glue_scripts.quarantine import write_quarantine
from glue_scripts.snowflake_connection import connected, storage_integration
from glue_scripts.survey import NOTHING, TooManyRefusedError, allowed_refusals, survey_batch
from glue_scripts.warehouse_loader import WarehouseLoader, query_tag
from prediction_contract.canonical_json import parse_batch_checksum
from prediction_contract.errors import ContractError
from prediction_contract.load_report import (
    FAILED,
    LOADED,
    REFUSED,
    LoadReport,
    PartReport,
    QuarantineReport,
    StoreReport,
)
from prediction_contract.moments import moment_text
from prediction_contract.registry.load_rules import RowTally

if TYPE_CHECKING:
    from collections.abc import Iterator
    from typing import Any

    from glue_scripts.claim import Claim
    from glue_scripts.engine import Engine
    from glue_scripts.online_table import PartWritten
    from glue_scripts.progress import Progress
    from glue_scripts.settings import LoadSettings
    from glue_scripts.survey import Survey
    from prediction_contract.manifest import Manifest
    from prediction_contract.row import Row


class BatchLoad:
    """The load of a batch by a job run that holds its claim.

    Args:
        settings: The job run's.
        claim: Its confirmed claim.
        progress: Where it tells how it goes on.
    """

    def __init__(self, settings: LoadSettings, claim: Claim, progress: Progress) -> None:
        self._settings = settings
        self._arguments = settings.arguments
        self._claim = claim
        self._progress = progress
        self._started_at = moment_text(datetime.now(UTC))
        self._expected: RowTally | None = None
        self._quarantine = QuarantineReport()

    def run(self) -> LoadReport:
        """Load the batch; in the end the registry knows how it ended, and the report lies on S3.

        Returns:
            The report of a load that succeeded.

        Raises:
            BatchRefusedError: The batch is at fault and was refused.
            ClaimNotHeldError: The claim was lost meanwhile; whoever holds it now goes on.
            LoadFailedError: Anything else; the claim was released.
        """
        try:
            return self._load()
        except ClaimNotHeldError:
            raise
        except BatchFaultError as fault:
            raise self._refused(fault) from fault
        except Exception as error:
            raise self._failed(error) from error

    def _load(self) -> LoadReport:
        arguments, progress, s3 = self._arguments, self._progress, client("s3")
        with progress.step("validate"):
            manifest = read_manifest(s3, arguments)
            self._expected = RowTally(
                rows=manifest.row_count, checksum=parse_batch_checksum(manifest.checksum)
            )
            check_delta(s3, manifest, arguments, delta_storage_options())
        settings = self._settings
        engine = engine_for(
            len(manifest.json_parts), processes=settings.processes, has_spark=settings.has_spark
        )
        progress.watch(engine.counter)
        progress.tell("engine", {"name": engine.name, "concurrency": engine.concurrency})
        allowed = allowed_refusals(manifest.row_count, arguments.quarantine_rows, arguments.quarantine_rate)
        with progress.step("survey", manifest.row_count):
            survey = survey_batch(manifest, engine, allowed)
            self._quarantine = write_quarantine(s3, survey, arguments)
        progress.tell("quarantine", {"rows": survey.refused.rows, "reasons": survey.reasons})
        written, online, warehouse = self._fill_stores(manifest, survey, engine)
        report = self._report(
            LOADED,
            parts=tuple(
                PartReport(
                    key=part.key, read=part.read, quarantined=part.refused, acknowledged=one.acknowledged
                )
                for part, one in zip(survey.parts, written, strict=True)
            ),
            dynamodb=online,
            snowflake=warehouse,
        )
        self._put(report)
        self._claim.complete()
        return report

    def _fill_stores(
        self, manifest: Manifest, survey: Survey, engine: Engine
    ) -> tuple[list[PartWritten], StoreReport, StoreReport]:
        arguments, progress = self._arguments, self._progress
        answer = client("secretsmanager").get_secret_value(SecretId=arguments.snowflake_secret)
        secret = answer.get("SecretString", "")
        tag = query_tag(arguments, self._settings.job_run_id)
        with connected(secret, arguments, tag) as connection:
            warehouse = WarehouseLoader(
                connection,
                manifest,
                arguments,
                self._settings.job_run_id,
                integration=storage_integration(secret, arguments),
            )
            try:
                # Before the manifest is fixed: a fault found here may still be corrected under this batch id.
                with progress.step("stage"):
                    warehouse.stage()
                self._claim.begin_writing()
                tasks = self._online_tasks(manifest, survey, engine)
                with progress.step("write_online", survey.accepted.rows):
                    written = self._write_online(survey, tasks, engine)
                with progress.step("move"):
                    stored = warehouse.move(survey, self._rows_to_verify(tasks))
            finally:
                warehouse.clean_up()
        with progress.step("verify_online", survey.accepted.rows):
            verified = 0
            for rows in engine.run(verify_part, tasks):
                verified += rows
                progress.advance(rows)
        return written, self._online_report(written, verified), stored

    def _online_tasks(self, manifest: Manifest, survey: Survey, engine: Engine) -> list[OnlineTask]:
        arguments = self._arguments
        at_once = max(1, min(engine.concurrency, len(manifest.json_parts)))
        rate = None if arguments.write_rate is None else arguments.write_rate / at_once
        return [
            OnlineTask(
                source=source,
                table=arguments.online_table,
                items_expire_at=arguments.items_expire_at,
                units_per_second=rate,
                verify=arguments.verify,
            )
            for source in sources(manifest, survey.duplicates)
        ]

    def _write_online(self, survey: Survey, tasks: list[OnlineTask], engine: Engine) -> list[PartWritten]:
        written = []
        for part, one in zip(survey.parts, engine.run(write_part, tasks), strict=True):
            if one.acknowledged != part.accepted:
                raise LoadFailedError(
                    f"DynamoDB acknowledged {one.acknowledged.rows} rows of {part.key}, and "
                    f"{part.accepted.rows} were accepted",
                    remedy="Find out who changed the part while it was read, then load the batch again",
                )
            written.append(one)
            self._progress.advance(one.acknowledged.rows)
        return written

    @staticmethod
    def _rows_to_verify(tasks: list[OnlineTask]) -> Iterator[Row]:
        return (row for task in tasks for row in accepted_rows(task.source) if is_in_sample(row, task.verify))

    def _online_report(self, written: list[PartWritten], verified: int) -> StoreReport:
        total = NOTHING
        for one in written:
            total = total.plus(one.acknowledged)
        details = {
            "write_units": sum(one.counts.write_units for one in written),
            "retried_items": sum(one.counts.retried for one in written),
            "write_units_per_second": round(
                sum(one.counts.write_units for one in written)
                / max(0.001, self._progress.durations["write_online"] / 1000)
            ),
        }
        return StoreReport(
            table=self._arguments.online_table, rows=total, verified_rows=verified, details=details
        )

    def _refused(self, fault: BatchFaultError) -> BatchRefusedError | LoadFailedError:
        """Refuse the batch and return what to raise."""
        try:
            if self._claim.was_verified:
                # Its rows stand in the stores and may be live: a fault found now is this load's failure.
                return self._failed(fault)
            if isinstance(fault, TooManyRefusedError):
                self._quarantine = write_quarantine(client("s3"), fault.survey, self._arguments)
            self._put(self._report(REFUSED, reason=fault.what))
            self._claim.refuse(fault.what)
        except ClaimNotHeldError:
            raise
        except (ContractError, BotoCoreError, ClientError) as error:
            return self._failed(error)
        return BatchRefusedError(
            f"The batch is refused: {fault.what}",
            remedy=fault.remedy,
            model=self._arguments.model,
            batch_id=self._arguments.batch_id,
        )

    def _failed(self, error: Exception) -> LoadFailedError:
        """Release the claim and return what went wrong; what was written is invisible, and written again.

        The report comes second: if the claim is gone, the report of a load that did complete must stay.
        """
        what = error.what if isinstance(error, ContractError) else f"{type(error).__name__}: {error}"[:1000]
        remedy = error.remedy if isinstance(error, ContractError) else "Remove the cause and load it again"
        failure = LoadFailedError(
            f"The load failed: {what}",
            remedy=remedy,
            model=self._arguments.model,
            batch_id=self._arguments.batch_id,
        )
        try:
            self._claim.release()
            self._put(self._report(FAILED, reason=what))
        except (ContractError, BotoCoreError, ClientError) as second:
            failure.add_note(f"The claim's release or the report failed as well: {second}")
        return failure

    def _report(self, status: str, **members: Any) -> LoadReport:
        arguments = self._arguments
        return LoadReport(
            status=status,
            model=arguments.model,
            batch_id=arguments.batch_id,
            attempt=arguments.load_attempt,
            job_run_id=self._settings.job_run_id,
            manifest_digest=arguments.manifest_digest,
            started_at=self._started_at,
            ended_at=moment_text(datetime.now(UTC)),
            items_expire_at=arguments.items_expire_at,
            expected=self._expected,
            quarantine=self._quarantine,
            durations=dict(self._progress.durations),
            **members,
        )

    def _put(self, report: LoadReport) -> None:
        """Write the report, by one put, so that a reader sees all of it or none."""
        arguments = self._arguments
        client("s3").put_object(
            Bucket=arguments.bucket,
            Key=arguments.report_key,
            Body=report.to_bytes(),
            ContentType="application/json",
        )
        stores = {
            name: store.rows.rows
            for name, store in (("dynamodb", report.dynamodb), ("snowflake", report.snowflake))
            if store is not None
        }
        self._progress.tell(
            "load_ended",
            {
                "status": report.status,
                "report_key": arguments.report_key,
                "reason": report.reason,
                "quarantined": report.quarantine.rows.rows,
                **stores,
            },
        )
