"""Carries out a person's changes of a model's champion and challenger, by the rules of versions."""

from __future__ import annotations

from collections.abc import Callable
from dataclasses import dataclass
from datetime import datetime
from enum import StrEnum
from itertools import islice
from typing import Any

from mlpipe_dagster.cli.versions.package_approval import set_approval
from mlpipe_dagster.versions.followed_packages import follow_packages
from mlpipe_dagster.versions.model_packages import ModelPackages
from mlpipe_dagster.versions.promotion_by_rule import known_version
from prediction_contract.errors import ContractError, RuleViolationError
from prediction_contract.jobs.verdict import APPROVED, REJECTED
from prediction_contract.registry import version_rules
from prediction_contract.registry.records import ChangeRequest
from prediction_contract.registry.table import RegistryTable
from prediction_contract.registry.transaction import Transaction
from prediction_contract.registry.version_records import (
    ChampionPointer,
    ModelVersion,
    PromotionEntry,
    VersionAction,
    VersionState,
)

# A repeated request is looked for among this many newest changes.
_NEWEST_CHANGES = 1000


class ChampionMovedError(ContractError):
    """Another version became the champion while the previous one was being withdrawn."""


class ChampionOutcome(StrEnum):
    """The outcome of a request."""

    PROMOTED = "promoted"
    DEMOTED = "demoted"
    HELD = "held"
    RELEASED = "released"
    CHALLENGED = "challenged"
    UNCHANGED = "unchanged"


@dataclass(frozen=True, slots=True, kw_only=True)
class ChampionResult:
    """The result of a request.

    Attributes:
        outcome: The outcome; `unchanged` if the request was already carried out.
        version: The promoted or demoted version, or the new challenger; None if there is none.
        before: The pointer before the request; the current one if the request was already carried out.
        after: The pointer now.
    """

    outcome: ChampionOutcome
    version: ModelVersion | None
    before: ChampionPointer
    after: ChampionPointer


