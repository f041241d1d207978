"""Moves a serving region to home's live batch once its replica is verified to hold the whole batch."""

from __future__ import annotations

from collections.abc import Callable
from dataclasses import dataclass
from datetime import datetime, timedelta
from enum import StrEnum
from typing import Any

from mlpipe_dagster.done_files.registration import registered_batch, registered_manifest
from mlpipe_dagster.loading.load_coordinator import load_report
from mlpipe_dagster.loading.online_count import count_online
from mlpipe_dagster.loading.reconciliation import StoreBalance
from mlpipe_dagster.resources.data_bucket import DataBucket
from prediction_contract.cleaning.cleaning_rules import recorded_cleaning
from prediction_contract.errors import RuleViolationError
from prediction_contract.naming.resource_names import Deployment
from prediction_contract.registry.load_rules import confirm_region
from prediction_contract.registry.publication_rules import follow_home
from prediction_contract.registry.records import BatchRecord, LivePointer, LivePointers
from prediction_contract.registry.table import RegistryTable
from prediction_contract.registry.transaction import Transaction
from prediction_contract.rows.checksums import RowTally
from prediction_contract.text.utc_time import parse_utc

# Only the replica itself can show that it is complete, so all rows are looked up in all but huge batches.
MAX_REPLICA_LINES = 1_000_000
_COUNT_SECONDS = 1800.0


class FollowStep(StrEnum):
    """The outcome of an attempt to let a region follow."""

    NOTHING_PUBLISHED = "nothing_published"
    IN_STEP = "in_step"
    FOLLOWED = "followed"
    INCOMPLETE = "incomplete"
    OVERTAKEN = "overtaken"


@dataclass(frozen=True, slots=True, kw_only=True)
class FollowResult:
    """The outcome of an attempt, and how long the region has been behind.

    Attributes:
        region: The serving region.
        step: The outcome.
        home_batch_id: The batch that home serves.
        region_batch_id: The batch that the region serves now.
        behind: How long home has served another batch than the region; zero in step.
        faults: The replica's faults, each as a sentence without a full stop.
    """

    region: str
    step: FollowStep
    home_batch_id: str | None
    region_batch_id: str | None
    behind: timedelta
    faults: tuple[str, ...] = ()


def is_in_step(live_pointers: LivePointers, region: str) -> bool:
    """Return whether a region serves the same publication as home."""
    home, pointer = live_pointers.home, live_pointers.regions.get(region)
    if home is None or home.batch_id is None:
        return True
    return pointer is not None and (pointer.batch_id, pointer.sequence) == (home.batch_id, home.sequence)


@dataclass(frozen=True, slots=True, kw_only=True)
class RegionFollower:
    """Lets one serving region follow home for one model.

    Attributes:
        model: The model's name.
        region: The serving region.
        deployment: The deployment of the home region.
        registry: The registry in the home region.
        bucket: The bucket of manifests, parts and reports.
        replica: A boto3 DynamoDB client of the serving region.
        clock: Returns the current time.
        most_lines: All rows of batches up to this size are looked up; of larger ones only some.
    """

    model: str
    region: str
    deployment: Deployment
    registry: RegistryTable
    bucket: DataBucket
    replica: Any
    clock: Callable[[], datetime]
    most_lines: int = MAX_REPLICA_LINES

    def follow(self) -> FollowResult:
        """Count the live batch in the region's replica, record that it is complete, and move the pointer.

        Repeating this changes nothing. If the replica lacks rows, the next attempt counts again.

        Raises:
            RegistryUnavailableError: The registry did not take the change in time.
            OnlineTableBusyError: The replica throttled for too long, or the count did not end in time.
        """
        live_pointers = self._live_pointers()
        if live_pointers.home is None or live_pointers.home.batch_id is None:
            return self._result(FollowStep.NOTHING_PUBLISHED, live_pointers)
        record = registered_batch(self.registry, self.model, live_pointers.home.batch_id)
        try:
            if self.region not in record.verified_regions:
                faults = self.replica_faults(record)
                if faults:
                    return self._result(FollowStep.INCOMPLETE, live_pointers, faults)
                self.registry.carry_out(
                    # The record from before the count, so that a load verified in between is counted again.
                    lambda: confirm_region(record, region=self.region, attempt=record.verified_attempt or 0)
                )
            if is_in_step(live_pointers, self.region):
                return self._result(FollowStep.IN_STEP, live_pointers)
            self.registry.carry_out(lambda: self._move(record.batch_id))
        except RuleViolationError as violation:
            return self._result(FollowStep.OVERTAKEN, self._live_pointers(), (violation.what,))
        return self._result(FollowStep.FOLLOWED, self._live_pointers())

    def replica_faults(self, record: BatchRecord) -> tuple[str, ...]:
        """Look up a verified load's rows in the replica and return the faults.

        Items of an earlier load do not count.
        """
        attempt = record.verified_attempt or 0
        report = load_report(self.bucket, self.model, record.batch_id, attempt)
        if report.dynamodb is None:
            return (f"the report of load {attempt} has no result for DynamoDB",)
        count = count_online(
            self.bucket,
            self.replica,
            self.deployment.online_table(self.model),
            registered_manifest(self.bucket, record),
            cleaning=recorded_cleaning(record.cleaning),
            most_lines=self.most_lines,
            within_seconds=_COUNT_SECONDS,
            expires_not_before=report.items_expire_at,
        )
        return StoreBalance(
            store=f"DynamoDB's replica in {self.region}",
            promised=RowTally(rows=record.row_count, checksum=int(record.checksum)),
            stored=count.found if count.is_whole else report.dynamodb.rows,
            quarantined=report.quarantine.rows,
            read_back=0,
            must_read_back=False,
            looked_up=count.asked,
            missing=0 if count.is_whole else count.asked - count.found.rows,
        ).faults

    def _move(self, batch_id: str) -> Transaction:
        live_pointers = self._live_pointers()
        record = registered_batch(self.registry, self.model, batch_id)
        return follow_home(record, live_pointers, region=self.region, now=self.clock())

    def _live_pointers(self) -> LivePointers:
        return self.registry.live_pointers(
            self.model, home_region=self.deployment.home, regions=[self.region]
        )

    def _result(
        self, step: FollowStep, live_pointers: LivePointers, faults: tuple[str, ...] = ()
    ) -> FollowResult:
        home = live_pointers.home or LivePointer(model=self.model)
        pointer = live_pointers.regions.get(self.region)
        behind = timedelta(0)
        # After a hold only the sequence differs, and readers of both regions see the same batch.
        serves_other_batch = pointer is None or pointer.batch_id != home.batch_id
        if serves_other_batch and home.batch_id and home.published_at:
            behind = self.clock() - parse_utc(home.published_at)
        return FollowResult(
            region=self.region,
            step=step,
            home_batch_id=home.batch_id,
            region_batch_id=pointer.batch_id if pointer else None,
            behind=behind,
            faults=faults,
        )
