"""Which version of a model scores its new batches: packages followed, versions promoted, demoted, retired.

SageMaker's approval of a package is permission. Which version is the champion is decided here. A promotion or
a demotion changes the pointer, both versions, the history and the request in one transaction. A repeated
request changes nothing.
"""

from __future__ import annotations

from collections.abc import Mapping
from dataclasses import fields, replace
from datetime import datetime

from prediction_contract.registry.conditions import (
    AllOf,
    Clause,
    Condition,
    Differs,
    Equals,
    Missing,
    OneOf,
)
from prediction_contract.registry.promotion_order import promotion_order
from prediction_contract.registry.records import LONGEST_REASON, ChangeRequest
from prediction_contract.registry.stored_record import Value
from prediction_contract.registry.transaction import Transaction, Write, request_is_new
from prediction_contract.registry.version_records import (
    STATE_BY_APPROVAL,
    ChampionPointer,
    ModelVersion,
    VersionAction,
    VersionState,
    champion_key,
    promotion_key,
    version_key,
    version_request_key,
)
from prediction_contract.text.utc_time import format_utc

_MAY_SCORE = (VersionState.APPROVED, VersionState.SUPERSEDED, VersionState.WITHDRAWN)
_MAY_CHALLENGE = (VersionState.CANDIDATE, VersionState.APPROVED, VersionState.SUPERSEDED)
_MAY_RETIRE = (VersionState.REFUSED, VersionState.SUPERSEDED, VersionState.WITHDRAWN)
_MAY_FOLLOW = (VersionState.APPROVED, VersionState.SUPERSEDED)


def record_version(seen: ModelVersion | None, found: ModelVersion) -> Transaction:
    """Record a model package, or follow its approval; a package that is known as it is changes nothing.

    The approval of a package decides the state of a version that never was the champion. It brings no version
    back that was withdrawn, and takes no champion away: demote it. A superseded version whose package is
    rejected is withdrawn.

    Args:
        seen: The version's record as read.
        found: The package as it is; read it after `seen`, so that nobody's later finding is overwritten. Its
            `state` does not matter.
    """
    model, version = found.model, found.version
    if seen is None:
        conditions = (
            Condition(
                "version_is_as_seen",
                Missing("state"),
                f"Version {version} was recorded meanwhile",
                "Read its record again",
            ),
        )
        before, after = {}, _attributes(replace(found, state=_state_after(None, found.approval)))
    else:
        conditions = (
            _version_is_as_seen(seen),
            Condition(
                "version_is_the_same",
                Equals("digest", found.digest),
                f"Version {version} was recorded with the digest {seen.digest}, not {found.digest}",
                "Never delete a model package group: its numbers begin again. Give the model a new name",
            ),
        )
        before, after = _attributes(seen), _attributes(_followed(seen, found))
        if before == after and seen.digest == found.digest:
            return Transaction(model, None)
    write = Write(
        key=version_key(model, version),
        conditions=conditions,
        assign={name: value for name, value in after.items() if before.get(name) != value},
        remove=tuple(sorted(before.keys() - after.keys())),
    )
    return Transaction(model, None, (write,))


def promote(
    target: ModelVersion, pointer: ChampionPointer | None, request: ChangeRequest, *, now: datetime
) -> Transaction:
    """Make a version the champion: it scores the batches whose first attempt begins from now on.

    Promotion by rule (`request.automatic`) takes only an approved version that is newer than the champion,
    was judged against it, and was made after the last demotion, while nobody holds the model's versions. A
    person may promote any version that was approved and is not retired.

    Args:
        target: The version's record as read.
        pointer: The champion pointer as read; None before the first promotion.
        request: Who asks; `automatic` chooses the stricter rules.
        now: The present moment.
    """
    order: tuple[Condition, ...] = ()
    if request.automatic:
        order = promotion_order(target)
        eligible = Condition(
            "version_is_approved",
            Equals("state", VersionState.APPROVED),
            f"Version {target.version} is {target.state}, not approved",
            "Approve it first, or promote it explicitly",
        )
    else:
        eligible = _state_allows(target, _MAY_SCORE)
    return _move_champion(
        target,
        pointer or ChampionPointer(model=target.model),
        request,
        action=VersionAction.PROMOTE,
        left=VersionState.SUPERSEDED,
        target_conditions=(eligible,),
        pointer_conditions=(_champion_is_as_seen(pointer), *order),
        now=now,
    )


