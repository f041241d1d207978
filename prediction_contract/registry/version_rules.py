"""Rules for a model's versions: record packages, and promote, demote, challenge and retire versions.

The champion scores new batches. SageMaker's approval permits a version to become the champion; these rules
decide which one does. A promotion or demotion changes the pointer, both versions, the history and the request
in one transaction. A repeated request changes nothing.
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
from prediction_contract.registry.promotion_conditions import promotion_conditions
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
    """Record a model package, or update its approval. An unchanged package changes nothing.

    The approval of a package decides the state of a version that has never been the champion. A superseded
    version whose package is rejected is withdrawn. Approval does not bring a withdrawn version back, and
    rejection does not remove a champion (use `demote`).

    Args:
        seen: The version's record as read, if it exists.
        found: The package. Read it after `seen`, so that it is at least as new. Its `state` is ignored.
    """
    model, version = found.model, found.version
    if seen is None:
        conditions = (
            Condition(
                "version_is_as_seen",
                Missing("state"),
                f"Version {version} was recorded in the meantime",
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
                "Give the model a new name. A deleted model package group restarts its version numbers",
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
    """Make a version the champion. It scores the batches whose first attempt begins from now on.

    Promotion by rule (`request.automatic`) requires that the model's versions are not on hold. The version
    must be approved, newer than the champion, judged against it, and made after the last demotion. A person
    may promote any version that was approved and is not retired.

    Args:
        target: The version's record as read.
        pointer: The champion pointer as read; None before the first promotion.
        request: Who asks; `automatic` selects the stricter rules.
        now: The current time.
    """
    order: tuple[Condition, ...] = ()
    if request.automatic:
        order = promotion_conditions(target)
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
    """Withdraw the champion and make another version the champion.

    The time of the latest demotion is kept; promotion by rule takes only versions made after it. A live batch
    of the withdrawn version stays live. Only a person can publish its other batches.

    Args:
        target: The next champion's record as read: a named version, or the result of one call of
            `RegistryTable.demotion_target`, made before the first decision. If it is None, the model has no
            champion, and no batch is scored until a version is promoted.
        pointer: The champion pointer as read.
        request: Who asks.
        now: The current time.
    """
    has_champion = Condition(
        "there_is_a_champion",
        Equals("version", pointer.version or 0),
        "The model has no champion",
        "Nothing needs to be done",
    )
    return _move_champion(
        target,
        pointer,
        request,
        action=VersionAction.DEMOTE,
        left=VersionState.WITHDRAWN,
        target_conditions=(_state_allows(target, _MAY_FOLLOW),) if target else (),
        pointer_conditions=(_champion_is_as_seen(pointer), has_champion),
        now=now,
    )


def hold_versions(
    pointer: ChampionPointer | None, request: ChangeRequest, *, model: str, held: bool, now: datetime
) -> Transaction:
    """Stop the promotion of a model's versions by rule (`held`) or resume it."""
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
    """Let a version score beside the champion without being served. With None, end this."""
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
    """Mark a version as retired, so that its artifact may be deleted.

    The champion, the previous champion and the challenger are not retired. The caller must have checked that
    all batches of the version are retired. New batches use the version only if a person names it.

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
            f"Version {target.version} is the previous champion, so a demotion may need it",
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
    """Change the pointer, both versions, the history and the request in one transaction."""
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
            # This clock may be behind the clock of an earlier demotion, or behind SageMaker's.
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
    """Change an attribute of the pointer other than the champion, and add an entry to the history."""
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
    """Return a version's record, updated from its package. Only its approval can change."""
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
    """Return a version's state for an approval status. An unknown status counts as pending."""
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
        f"Version {target.version} is {'already the champion' if is_champion else target.state}",
        "Nothing needs to be done" if is_champion else f"Name a version that is {' or '.join(states)}",
    )


def _version_is_as_seen(target: ModelVersion) -> Condition:
    sequence = target.superseded_sequence
    left: Clause = Missing("superseded_sequence")
    if sequence is not None:
        left = Equals("superseded_sequence", sequence)
    return Condition(
        "version_is_as_seen",
        # The sequence detects that the version was the champion again in between.
        AllOf((Equals("state", target.state), Equals("approval", target.approval), left)),
        f"Version {target.version} has changed in the meantime",
        "Read its record again",
    )


def _champion_is_as_seen(pointer: ChampionPointer | None) -> Condition:
    return Condition(
        "champion_is_as_seen",
        Equals("sequence", pointer.sequence) if pointer else Missing("sequence"),
        "The champion pointer has moved in the meantime",
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
    """Return a version's attributes without its key."""
    values = {field.name: getattr(version, field.name) for field in fields(version) if field.name != "model"}
    return {name: value for name, value in values.items() if value is not None}