@dataclass(frozen=True, slots=True, kw_only=True)
class ChampionChanges:
    """Changes which version of a model scores its new batches, by a person's decision.

    Attributes:
        registry: The registry.
        sagemaker: A boto3 client for approvals.
        packages: Reads the model packages from SageMaker.
        model: The model's name.
        clock: Returns the current time.
    """

    registry: RegistryTable
    sagemaker: Any
    packages: ModelPackages
    model: str
    clock: Callable[[], datetime]

    def promote(self, version: int, request: ChangeRequest) -> ChampionResult:
        """Make a version the champion; approve its package first unless it is approved.

        Raises:
            UnknownVersionError: The registry does not know the version.
            RuleViolationError: A rule forbids the promotion.
            PackageApprovalError: SageMaker refused the approval.
            RegistryUnavailableError: The registry did not take the change in time.
        """
        before = self.pointer()
        if self._carried_out(VersionAction.PROMOTE, request):
            return self._result(None, self._record(version), before)
        # The registry may not know a package that was just registered.
        self._follow(version)
        self._approve(self._record(version), request)
        try:
            changed = self.registry.carry_out(
                lambda: version_rules.promote(
                    self._record(version), self.registry.champion(self.model), request, now=self.clock()
                )
            )
        except RuleViolationError:
            # The sensor may have promoted the version as soon as it was approved.
            if self.pointer().version != version:
                raise
            changed = True
        return self._result(ChampionOutcome.PROMOTED if changed else None, self._record(version), before)

    def demote(self, request: ChangeRequest, to: int | None = None) -> ChampionResult:
        """Replace the champion by the version `to` or by the previous champion, and reject its package.

        If SageMaker refuses the rejection, the demotion stands; repeating the request rejects the package.

        Raises:
            UnknownVersionError: The registry does not know the version `to`.
            RuleViolationError: A rule forbids it, for example because there is no champion.
            ChampionMovedError: Another version became the champion meanwhile.
            PackageApprovalError: SageMaker refused the rejection.
            RegistryUnavailableError: The registry did not take the change in time.
        """
        before, known = self.pointer(), self._carried_out(VersionAction.DEMOTE, request)
        changed = False
        if known is None:
            # Decided once: a retry after a concurrent change must not withdraw or restore another version.
            target = self.registry.demotion_target(self.model) if to is None else self._record(to)
            changed = self.registry.carry_out(lambda: self._demotion(before, target, request))
            known = self._carried_out(VersionAction.DEMOTE, request)
        withdrawn = self.registry.model_version(self.model, (known and known.previous_version) or 0)
        # A version that a person has approved again since is not rejected.
        if withdrawn and withdrawn.state == VersionState.WITHDRAWN and withdrawn.approval != REJECTED:
            set_approval(
                self.sagemaker, withdrawn, REJECTED, actor=request.actor, reason=f"demoted: {request.reason}"
            )
            self._follow(withdrawn.version)
        return self._result(ChampionOutcome.DEMOTED if changed else None, withdrawn, before)

    def hold(self, request: ChangeRequest, *, held: bool) -> ChampionResult:
        """Stop automatic promotion, or end such a hold.

        Raises:
            RegistryUnavailableError: The registry did not take the change in time.
        """
        before = self.pointer()
        changed = self.registry.carry_out(
            lambda: version_rules.hold_versions(
                self.registry.champion(self.model), request, model=self.model, held=held, now=self.clock()
            )
        )
        outcome = ChampionOutcome.HELD if held else ChampionOutcome.RELEASED
        return self._result(outcome if changed else None, None, before)

    def challenge(self, version: int | None, request: ChangeRequest) -> ChampionResult:
        """Let a version score beside the champion without being served; None ends it.

        Raises:
            UnknownVersionError: The registry does not know the version.
            RuleViolationError: A rule forbids it.
            RegistryUnavailableError: The registry did not take the change in time.
        """
        before = self.pointer()
        changed = self.registry.carry_out(
            lambda: version_rules.challenge(
                None if version is None else self._record(version),
                self.registry.champion(self.model),
                request,
                model=self.model,
                now=self.clock(),
            )
        )
        challenger = None if version is None else self._record(version)
        return self._result(ChampionOutcome.CHALLENGED if changed else None, challenger, before)

    def pointer(self) -> ChampionPointer:
        """Return the champion pointer; an empty one before the first change."""
        return self.registry.champion(self.model) or ChampionPointer(model=self.model)

    def _approve(self, found: ModelVersion, request: ChangeRequest) -> None:
        """Approve the package of a candidate or of a withdrawn version."""
        if found.state not in {VersionState.CANDIDATE, VersionState.WITHDRAWN} or found.approval == APPROVED:
            return
        set_approval(self.sagemaker, found, APPROVED, actor=request.actor, reason=request.reason)
        self._follow(found.version)

    def _follow(self, version: int) -> None:
        """Record SageMaker's state of a version at once instead of waiting minutes for the sensor."""
        follow_packages(self.packages, self.registry, self.model, named=[version])

    def _demotion(
        self, seen: ChampionPointer, target: ModelVersion | None, request: ChangeRequest
    ) -> Transaction:
        pointer = self.pointer()
        if pointer.version != seen.version:
            raise ChampionMovedError(
                f"The champion changed from version {seen.version} to {pointer.version} in the meantime",
                remedy=f"See `mlpipe models {self.model}`, then run the command again",
                model=self.model,
            )
        return version_rules.demote(
            None if target is None else self._record(target.version), pointer, request, now=self.clock()
        )

    def _carried_out(self, action: VersionAction, request: ChangeRequest) -> PromotionEntry | None:
        """Return the change that the request already made, or None."""
        entries = islice(self.registry.promotions(self.model, page_size=50), _NEWEST_CHANGES)
        asked = (action, request.request_id)
        return next((entry for entry in entries if (entry.action, entry.request_id) == asked), None)

    def _record(self, version: int) -> ModelVersion:
        return known_version(self.registry, self.model, version)

    def _result(
        self, outcome: ChampionOutcome | None, version: ModelVersion | None, before: ChampionPointer
    ) -> ChampionResult:
        return ChampionResult(
            outcome=outcome or ChampionOutcome.UNCHANGED, version=version, before=before, after=self.pointer()
        )