def demote(
    target: ModelVersion | None, pointer: ChampionPointer, request: ChangeRequest, *, now: datetime
) -> Transaction:
    """Withdraw the champion, and let another version score from now on.

    The moment is kept, unless an earlier demotion's is later. Promotion by rule takes only versions that were
    made after it. A batch of the withdrawn version that is live stays live; the others are published by a
    person only.

    Args:
        target: The version to go to, as read: one that is named, or the one that
            `RegistryTable.demotion_target` returned once, before the first decision. Without one the model
            has no champion, and no batch is scored until a version is promoted.
        pointer: The champion pointer as read.
        request: Who asks.
        now: The present moment.
    """
    there_is_one = Condition(
        "there_is_a_champion",
        Equals("version", pointer.version or 0),
        "The model has no champion",
        "Nothing is to be done",
    )
    return _move_champion(
        target,
        pointer,
        request,
        action=VersionAction.DEMOTE,
        left=VersionState.WITHDRAWN,
        target_conditions=(_state_allows(target, _MAY_FOLLOW),) if target else (),
        pointer_conditions=(_champion_is_as_seen(pointer), there_is_one),
        now=now,
    )


def hold_versions(
    pointer: ChampionPointer | None, request: ChangeRequest, *, model: str, held: bool, now: datetime
) -> Transaction:
    """Stop the promotion of a model's versions by rule (`held`), or let it go on."""
    return _mark_pointer(
        pointer,
        request,
        model=model,
        action=VersionAction.HOLD if held else VersionAction.RELEASE_HOLD,
        assign={"hold": held},
        now=now,
    )


def challenge(
    target: ModelVersion | None,
    pointer: ChampionPointer | None,
    request: ChangeRequest,
    *,
    model: str,
    now: datetime,
) -> Transaction:
    """Let a version score beside the champion without being served, or none."""
    checks: tuple[Write, ...] = ()
    if target:
        eligible = Condition(
            "version_may_challenge",
            OneOf("state", _MAY_CHALLENGE),
            f"Version {target.version} is {target.state}",
            "Name a version that is a candidate, approved or superseded",
        )
        checks = (Write(key=target.key, conditions=(eligible,)),)
    return _mark_pointer(
        pointer,
        request,
        model=model,
        action=VersionAction.CHALLENGE,
        assign={"challenger": target.version} if target else {},
        remove=() if target else ("challenger",),
        checks=checks,
        now=now,
    )


def retire_version(target: ModelVersion) -> Transaction:
    """Let a version's artifact be removed: not while it is the champion, the one before, or the challenger.

    The caller has found before that no unretired batch names the version. No new batch is scored with it,
    unless a person names it.

    Args:
        target: The version's record as read.
    """
    if target.state == VersionState.RETIRED:
        return Transaction(target.model, None)
    remedy = "Leave it for a later sweep"
    is_over = Condition(
        "version_is_over",
        OneOf("state", _MAY_RETIRE),
        f"Version {target.version} is {target.state}",
        remedy,
    )
    unnamed = (
        Condition(
            "version_is_not_the_previous_one",
            Differs("previous_version", target.version),
            f"Version {target.version} is the one before the champion: the nearest target of a demotion",
            remedy,
        ),
        Condition(
            "version_is_not_the_challenger",
            Differs("challenger", target.version),
            f"Version {target.version} is the challenger",
            remedy,
        ),
    )
    return Transaction(
        target.model,
        None,
        (
            Write(
                key=target.key,
                conditions=(_version_is_as_seen(target), is_over),
                assign={"state": VersionState.RETIRED},
            ),
            Write(key=champion_key(target.model), conditions=unnamed),
        ),
    )


def _move_champion(
    target: ModelVersion | None,
    pointer: ChampionPointer,
    request: ChangeRequest,
    *,
    action: VersionAction,
    left: VersionState,
    target_conditions: tuple[Condition, ...],
    pointer_conditions: tuple[Condition, ...],
    now: datetime,
) -> Transaction:
    """Point at the target: pointer, both versions, history entry and request in one transaction."""
    model, sequence, replaced = pointer.model, pointer.sequence + 1, pointer.version
    assign: dict[str, Value] = {"sequence": sequence}
    remove: list[str] = []
    writes: list[Write] = []
    if target:
        assign |= {
            "version": target.version,
            "digest": target.digest,
            "made_at": target.created_at,
            "promoted_at": format_utc(now),
        }
        writes.append(
            Write(
                key=target.key,
                conditions=target_conditions,
                assign={"state": VersionState.CHAMPION, "promoted_sequence": sequence},
                remove=("superseded_sequence", "reason"),
            )
        )
        if pointer.challenger == target.version:
            remove.append("challenger")
    else:
        remove += ["version", "digest", "made_at", "promoted_at"]
    if replaced is not None and (target is None or replaced != target.version):
        assign["previous_version"] = replaced
        reason: dict[str, Value] = {}
        if left is VersionState.WITHDRAWN:
            reason = {"reason": request.reason[:LONGEST_REASON]} if request.reason else {}
            # The clock here may run behind that of an earlier demotion, or behind SageMaker's.
            moments = (format_utc(now), pointer.made_at or "", pointer.withdrawn_before or "")
            assign["withdrawn_before"] = max(moments)
        writes.append(
            Write(
                key=version_key(model, replaced),
                assign={"state": left, "superseded_sequence": sequence, **reason},
            )
        )
    kept_challenger = None if "challenger" in remove else pointer.challenger
    writes += [
        Write(
            key=champion_key(model),
            conditions=pointer_conditions,
            assign=assign,
            remove=tuple(sorted(remove)),
        ),
        _entry(
            model,
            sequence,
            request,
            now,
            action=action,
            version=target.version if target else None,
            previous_version=replaced,
            challenger=kept_challenger,
        ),
        request_is_new(version_request_key(model, request.request_id), request, action, sequence),
    ]
    return Transaction(model, None, tuple(writes))


