"""Loads a batch with one Glue job run at a time; a later run continues where a crashed one stopped."""

from __future__ import annotations

import uuid
from collections.abc import Callable, Iterator, Mapping
from dataclasses import dataclass
from datetime import UTC, datetime, timedelta
from typing import TYPE_CHECKING, Any

from mlpipe_dagster.done_files.registration import registered_batch
from mlpipe_dagster.job_clients.job_errors import GlueJobError, JobDeadlineError
from mlpipe_dagster.pipeline.retries import intent_of
from mlpipe_dagster.resources.data_bucket import DataBucket
from mlpipe_dagster.settings import Settings
from model_declaration.declaration import ModelDeclaration
from prediction_contract.errors import ContractError, RuleViolationError
from prediction_contract.jobs.job_arguments import LoadArguments
from prediction_contract.manifests.load_report import LoadReport
from prediction_contract.naming.s3_layout import report_key
from prediction_contract.registry.load_rules import claim_load, release_claim
from prediction_contract.registry.records import BatchRecord, LoadState
from prediction_contract.registry.table import RegistryTable
from prediction_contract.registry.transaction import Transaction
from prediction_contract.text.utc_time import parse_utc

if TYPE_CHECKING:
    from mlpipe_dagster.job_clients.glue_client import PipesGlueJobClient
    from mlpipe_dagster.job_clients.pipes_job_client import Context

# A job run must confirm its claim within this time; attempts to start it end earlier.
_CONFIRM_WITHIN = timedelta(minutes=20)
_START_WITHIN_SECONDS = 15 * 60
# In a claim's token, separates the run's intent from the unique part.
_INTENT_SEPARATOR = "."


class BatchNotLoadableError(ContractError):
    """The batch was refused or retired; loading it again would not help."""


class LoadIncompleteError(ContractError):
    """A load ended without a complete report; the batch can be loaded again."""


@dataclass(frozen=True, slots=True)
class CompleteLoad:
    """A load that wrote the whole batch to both stores.

    Attributes:
        record: The batch's record when the load ended.
        job_metadata: Dagster metadata of the job run; empty if it ended before this run began.
    """

    record: BatchRecord
    job_metadata: Mapping[str, Any]


