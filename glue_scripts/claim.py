"""A job run's claim on a batch: confirmed, then completed, refused or released."""

from __future__ import annotations

from datetime import UTC, datetime, timedelta
from typing import TYPE_CHECKING, NoReturn

from glue_scripts.errors import ClaimNotHeldError
from prediction_contract.errors import RuleViolationError
from prediction_contract.registry import load_rules

if TYPE_CHECKING:
    from collections.abc import Callable

    from prediction_contract.cleaning.cleaning_rules import Cleaning
    from prediction_contract.jobs.job_arguments import LoadArguments
    from prediction_contract.registry.records import BatchRecord
    from prediction_contract.registry.table import RegistryTable
    from prediction_contract.registry.transaction import Transaction

_CLAIM_CONDITIONS = frozenset({"claim_is_ours", "claim_is_unconfirmed"})


class Claim:
    """The claim of one job run on one batch.

    Args:
        registry: The registry's table.
        arguments: The load's arguments.
        job_run_id: The job run's id.
        now: Returns the current time.
    """

    def __init__(
        self,
        registry: RegistryTable,
        arguments: LoadArguments,
        job_run_id: str,
        now: Callable[[], datetime] = lambda: datetime.now(UTC),
    ) -> None:
        self._registry = registry
        self._arguments = arguments
        self._job_run_id = job_run_id
        self._now = now

    def confirm(self) -> BatchRecord:
        """Write the job run's id into the claim; return the batch's record from before this write.

        Raises:
            ClaimNotHeldError: The claim belongs to another load or attempt; nothing was touched.
        """
        found: list[BatchRecord] = []

        def decide() -> Transaction:
            batch, arguments = self._batch(), self._arguments
            if batch.claim_token == arguments.claim_token and batch.load_attempts != arguments.load_attempt:
                self._claim_error(f"The claim is for load attempt {batch.load_attempts}")
            found.append(batch)
            return load_rules.confirm_claim(batch, token=arguments.claim_token, job_run_id=self._job_run_id)

        self._carry_out(decide)
        return found[-1]

    def begin_writing(self, cleaning: Cleaning) -> None:
        """Make the manifest and the cleaning rules final before writing the first row.

        Args:
            cleaning: The rules by which the rows were accepted or refused.

        Raises:
            ClaimNotHeldError: The claim was lost meanwhile.
            RuleViolationError: The done file was replaced meanwhile.
        """
        self._carry_out(
            lambda: load_rules.begin_writing(
                self._batch(),
                token=self._arguments.claim_token,
                manifest_digest=self._arguments.manifest_digest,
                cleaning=cleaning.to_text(),
                now=self._now(),
            )
        )

    def complete(self, expire_at: int) -> None:
        """Mark the batch as loaded and end the claim.

        Args:
            expire_at: The earliest TTL among the batch's items, seconds since 1970.

        Raises:
            ClaimNotHeldError: The claim was lost meanwhile.
        """
        self._carry_out(
            lambda: load_rules.complete_load(
                self._batch(),
                token=self._arguments.claim_token,
                expire_at=datetime.fromtimestamp(expire_at, UTC),
                now=self._now(),
                retention=self._retention(),
            )
        )

    def refuse(self, reason: str) -> None:
        """Refuse the batch and end the claim.

        Raises:
            ClaimNotHeldError: The claim was lost meanwhile.
            RuleViolationError: The batch was already verified, or its done file was replaced.
        """
        self._carry_out(
            lambda: load_rules.refuse_load(
                self._batch(),
                token=self._arguments.claim_token,
                manifest_digest=self._arguments.manifest_digest,
                reason=reason,
                now=self._now(),
                retention=self._retention(),
            )
        )

    def release(self) -> None:
        """Release the claim after a failed load.

        Raises:
            ClaimNotHeldError: The claim was lost meanwhile.
        """
        self._carry_out(lambda: load_rules.release_claim(self._batch(), token=self._arguments.claim_token))

    def _batch(self) -> BatchRecord:
        batch = self._registry.batch(self._arguments.model, self._arguments.batch_id)
        if batch is None:
            self._claim_error("The registry does not know the batch")
        return batch

    def _carry_out(self, decide: Callable[[], Transaction]) -> None:
        try:
            self._registry.carry_out(decide)
        except RuleViolationError as error:
            if error.condition in _CLAIM_CONDITIONS:
                self._claim_error(error.what, error)
            raise

    def _retention(self) -> timedelta:
        """Return how long the record must be kept: as long as the batch's items live."""
        left = datetime.fromtimestamp(self._arguments.items_expire_at, UTC) - self._now()
        return max(left, timedelta(0))

    def _claim_error(self, what: str, cause: Exception | None = None) -> NoReturn:
        raise ClaimNotHeldError(
            f"Job run {self._job_run_id} holds no claim: {what}",
            remedy="Do nothing: the load that holds the claim continues without this job run",
            model=self._arguments.model,
            batch_id=self._arguments.batch_id,
        ) from cause