def _mark_pointer(
    pointer: ChampionPointer | None,
    request: ChangeRequest,
    *,
    model: str,
    action: VersionAction,
    assign: Mapping[str, Value],
    now: datetime,
    remove: tuple[str, ...] = (),
    checks: tuple[Write, ...] = (),
) -> Transaction:
    """Change what the pointer says beside the champion, as an entry of the history."""
    seen = pointer or ChampionPointer(model=model)
    sequence = seen.sequence + 1
    challenger = None if "challenger" in remove else assign.get("challenger", seen.challenger)
    return Transaction(
        model,
        None,
        (
            *checks,
            Write(
                key=champion_key(model),
                conditions=(_champion_is_as_seen(pointer),),
                assign={**assign, "sequence": sequence},
                remove=remove,
            ),
            _entry(model, sequence, request, now, action=action, version=seen.version, challenger=challenger),
            request_is_new(version_request_key(model, request.request_id), request, action, sequence),
        ),
    )


def _followed(seen: ModelVersion, found: ModelVersion) -> ModelVersion:
    """Return a version's record as its package has it now; but for its approval, a version never changes."""
    if seen.state == VersionState.RETIRED:
        return seen
    state = _state_after(seen, found.approval)
    was_champion = seen.state not in STATE_BY_APPROVAL.values()
    return replace(
        seen,
        state=state,
        approval=found.approval,
        approved_by=found.approved_by or (seen.approved_by if was_champion else None),
        reason=seen.reason if was_champion and state == seen.state else found.reason,
    )


def _state_after(seen: ModelVersion | None, approval: str) -> str:
    """Return a version's state once its package has an approval status; an unknown one permits nothing."""
    permitted = STATE_BY_APPROVAL.get(approval, VersionState.CANDIDATE)
    if seen is None or seen.state in STATE_BY_APPROVAL.values():
        return permitted
    if seen.state == VersionState.SUPERSEDED and permitted is VersionState.REFUSED:
        return VersionState.WITHDRAWN
    return seen.state


def _state_allows(target: ModelVersion, states: tuple[str, ...]) -> Condition:
    is_champion = target.state == VersionState.CHAMPION
    return Condition(
        "version_may_score",
        OneOf("state", states),
        f"Version {target.version} is {'the champion already' if is_champion else target.state}",
        "Nothing is to be done" if is_champion else f"Name a version that is {' or '.join(states)}",
    )


def _version_is_as_seen(target: ModelVersion) -> Condition:
    sequence = target.superseded_sequence
    left: Clause = Missing("superseded_sequence")
    if sequence is not None:
        left = Equals("superseded_sequence", sequence)
    return Condition(
        "version_is_as_seen",
        # The sequence tells a version that was the champion once more in between.
        AllOf((Equals("state", target.state), Equals("approval", target.approval), left)),
        f"Version {target.version} has changed meanwhile",
        "Read its record again",
    )


def _champion_is_as_seen(pointer: ChampionPointer | None) -> Condition:
    return Condition(
        "champion_is_as_seen",
        Equals("sequence", pointer.sequence) if pointer else Missing("sequence"),
        "The champion pointer has moved meanwhile",
        "Read it again and decide again",
    )


def _entry(model: str, sequence: int, request: ChangeRequest, now: datetime, **what: Value | None) -> Write:
    return Write(
        key=promotion_key(model, sequence),
        assign={
            **{name: value for name, value in what.items() if value is not None},
            "sequence": sequence,
            "request_id": request.request_id,
            "actor": request.actor,
            "reason": request.reason[:LONGEST_REASON],
            "changed_at": format_utc(now),
        },
    )


def _attributes(version: ModelVersion) -> dict[str, Value]:
    """Return what a record holds of a version, its key left out."""
    values = {field.name: getattr(version, field.name) for field in fields(version) if field.name != "model"}
    return {name: value for name, value in values.items() if value is not None}