@dataclass(frozen=True, kw_only=True)
class LoadCoordinator:
    """Loads a batch of one model.

    Attributes:
        declaration: The model's declaration.
        settings: The deployment's settings.
        registry: The registry, which records the claims.
        glue: The client that runs the job.
        clock: Returns the current time; tests pass their own.
    """

    declaration: ModelDeclaration
    settings: Settings
    registry: RegistryTable
    glue: PipesGlueJobClient
    clock: Callable[[], datetime] = lambda: datetime.now(UTC)

    def run(self, context: Context, record: BatchRecord, *, above_attempt: int = 0) -> CompleteLoad:
        """Load a batch, unless it is loaded already.

        Args:
            context: The step's context.
            record: The batch's record, just read.
            above_attempt: Load again unless a later attempt than this is complete, for example to extend the
                life of the batch's items; 0 accepts any. A retry passes the same number, so it accepts the
                load of its predecessor.

        Raises:
            BatchNotLoadableError: The batch was refused or retired.
            LoadIncompleteError: A job run ended without a complete load.
            GlueJobError: The job run failed, or could not be started.
            JobDeadlineError: A job run did not end in time.
            JobApiError: Glue did not answer for too long.
        """
        intent, _ = intent_of(context.instance, context.run)
        try:
            return self._run(context, record, intent, above_attempt)
        except JobDeadlineError:
            self._release_unconfirmed(context, record, intent)
            raise
        except Exception:
            raise
        except BaseException:
            # The run was cancelled.
            self._release_unconfirmed(context, record, intent)
            raise

    def _run(self, context: Context, first: BatchRecord, intent: str, above_attempt: int) -> CompleteLoad:
        job_metadata: Mapping[str, Any] = {}
        ended_job_run_id: str | None = None
        claimed: BatchRecord | None = None
        for record in self._records(first):
            if record.claim_token is None and complete_attempt(record) > above_attempt:
                return CompleteLoad(record, job_metadata)
            if claimed is not None and record.claim_token == claimed.claim_token:
                self._release(claimed)
                raise LoadIncompleteError(
                    "The Glue job run succeeded but did not complete the load",
                    remedy="Read its log, and load the batch again",
                    model=record.model,
                    batch_id=record.batch_id,
                )
            claimed = None
            if record.claim_token is not None and record.claim_job_run_id not in {None, ended_job_run_id}:
                ended_job_run_id = str(record.claim_job_run_id)
                job_metadata = self._wait(
                    context, record, ended_job_run_id, is_ours=_is_claimed_by(intent, record)
                )
            elif (
                record.claim_token is not None
                and record.claim_job_run_id is None
                and self._may_be_confirmed(record)
            ):
                context.log.info(
                    "Another run has claimed the load of %s until %s",
                    record.batch_id,
                    record.claim_confirm_by,
                )
            elif claimed := self._claim(record, intent, ended_job_run_id):
                job_metadata = self._start(context, claimed)
        raise AssertionError("the records end by raising")

    def _records(self, first: BatchRecord) -> Iterator[BatchRecord]:
        """Yield the given record, then read it again after each pause: other runs may load it, too."""
        record: BatchRecord | None = first
        for _ in self.glue.polling.pauses(f"The load of {first.batch_id}"):
            yield _loadable(record) if record else self._read(first)
            record = None

    def _wait(
        self, context: Context, record: BatchRecord, job_run_id: str, *, is_ours: bool
    ) -> Mapping[str, Any]:
        """Wait for the job run that holds the claim; return its metadata."""
        job, batch_id = self.settings.deployment.load_job, record.batch_id
        context.log.info("Glue job run %s is already loading %s: waiting for its end", job_run_id, batch_id)
        job_run = self.glue.wait(context=context, job_name=job, job_run_id=job_run_id, is_ours=is_ours)
        return {} if job_run is None else self.glue.metadata(job_run)

    def job_metadata(self, job_run_id: str) -> Mapping[str, Any]:
        """Return Dagster metadata of a finished job run; empty if Glue no longer knows it."""
        job_run = self.glue.find(self.settings.deployment.load_job, job_run_id)
        return {} if job_run is None else self.glue.metadata(job_run)

    def _release_unconfirmed(self, context: Context, seen: BatchRecord, intent: str) -> None:
        """Give up the claim of this intent if no job run has confirmed it, so nobody waits for its end.

        A job run of that claim that starts anyway finds the claim gone, and exits before it writes anything;
        so does one that confirms it at this moment. A confirmed claim is left alone: its job
        run is being stopped, and the next load waits for its end.
        """

        def decide() -> Transaction:
            record = self.registry.batch(seen.model, seen.batch_id)
            if record is None or not _is_claimed_by(intent, record) or record.claim_job_run_id is not None:
                return Transaction(seen.model, seen.batch_id)
            return release_claim(record, token=str(record.claim_token))

        try:
            if self._carry_out_release(decide):
                context.log.info("The claim on the load of %s was released", seen.batch_id)
        except Exception as error:  # noqa: BLE001  # the cancellation is what must come through
            context.log.warning(
                "The claim on the load of %s could not be released and stays until it expires: %s",
                seen.batch_id,
                error,
            )

    def _may_be_confirmed(self, record: BatchRecord) -> bool:
        """Return whether a job run still has time to confirm the claim."""
        return record.claim_confirm_by is not None and parse_utc(record.claim_confirm_by) >= self.clock()

    def _read(self, seen: BatchRecord) -> BatchRecord:
        return _loadable(registered_batch(self.registry, seen.model, seen.batch_id))

    def _claim(self, seen: BatchRecord, intent: str, ended_job_run_id: str | None) -> BatchRecord | None:
        """Claim the load; return the record with the claim, or None if another run was faster."""
        token = f"{intent}{_INTENT_SEPARATOR}{uuid.uuid4().hex}"

        def decide() -> Transaction:
            now = self.clock()
            return claim_load(
                self._read(seen),
                token=token,
                confirm_by=now + _CONFIRM_WITHIN,
                now=now,
                ended_job_run_id=ended_job_run_id,
            )

        try:
            self.registry.carry_out(decide)
        except RuleViolationError as violation:
            if violation.condition != "no_load_is_claimed":
                raise
        # The answer to our own claim may have been lost; the token shows whether it is ours.
        record = self._read(seen)
        return record if record.claim_token == token else None

    def _start(self, context: Context, claimed: BatchRecord) -> Mapping[str, Any]:
        arguments = self._arguments(claimed, context.run.run_id)
        try:
            invocation = self.glue.run(
                context=context,
                start_job_run_params={
                    "JobName": self.settings.deployment.load_job,
                    "Arguments": arguments.glue_arguments(),
                },
                start_within_seconds=_START_WITHIN_SECONDS,
            )
        except GlueJobError:
            # No job run will use the claim, so the next attempt need not wait for its expiry.
            self._release(claimed)
            raise
        return invocation.metadata

    def _release(self, claimed: BatchRecord) -> None:
        """Give up our claim, unless the job run ended it. If it refused the batch, report its reason.

        Raises:
            BatchNotLoadableError: The job run refused the batch.
        """
        self._carry_out_release(lambda: release_claim(self._read(claimed), token=str(claimed.claim_token)))

    def _carry_out_release(self, decide: Callable[[], Transaction]) -> bool:
        """Release a claim; return True as well if it was already given up."""
        try:
            return self.registry.carry_out(decide)
        except RuleViolationError as violation:
            if violation.condition != "claim_is_ours":
                raise
            return True

    def _arguments(self, claimed: BatchRecord, run_id: str) -> LoadArguments:
        deployment, declaration = self.settings.deployment, self.declaration
        expire_at = self.clock() + timedelta(days=declaration.retention.items_days)
        snowflake, tolerance = self.settings.snowflake, declaration.quality.tolerance
        return LoadArguments(
            model=claimed.model,
            batch_id=claimed.batch_id,
            bucket=self.settings.data_bucket,
            manifest_key=claimed.manifest_key,
            manifest_digest=claimed.manifest_digest,
            claim_token=str(claimed.claim_token),
            load_attempt=claimed.load_attempts,
            registry_table=deployment.registry_table,
            online_table=deployment.online_table(claimed.model),
            items_expire_at=int(expire_at.timestamp()),
            snowflake_secret=deployment.snowflake_secret,
            snowflake_database=snowflake.database,
            snowflake_schema=snowflake.schema,
            snowflake_warehouse=snowflake.warehouse,
            snowflake_stage=deployment.snowflake_stage,
            snowflake_integration=deployment.snowflake_integration,
            report_key=report_key(claimed.model, claimed.batch_id, claimed.load_attempts),
            verify=declaration.quality.verification(claimed.row_count),
            quarantine_rows=tolerance.rows,
            quarantine_rate=tolerance.rate,
            # If an earlier load of the batch recorded its rules, those are used instead.
            cleaning=declaration.cleaning_rules.to_argument(),
            dagster_run_id=run_id,
            max_write_units_per_second=declaration.loading.max_write_units_per_second,
            wait_minutes=declaration.loading.wait_minutes,
        )


