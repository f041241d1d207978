"""Publishing, rolling back and holding: the registry's rules carried out, and what came of it in words."""

from __future__ import annotations

from collections.abc import Callable
from dataclasses import dataclass
from datetime import datetime, timedelta
from enum import StrEnum
from typing import TYPE_CHECKING

from mlpipe_dagster.done_files.registration import registered_batch
from prediction_contract.cleaning.cleaning_rules import recorded_cleaning
from prediction_contract.errors import ContractError, RuleViolationError
from prediction_contract.manifests.manifest import Manifest
from prediction_contract.naming.resource_names import Deployment
from prediction_contract.registry import publication_rules
from prediction_contract.registry.automatic_publication import AUTOMATIC_ONLY_CONDITIONS
from prediction_contract.registry.records import (
    BatchRecord,
    ChangeRequest,
    LivePointer,
    LivePointers,
    LoadState,
    ReleaseState,
)
from prediction_contract.registry.table import RegistryTable
from prediction_contract.registry.transaction import Transaction
from prediction_contract.stores.serving_record import InvalidServingError, ServingRecord

if TYPE_CHECKING:
    from model_declaration.declaration import ModelDeclaration

# What the actor of a publication by a Dagster run begins with; the run id follows.
RUN_ACTOR = "dagster run "


class PublishingError(ContractError):
    """There is no such batch to publish, or it may not be published."""


class PublicationOutcome(StrEnum):
    """What a request came to."""

    LIVE = "live"
    HISTORY = "history"
    WAITING = "waiting"
    UNCHANGED = "unchanged"
    HELD = "held"
    RELEASED = "released"


@dataclass(frozen=True, slots=True, kw_only=True)
class PublicationResult:
    """What a request came to.

    Attributes:
        model: The model.
        outcome: `live` if the pointer moved to the batch or stood there already, `history` if the batch stays
            loaded without becoming live, `waiting` if a person must publish it, `unchanged` if it was
            carried out before; `held` and `released` of automatic publication.
        batch_id: The batch that was asked for.
        live_batch_id: The batch that is live now.
        sequence: The newest publication's number.
        hold: Whether automatic publication is stopped.
        condition: The rule that made the batch history, or empty.
        reason: The same in words.
    """

    model: str
    outcome: PublicationOutcome
    batch_id: str | None
    live_batch_id: str | None
    sequence: int
    hold: bool = False
    condition: str = ""
    reason: str = ""


