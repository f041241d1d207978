"""Rules for what readers see: publish, roll back, hold, and move serving regions after home.

Every change carries a request id. The record of the request is created in the same transaction, so a request
can be repeated by anybody at any time and takes effect once.
"""

from __future__ import annotations

from datetime import datetime, timedelta

from prediction_contract.naming.batch import BatchId
from prediction_contract.registry.automatic_publication import (
    automatic_publication_conditions,
    checks_were_passed,
    version_may_publish,
)
from prediction_contract.registry.conditions import (
    AllOf,
    AnyOf,
    Condition,
    Contains,
    Differs,
    Equals,
    Missing,
    NotBelow,
    OneOf,
)
from prediction_contract.registry.records import (
    LONGEST_REASON,
    Action,
    BatchRecord,
    ChangeRequest,
    LivePointer,
    LivePointers,
    LoadState,
    ReleaseState,
    batch_key,
    pointer_key,
    publication_key,
    request_key,
)
from prediction_contract.registry.stored_record import Value
from prediction_contract.registry.transaction import Transaction, Write, request_is_new
from prediction_contract.text.utc_time import format_utc


def publish(
    target: BatchRecord,
    live_pointers: LivePointers,
    request: ChangeRequest,
    *,
    now: datetime,
    minimum_life: timedelta,
    retention: timedelta,
    serving: str | None = None,
) -> Transaction:
    """Make a verified batch live.

    Automatic publication requires that publication is not on hold and that the batch

    - passed the model's checks,
    - was never published or withdrawn,
    - is newer than the live batch and was minted after the last rollback,
    - was scored by a model version that is not withdrawn.

    A person may publish any verified batch whose items live long enough.

    Args:
        target: The batch's record as read.
        live_pointers: The model's live pointers as read.
        request: Who asks; `automatic` selects the stricter rules.
        now: The current time.
        minimum_life: How long the target's items must still live, at least.
        retention: How long to keep the replaced batch from now on, at least.
        serving: The data that the API needs to serve the batch, as JSON text.
    """
    home_conditions: tuple[Condition, ...] = ()
    gate: tuple[Condition, ...] = ()
    checks: tuple[Write, ...] = ()
    if request.automatic:
        eligible = Condition(
            "target_was_never_published",
            Equals("release_state", ReleaseState.UNPUBLISHED),
            "The batch was published or withdrawn before",
            "Publish it explicitly if it should be live again",
        )
        gate = (checks_were_passed(target),)
        home_conditions = automatic_publication_conditions(target)
        checks = version_may_publish(target)
    else:
        eligible = Condition(
            "target_is_not_live",
            Differs("release_state", ReleaseState.LIVE),
            "The batch is already live",
            "Nothing needs to be done",
        )
    return _move_home(
        target,
        live_pointers,
        request,
        action=Action.PUBLISH,
        eligible=(eligible, *gate),
        home_conditions=home_conditions,
        checks=checks,
        now=now,
        minimum_life=minimum_life,
        retention=retention,
        serving=serving,
    )


def rollback(
    target: BatchRecord,
    live_pointers: LivePointers,
    request: ChangeRequest,
    *,
    now: datetime,
    minimum_life: timedelta,
    retention: timedelta,
    serving: str | None = None,
) -> Transaction:
    """Make a batch live that was live before, and withdraw the batch that is live now.

    The time of the latest rollback is kept; automatic publication takes only batches minted after it. Regions
    known to hold the target move in the same transaction. The others move later (`follow_home`).
    """
    eligible = Condition(
        "target_was_superseded",
        OneOf("release_state", (ReleaseState.SUPERSEDED,)),
        "The batch was never live, has been withdrawn, or is live now",
        "Roll back to a superseded batch, or publish this one explicitly",
    )
    return _move_home(
        target,
        live_pointers,
        request,
        action=Action.ROLLBACK,
        eligible=(eligible,),
        home_conditions=(),
        now=now,
        minimum_life=minimum_life,
        retention=retention,
        serving=serving,
    )


def hold(
    live_pointers: LivePointers, request: ChangeRequest, *, model: str, held: bool, now: datetime
) -> Transaction:
    """Stop automatic publication of a model (`held`) or resume it."""
    action = Action.HOLD if held else Action.RELEASE_HOLD
    home = live_pointers.home or LivePointer(model=model)
    sequence = live_pointers.next_sequence
    pointer = Write(
        key=pointer_key(model, live_pointers.home_region),
        conditions=(_pointer_is_as_seen(live_pointers.home),),
        assign={"hold": held, "sequence": sequence},
    )
    entry: dict[str, Value] = {"action": action}
    if home.batch_id and home.partition:
        entry |= {"batch_id": home.batch_id, "partition": home.partition}
    return Transaction(
        model,
        home.batch_id,
        (
            pointer,
            _entry(model, sequence, request, now, entry),
            request_is_new(request_key(model, request.request_id), request, action, sequence),
        ),
    )