def _loadable(record: BatchRecord) -> BatchRecord:
    """Return the record of a batch that may be loaded.

    Raises:
        BatchNotLoadableError: The batch was refused or retired.
    """
    if record.load_state in {LoadState.REFUSED, LoadState.RETIRED}:
        raise BatchNotLoadableError(
            f"The batch is {record.load_state}: {record.refusal_reason or 'its retention has ended'}"[:1500],
            remedy="Score the partition again or deliver a new batch; correct the cause of a refusal first",
            model=record.model,
            batch_id=record.batch_id,
        )
    return record


def _is_claimed_by(intent: str, record: BatchRecord) -> bool:
    """Return whether a run with the same intent, this one or an earlier one, claimed the load."""
    return (record.claim_token or "").startswith(f"{intent}{_INTENT_SEPARATOR}")


def complete_attempt(record: BatchRecord) -> int:
    """Return the attempt of a batch's last complete load; 0 if there is none."""
    return record.unverified_attempt or record.verified_attempt or 0


def load_report(bucket: DataBucket, model: str, batch_id: str, attempt: int) -> LoadReport:
    """Return the report of one attempt to load a batch.

    Raises:
        ObjectMissingError: There is no such report.
        InvalidReportError: This release cannot read it.
    """
    return LoadReport.parse(bucket.read(report_key(model, batch_id, attempt)))