@dataclass(frozen=True, slots=True, kw_only=True)
class Publisher:
    """Changes what is live of one model.

    Attributes:
        registry: The registry.
        deployment: Whose home region writes.
        declaration: The model's; its retention applies.
        serving_regions: The regions that serve beside home.
        highest_projected: The highest sequence in Snowflake, if it was read.
        clock: The present moment; tests pass their own.
    """

    registry: RegistryTable
    deployment: Deployment
    declaration: ModelDeclaration
    clock: Callable[[], datetime]
    serving_regions: tuple[str, ...] = ()
    highest_projected: int = 0

    @property
    def model(self) -> str:
        """The model's name."""
        return self.declaration.name

    def publish(self, batch_id: str, request: ChangeRequest, serving: str) -> PublicationResult:
        """Make a batch live, or leave it as history where automatic publication may not.

        Raises:
            RuleViolationError: A rule stands against it that does not merely make it history.
            UnknownBatchError: The registry does not know the batch.
            PublishingError: It failed its checks and no person decided otherwise, or the model is in shadow
                and a person did.
            RegistryUnavailableError: The registry did not take the change in time.
        """
        if kept_back := self._kept_back(batch_id, request):
            return kept_back
        try:
            changed = self.registry.carry_out(lambda: self._publish(batch_id, request, serving))
        except RuleViolationError as violation:
            pointer = self.pointer()
            if pointer and pointer.batch_id == batch_id:
                return self._result(PublicationOutcome.LIVE, batch_id, reason="The batch was live already")
            if request.automatic and violation.condition in AUTOMATIC_ONLY_CONDITIONS:
                return self._result(
                    PublicationOutcome.HISTORY, batch_id, condition=violation.condition, reason=violation.what
                )
            raise
        return self._moved(changed, batch_id)

    def roll_back(self, request: ChangeRequest, to_batch_id: str | None = None) -> PublicationResult:
        """Make a batch live again that was live before: the one named, or the last that was superseded.

        Raises:
            RuleViolationError: A rule stands against it.
            UnknownBatchError: The registry does not know the batch that was named.
            PublishingError: There is no batch to roll back to.
            RegistryUnavailableError: The registry did not take the change in time.
        """
        target = to_batch_id or self._last_superseded()
        changed = self.registry.carry_out(lambda: self._rollback(target, request))
        return self._moved(changed, target)

    def hold(self, request: ChangeRequest, *, held: bool) -> PublicationResult:
        """Stop automatic publication, or let it go on.

        Raises:
            RegistryUnavailableError: The registry did not take the change in time.
        """
        changed = self.registry.carry_out(
            lambda: publication_rules.hold(
                self._live_pointers(), request, model=self.model, held=held, now=self.clock()
            )
        )
        if not changed:
            return self._moved(changed, None)
        return self._result(PublicationOutcome.HELD if held else PublicationOutcome.RELEASED, None)

    def _kept_back(self, batch_id: str, request: ChangeRequest) -> PublicationResult | None:
        """Return why a verified batch does not become live by the model's declaration, or None if it may."""
        record, mode = self._record(batch_id), self.declaration.publication.mode
        if record.load_state != LoadState.VERIFIED or record.release_state == ReleaseState.LIVE:
            # The registry's rules have the word.
            return None
        if mode == "shadow":
            if not request.automatic:
                raise PublishingError(
                    "The model is declared to be in shadow: none of its batches becomes live",
                    remedy="Declare another publication mode first",
                    model=self.model,
                    batch_id=batch_id,
                )
            return self._result(
                PublicationOutcome.HISTORY,
                batch_id,
                condition="model_is_not_in_shadow",
                reason="The model is in shadow: its batches are loaded and verified, and never live",
            )
        if not request.automatic:
            return None
        if record.check_faults and record.release_state == ReleaseState.UNPUBLISHED:
            raise PublishingError(
                f"The batch failed its checks: {record.check_faults}",
                remedy="Publish it explicitly if it shall be live all the same",
                model=self.model,
                batch_id=batch_id,
            )
        if mode == "manual":
            return self._result(
                PublicationOutcome.WAITING,
                batch_id,
                condition="publication_is_automatic",
                reason=f"A person publishes batches of this model: mlpipe publish {self.model} {batch_id}",
            )
        return None

    def pointer(self) -> LivePointer | None:
        """Return the home region's pointer."""
        return self.registry.pointer(self.model, self.deployment.home)

    def _publish(self, batch_id: str, request: ChangeRequest, serving: str) -> Transaction:
        return publication_rules.publish(
            self._record(batch_id),
            self._live_pointers(),
            request,
            now=self.clock(),
            minimum_life=self._minimum_life,
            retention=self._retention,
            serving=serving,
        )

    def _rollback(self, batch_id: str, request: ChangeRequest) -> Transaction:
        record = self._record(batch_id)
        return publication_rules.rollback(
            record,
            self._live_pointers(),
            request,
            now=self.clock(),
            minimum_life=self._minimum_life,
            retention=self._retention,
            serving=self._served_before(record),
        )

    def _served_before(self, record: BatchRecord) -> str | None:
        """Return how a batch was served when it was last published, or None if it never was."""
        if record.published_sequence is None:
            return None
        entry = self.registry.publication(self.model, record.published_sequence)
        return entry.serving if entry else None

    def _record(self, batch_id: str) -> BatchRecord:
        return registered_batch(self.registry, self.model, batch_id)

    def _live_pointers(self) -> LivePointers:
        return self.registry.live_pointers(
            self.model,
            home_region=self.deployment.home,
            regions=self.serving_regions,
            highest_projected=self.highest_projected,
        )

    def _last_superseded(self) -> str:
        target = self.registry.rollback_target(self.model)
        if target is None:
            raise PublishingError(
                "No batch was live before this one that is still in the stores",
                remedy=f"Publish another batch by name: see `mlpipe batches {self.model}`",
                model=self.model,
            )
        return target.batch_id

    def _moved(self, changed: bool, batch_id: str | None) -> PublicationResult:
        return self._result(
            PublicationOutcome.LIVE if changed else PublicationOutcome.UNCHANGED,
            batch_id,
            reason="" if changed else "The request was carried out before",
        )

    def _result(
        self, outcome: PublicationOutcome, batch_id: str | None, *, condition: str = "", reason: str = ""
    ) -> PublicationResult:
        pointer = self.pointer() or LivePointer(model=self.model)
        return PublicationResult(
            model=self.model,
            outcome=outcome,
            batch_id=batch_id,
            live_batch_id=pointer.batch_id,
            sequence=pointer.sequence,
            hold=pointer.hold,
            condition=condition,
            reason=reason,
        )

    @property
    def _minimum_life(self) -> timedelta:
        return timedelta(hours=self.declaration.retention.minimum_life_hours)

    @property
    def _retention(self) -> timedelta:
        return timedelta(days=self.declaration.retention.superseded_days)


def serving_text(
    declaration: ModelDeclaration,
    manifest: Manifest,
    record: BatchRecord,
    provider_url: Callable[[str], str],
) -> str:
    """Return what the API needs to serve a batch, for its publication entry.

    Args:
        declaration: The model's; its enrichments apply.
        manifest: The batch's.
        record: The batch's, which keeps its accepted rows and the rules that they were cleaned by.
        provider_url: Gives a provider's base address.

    Raises:
        PublishingError: No load of the batch was verified, an earlier version did it and counted no rows, or
            an enrichment does not fit the batch's columns.
        SettingsError: A provider's address is not known.
    """
    if record.accepted_rows is None:
        raise PublishingError(
            "The batch was verified by an earlier version, and its accepted rows are not recorded"
            if record.load_state == LoadState.VERIFIED
            else f"The rows of the batch are not verified (it is {record.load_state})",
            remedy=f"Run mlpipe load {record.manifest_key} --again, and let its checks pass first",
            model=record.model,
            batch_id=record.batch_id,
        )
    try:
        return ServingRecord(
            schema=recorded_cleaning(record.cleaning).stored_schema(manifest.schema),
            model_version=manifest.model_version,
            model_package_version=manifest.model_package and manifest.model_package.version,
            row_count=record.accepted_rows,
            checksum=manifest.checksum,
            enrichments=tuple(
                declared.of_provider(provider_url(declared.provider)) for declared in declaration.enrichments
            ),
        ).to_json()
    except InvalidServingError as error:
        raise PublishingError(
            f"The batch cannot be served: {error.what}",
            remedy=error.remedy,
            model=record.model,
            batch_id=record.batch_id,
        ) from error
