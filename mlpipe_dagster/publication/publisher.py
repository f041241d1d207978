"""Publishes, rolls back and holds by the registry's rules, and explains the result."""

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

# The prefix of the actor of a publication by a Dagster run; the run's id follows.
RUN_ACTOR = "dagster run "


class PublishingError(ContractError):
    """The batch to publish does not exist or may not be published."""


class PublicationOutcome(StrEnum):
    """The outcome of a request."""

    LIVE = "live"
    HISTORY = "history"
    WAITING = "waiting"
    UNCHANGED = "unchanged"
    HELD = "held"
    RELEASED = "released"


@dataclass(frozen=True, slots=True, kw_only=True)
class PublicationResult:
    """The outcome of a request, and the state after it.

    Attributes:
        model: The model.
        outcome: `live`: the batch is live. `history`: it stays loaded without becoming live. `waiting`: a
            person must publish it. `unchanged`: the request was already carried out. `held`, `released`:
            automatic publication was stopped or resumed.
        batch_id: The requested batch.
        live_batch_id: The batch that is live now.
        sequence: The newest publication's number.
        hold: Whether automatic publication is stopped.
        condition: The rule that prevented the batch from becoming live; empty if none did.
        reason: The reason in words.
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
    """Changes which batch of one model is live.

    Attributes:
        registry: The registry.
        deployment: The deployment, whose home region writes.
        declaration: The model's declaration; its retention applies.
        serving_regions: The regions that serve in addition to home.
        highest_projected: The highest publication number in Snowflake; 0 if it was not read.
        clock: Returns the current time; tests pass their own.
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
        """Make a batch live, or leave it as history if the rules do not allow automatic publication.

        Raises:
            RuleViolationError: A rule forbids it for any publication, not only for an automatic one.
            UnknownBatchError: The registry does not know the batch.
            PublishingError: The batch failed its checks and the request is automatic, or the model is in
                shadow and the request is not.
            RegistryUnavailableError: The registry did not take the change in time.
        """
        if declined := self._declined(batch_id, request):
            return declined
        try:
            changed = self.registry.carry_out(lambda: self._publish(batch_id, request, serving))
        except RuleViolationError as violation:
            pointer = self.pointer()
            if pointer and pointer.batch_id == batch_id:
                return self._result(PublicationOutcome.LIVE, batch_id, reason="The batch is already live")
            if request.automatic and violation.condition in AUTOMATIC_ONLY_CONDITIONS:
                return self._result(
                    PublicationOutcome.HISTORY, batch_id, condition=violation.condition, reason=violation.what
                )
            raise
        return self._change_result(changed, batch_id)

    def roll_back(self, request: ChangeRequest, to_batch_id: str | None = None) -> PublicationResult:
        """Make an earlier live batch live again: the named one, or the one that was superseded last.

        Raises:
            RuleViolationError: A rule forbids it.
            UnknownBatchError: The registry does not know the named batch.
            PublishingError: There is no batch to roll back to.
            RegistryUnavailableError: The registry did not take the change in time.
        """
        target = to_batch_id or self._last_superseded()
        changed = self.registry.carry_out(lambda: self._rollback(target, request))
        return self._change_result(changed, target)

    def hold(self, request: ChangeRequest, *, held: bool) -> PublicationResult:
        """Stop automatic publication, or resume it.

        Raises:
            RegistryUnavailableError: The registry did not take the change in time.
        """
        changed = self.registry.carry_out(
            lambda: publication_rules.hold(
                self._live_pointers(), request, model=self.model, held=held, now=self.clock()
            )
        )
        if not changed:
            return self._change_result(changed, None)
        return self._result(PublicationOutcome.HELD if held else PublicationOutcome.RELEASED, None)

    def _declined(self, batch_id: str, request: ChangeRequest) -> PublicationResult | None:
        """Return why the declaration keeps a verified batch from becoming live; None if it does not."""
        record, mode = self._record(batch_id), self.declaration.publication.mode
        if record.load_state != LoadState.VERIFIED or record.release_state == ReleaseState.LIVE:
            # The registry's rules decide.
            return None
        if mode == "shadow":
            if not request.automatic:
                raise PublishingError(
                    "The model's `publication.mode` is `shadow`, so none of its batches may become live",
                    remedy="Declare another mode first",
                    model=self.model,
                    batch_id=batch_id,
                )
            return self._result(
                PublicationOutcome.HISTORY,
                batch_id,
                condition="model_is_not_in_shadow",
                reason="The model's `publication.mode` is `shadow`: its batches never become live",
            )
        if not request.automatic:
            return None
        if record.check_faults and record.release_state == ReleaseState.UNPUBLISHED:
            raise PublishingError(
                f"The batch failed its checks: {record.check_faults}",
                remedy=f"To make it live anyway, run `mlpipe publish {self.model} {batch_id}`",
                model=self.model,
                batch_id=batch_id,
            )
        if mode == "manual":
            return self._result(
                PublicationOutcome.WAITING,
                batch_id,
                condition="publication_is_automatic",
                reason="The model's `publication.mode` is `manual`: "
                f"publish the batch by `mlpipe publish {self.model} {batch_id}`",
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
            serving=self._former_serving(record),
        )

    def _former_serving(self, record: BatchRecord) -> str | None:
        """Return the batch's serving record of its last publication; None if it was never published."""
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
                "No earlier live batch is still in the stores",
                remedy=f"Choose one of `mlpipe batches {self.model}`, and publish it by `mlpipe publish`",
                model=self.model,
            )
        return target.batch_id

    def _change_result(self, changed: bool, batch_id: str | None) -> PublicationResult:
        return self._result(
            PublicationOutcome.LIVE if changed else PublicationOutcome.UNCHANGED,
            batch_id,
            reason="" if changed else "The request was already carried out",
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
    """Return a batch's serving record as JSON; the API reads it from the publication entry.

    Args:
        declaration: The model's declaration; its enrichments apply.
        manifest: The batch's manifest.
        record: The batch's record, with its accepted rows and its cleaning rules.
        provider_url: Returns a provider's base address.

    Raises:
        PublishingError: No load of the batch was verified, an earlier version verified it without counting
            its rows, or an enrichment does not fit the batch's columns.
        SettingsError: A provider's address is unknown.
    """
    if record.accepted_rows is None:
        raise PublishingError(
            "The batch was verified by an earlier release, which did not record its accepted rows"
            if record.load_state == LoadState.VERIFIED
            else f"The batch is not verified: it is {record.load_state}",
            remedy=f"Run `mlpipe load {record.manifest_key} --again`; it can be published once its "
            "checks pass",
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
