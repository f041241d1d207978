"""One load of one batch, from the confirmed claim to the report."""

from __future__ import annotations

from contextlib import ExitStack
from datetime import UTC, datetime
from typing import TYPE_CHECKING

from botocore.exceptions import BotoCoreError, ClientError

from glue_scripts.aws_clients import client, delta_storage_options
from glue_scripts.dynamodb.online_load import OnlineLoad
from glue_scripts.engine import choose_engine
from glue_scripts.errors import BatchFaultError, BatchRefusedError, ClaimNotHeldError, LoadFailedError
from glue_scripts.files.delivered_batch import DeliveredBatch, read_manifest, wait_for_files
from glue_scripts.files.delta_check import check_delta
from glue_scripts.files.survey import TooManyRefusedError, survey_batch, write_quarantine
from glue_scripts.snowflake.snowflake_connection import connected
from glue_scripts.snowflake.warehouse_loader import WarehouseLoader, query_tag
from prediction_contract.cleaning.cleaning_rules import Cleaning
from prediction_contract.errors import ContractError
from prediction_contract.manifests.load_report import (
    FAILED,
    LOADED,
    REFUSED,
    LoadReport,
    PartReport,
    QuarantineReport,
    StoreReport,
)
from prediction_contract.registry.records import LoadState
from prediction_contract.text.utc_time import format_utc

if TYPE_CHECKING:
    from typing import Any

    from glue_scripts.claim import Claim
    from glue_scripts.files.survey import Survey
    from glue_scripts.progress import Progress
    from glue_scripts.settings import LoadSettings
    from prediction_contract.registry.records import BatchRecord


class LoadJob:
    """The load of a batch by a job run that holds its claim.

    Args:
        settings: The job run's settings.
        claim: The job run's confirmed claim.
        record: The batch's record, as `claim.confirm` returned it.
        progress: Reports the steps.
    """

    def __init__(self, settings: LoadSettings, claim: Claim, record: BatchRecord, progress: Progress) -> None:
        self._settings = settings
        self._arguments = settings.arguments
        self._claim = claim
        self._record = record
        self._progress = progress
        self._started_at = format_utc(datetime.now(UTC))
        self._batch: DeliveredBatch | None = None
        self._quarantine = QuarantineReport()

    def run(self) -> LoadReport:
        """Load the batch, record the outcome in the registry and write the report to S3.

        Returns:
            The report of a load that succeeded.

        Raises:
            BatchRefusedError: The batch is faulty and was refused.
            ClaimNotHeldError: The claim was lost meanwhile; the load that holds it now continues.
            LoadFailedError: Anything else failed; the claim was released.
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
            self._batch = batch = DeliveredBatch(manifest, self._cleaning())
            wait_for_files(s3, manifest, arguments, progress)
            check_delta(s3, manifest, delta_storage_options())
        settings = self._settings
        with progress.step("prepare"):
            # Starting a Spark session takes a while, so it is a step of its own.
            engine = choose_engine(
                len(batch.sources), processes=settings.processes, has_spark=settings.has_spark
            )
        progress.watch(engine.counter)
        progress.report("engine", {"name": engine.name, "concurrency": engine.concurrency})
        with progress.step("survey", batch.expected.rows):
            survey = survey_batch(batch, engine, arguments.tolerance)
            self._quarantine = write_quarantine(s3, survey, arguments)
        progress.report("quarantine", {"rows": survey.refused.rows, "reasons": survey.reasons})
        online = OnlineLoad(arguments, survey, engine, progress)
        warehouse = self._fill_stores(batch, survey, online)
        report = self._report(
            LOADED,
            items_expire_at=online.expire_at,
            parts=tuple(
                PartReport(
                    key=part.key, read=part.read, quarantined=part.refused, acknowledged=one.acknowledged
                )
                for part, one in zip(survey.parts, online.written, strict=True)
            ),
            dynamodb=online.report(),
            snowflake=warehouse,
        )
        self._put(report)
        self._claim.complete(online.expire_at)
        return report

    def _cleaning(self) -> Cleaning:
        """Return the cleaning rules of the batch's first load, or the model's current rules if it has none.

        Raises:
            SchemaError: The rules cannot be parsed.
        """
        kept = self._record.cleaning
        return Cleaning.from_argument(self._arguments.cleaning) if kept is None else Cleaning.parse(kept)

    def _fill_stores(self, batch: DeliveredBatch, survey: Survey, online: OnlineLoad) -> StoreReport:
        """Load both stores; return the warehouse's part of the report."""
        arguments, progress = self._arguments, self._progress
        with ExitStack() as session:
            with progress.step("connect"):
                answer = client("secretsmanager").get_secret_value(SecretId=arguments.snowflake_secret)
                secret = answer.get("SecretString", "")
                tag = query_tag(arguments, self._settings.job_run_id)
                connection = session.enter_context(connected(secret, arguments, tag))
            warehouse = WarehouseLoader(connection, batch, arguments, self._settings.job_run_id)
            session.callback(warehouse.clean_up)
            # Before `begin_writing` fixes the manifest: a fault found here can still be corrected.
            with progress.step("stage"):
                warehouse.stage()
            self._claim.begin_writing(batch.cleaning)
            online.write()
            with progress.step("move"):
                stored = warehouse.move(survey, online.rows_to_verify())
        online.verify()
        return stored

    def _refused(self, fault: BatchFaultError) -> BatchRefusedError | LoadFailedError:
        """Refuse the batch and return the error to raise."""
        try:
            if self._record.load_state == LoadState.VERIFIED:
                # The batch's rows are in the stores and may be live, so it cannot be refused any more.
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
        """Release the claim and return the error to raise; rows written so far stay invisible.

        The report is written after the release: if another load took the claim over and completed, its
        report must not be overwritten.
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
            ended_at=format_utc(datetime.now(UTC)),
            expected=self._batch.expected if self._batch else None,
            quarantine=self._quarantine,
            durations=dict(self._progress.durations),
            **{"items_expire_at": arguments.items_expire_at, **members},
        )

    def _put(self, report: LoadReport) -> None:
        """Write the report with a single put, so that readers see all of it or none."""
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
        self._progress.report(
            "load_ended",
            {
                "status": report.status,
                "report_key": arguments.report_key,
                "reason": report.reason,
                "quarantined": report.quarantine.rows.rows,
                **stores,
            },
        )