def follow_home(
    target: BatchRecord, live_pointers: LivePointers, *, region: str, now: datetime
) -> Transaction:
    """Move a serving region's pointer to the batch that home serves, once its replica holds the whole batch.

    If the region already serves this publication and only a later hold or its release is new, `published_at`
    does not change.

    Args:
        target: The record of the batch that home serves, read after `live_pointers`.
        live_pointers: The model's live pointers as read; home must have published a batch.
        region: The region to move.
        now: The current time.
    """
    sequence = live_pointers.home.sequence if live_pointers.home else 0
    seen = live_pointers.regions.get(region)
    moved_to = _pointed_at(target, sequence, now)
    if seen and seen.batch_id == target.batch_id and seen.sequence >= (target.published_sequence or sequence):
        del moved_to["published_at"]
    home_serves_it = Condition(
        "home_serves_the_same",
        AllOf((Equals("sequence", sequence), Equals("batch_id", target.batch_id))),
        "The home region now serves another publication",
        "Read the home pointer again",
    )
    return Transaction(
        target.model,
        target.batch_id,
        (
            Write(key=pointer_key(target.model, live_pointers.home_region), conditions=(home_serves_it,)),
            Write(key=target.key, conditions=(_region_holds_it(region),)),
            Write(
                key=pointer_key(target.model, region),
                conditions=(_pointer_is_as_seen(seen),),
                assign=moved_to,
            ),
        ),
    )


def _move_home(
    target: BatchRecord,
    live_pointers: LivePointers,
    request: ChangeRequest,
    *,
    action: Action,
    eligible: tuple[Condition, ...],
    home_conditions: tuple[Condition, ...],
    now: datetime,
    minimum_life: timedelta,
    retention: timedelta,
    serving: str | None,
    checks: tuple[Write, ...] = (),
) -> Transaction:
    """Point home at the target: pointer, both batches, history entry and request in one transaction."""
    model, sequence = target.model, live_pointers.next_sequence
    home = live_pointers.home or LivePointer(model=model)
    replaced = home.batch_id
    pointed_at = _pointed_at(target, sequence, now)
    previous: dict[str, Value] = {"previous_batch_id": replaced} if replaced else {}
    withdrawn: dict[str, Value] = {}
    if action is Action.ROLLBACK and replaced:
        # This clock may be behind the clock of an earlier rollback, or behind the one that minted the live
        # batch. Neither may let batches with the same fault through.
        moment = format_utc(max(now, BatchId(replaced).minted_at))
        withdrawn = {"withdrawn_before": max(moment, home.withdrawn_before or moment)}
    following = _regions_that_follow(target, live_pointers) if action is Action.ROLLBACK else ()
    verified = Condition(
        "target_is_verified",
        Equals("load_state", LoadState.VERIFIED),
        f"The batch is {target.load_state}, not verified",
        "Load it and let its checks pass first",
    )
    outlives = Condition(
        "target_lives_long_enough",
        # Items that were never verified have no expiry yet; `target_is_verified` refuses them.
        AnyOf((Missing("items_expire_at"), NotBelow("items_expire_at", format_utc(now + minimum_life)))),
        f"The batch's items expire too soon, at {target.items_expire_at}",
        "Load the batch again first",
    )
    writes = [
        Write(
            key=target.key,
            conditions=(verified, outlives, *eligible, *(_region_holds_it(region) for region in following)),
            assign={"release_state": ReleaseState.LIVE, "published_sequence": sequence},
            remove=("superseded_sequence",),
        ),
        Write(
            key=pointer_key(model, live_pointers.home_region),
            conditions=(_pointer_is_as_seen(live_pointers.home), *home_conditions),
            assign={**pointed_at, **previous, **withdrawn},
        ),
        _entry(
            model,
            sequence,
            request,
            now,
            {
                "action": action,
                "batch_id": target.batch_id,
                "partition": target.partition,
                **previous,
                **({"serving": serving} if serving is not None else {}),
            },
        ),
        request_is_new(request_key(model, request.request_id), request, action, sequence),
        *(Write(key=pointer_key(model, region), assign=pointed_at) for region in following),
        *checks,
    ]
    if replaced and replaced != target.batch_id:
        left = ReleaseState.WITHDRAWN if action is Action.ROLLBACK else ReleaseState.SUPERSEDED
        writes.append(
            Write(
                key=batch_key(model, replaced),
                assign={
                    "release_state": left,
                    "superseded_sequence": sequence,
                    "retain_until": format_utc(now + retention),
                },
            )
        )
    return Transaction(model, target.batch_id, tuple(writes))


def _regions_that_follow(target: BatchRecord, live_pointers: LivePointers) -> tuple[str, ...]:
    return tuple(
        region
        for region in sorted(live_pointers.regions)
        if _region_holds_it(region).clause.holds({"verified_regions": target.verified_regions})
    )


def _pointer_is_as_seen(pointer: LivePointer | None) -> Condition:
    return Condition(
        "pointer_is_as_seen",
        Equals("sequence", pointer.sequence) if pointer else Missing("sequence"),
        "The live pointer has moved in the meantime",
        "Read it again and decide again",
    )


def _region_holds_it(region: str) -> Condition:
    return Condition(
        "region_holds_the_batch",
        Contains("verified_regions", region),
        f"The replica in {region} is not yet known to hold the whole batch",
        f"Verify it in {region} first",
    )


def _pointed_at(target: BatchRecord, sequence: int, now: datetime) -> dict[str, Value]:
    return {
        "batch_id": target.batch_id,
        "partition": target.partition,
        "sequence": sequence,
        "published_at": format_utc(now),
    }


def _entry(model: str, sequence: int, request: ChangeRequest, now: datetime, what: dict[str, Value]) -> Write:
    return Write(
        key=publication_key(model, sequence),
        assign={
            **what,
            "sequence": sequence,
            "request_id": request.request_id,
            "actor": request.actor,
            "reason": request.reason[:LONGEST_REASON],
            "published_at": format_utc(now),
        },
    )
