"""Invariants of the registry and of what its readers see."""

from __future__ import annotations

from collections.abc import Mapping
from typing import TYPE_CHECKING

from prediction_contract.naming.batch import BatchId
from prediction_contract.registry.records import (
    BatchRecord,
    LivePointer,
    LoadState,
    RecordKey,
    batch_key,
    publication_key,
)
from prediction_contract.registry.stored_record import Attributes
from prediction_contract.text.utc_time import parse_utc
from tests.fakes.prediction_stores import BATCHES, FAR, HOME, MINIMUM_LIFE, MODEL, World, expected_rows

if TYPE_CHECKING:
    from datetime import datetime

    from tests.contract.registry_simulation import RegistrySimulation
    from tests.fakes.registry_table import FakeRegistryTable

LOAD_STATES = {
    None: {"done", "refused"},
    "done": {"done", "loading", "refused", "retired"},
    "loading": {"loading", "loaded", "done", "refused"},
    "loaded": {"loaded", "verified", "loading", "retired"},
    "verified": {"verified", "retired"},
    "refused": {"refused", "done", "loading", "retired"},
    "retired": {"retired"},
}
MAKES_LIVE = {"publish", "rollback"}


class InvariantBrokenError(AssertionError):
    """An invariant of the registry is broken."""


def must(held: bool, what: str) -> None:
    """Raise an error with this message unless the invariant held."""
    if not held:
        raise InvariantBrokenError(what)


def check_entries(table: FakeRegistryTable, before: Mapping[RecordKey, Attributes], rule: str) -> None:
    """No publication entry ever changes."""
    for key, entry in before.items():
        must(table.read(key) == entry, f"{rule} rewrote the entry {key.record}")


def check_records(table: FakeRegistryTable, rule: str) -> None:
    """No rule writes an incomplete record of a batch that was never registered."""
    for batch_id in BATCHES:
        attributes = table.read(batch_key(MODEL, batch_id))
        must(not attributes or "batch_id" in attributes, f"{rule} made half a record of {batch_id}")


def check_pointer(table: FakeRegistryTable, region: str, was: LivePointer | None, rule: str) -> None:
    """A live pointer never moves back, and the time of a publication never changes."""
    now = table.pointer(MODEL, region)
    if was is None or now is None or was == now:
        return
    must(now.sequence >= was.sequence, f"{rule} took {region} back to publication {now.sequence}")
    must(
        (now.withdrawn_before or "") >= (was.withdrawn_before or ""),
        f"{rule} forgot that batches minted before {was.withdrawn_before} were withdrawn",
    )
    between = (
        table.read(publication_key(MODEL, sequence)) for sequence in range(was.sequence + 1, now.sequence + 1)
    )
    if now.batch_id == was.batch_id and not any(entry.get("action") in MAKES_LIVE for entry in between):
        must(
            now.published_at == was.published_at,
            f"{rule} changed since when {region} serves {now.batch_id}, by the same publication",
        )


def check_transition(rule: str, was: BatchRecord | None, now: BatchRecord | None) -> None:
    """A batch's states, attempts and cleaning rules change only as permitted."""
    if now is None or was == now:
        return
    old_state = was.load_state if was else None
    must(
        now.load_state == old_state or now.load_state in LOAD_STATES[old_state],
        f"{rule} took {now.batch_id} from {old_state} to {now.load_state}",
    )
    if was:
        must(now.load_attempts >= was.load_attempts, f"{rule} turned the attempts of {now.batch_id} back")
        must(was.cleaning in {None, now.cleaning}, f"{rule} changed the cleaning rules of {now.batch_id}")
        must(
            was.release_state == now.release_state or now.release_state != "unpublished",
            f"{rule} made {now.batch_id} unpublished again",
        )


def check_verified(world: World, batch: BatchRecord) -> None:
    """A batch counts as verified only if each store holds exactly its rows at that moment."""
    expected = expected_rows(batch.manifest_digest, batch.cleaning)
    online = {key: row for key, (row, _) in world.online.get(batch.batch_id, {}).items()}
    must(online == expected, f"{batch.batch_id} was verified without all its rows in DynamoDB")
    warehouse = world.warehouse.get(batch.batch_id, {})
    must(warehouse == expected, f"{batch.batch_id} was verified without all its rows in Snowflake")


def check_replica(world: World, batch: BatchRecord) -> None:
    """A region counts as holding a batch only if its replica holds exactly the batch's rows."""
    replica = {key: row for key, (row, _) in world.replica.get(batch.batch_id, {}).items()}
    expected = expected_rows(batch.manifest_digest, batch.cleaning)
    must(replica == expected, f"{FAR} was said to hold {batch.batch_id} while it holds other rows")


def check_move(
    simulation: RegistrySimulation,
    kind: str,
    target: str,
    now: datetime,
    *,
    live_before: str | None,
    state_before: str,
) -> None:
    """The home region's pointer moves only if the simulation's record of events permits it."""
    batch = simulation.known(target)
    expire_at = batch.items_expire_at
    must(
        expire_at is not None and parse_utc(expire_at) >= now + MINIMUM_LIFE,
        f"{target} became live with too little life left",
    )
    if kind == "automatic":
        must(target not in simulation.ever_published, f"{target} was published automatically a second time")
        must(
            target not in simulation.ever_withdrawn,
            f"{target} was published automatically after its withdrawal",
        )
        must(not simulation.held, f"{target} was published automatically during a hold")
        must(
            batch.check_faults is None and batch.checked_attempt == batch.verified_attempt,
            f"{target} was published automatically although it had not passed its checks",
        )
        must(
            live_before is None or (BATCHES[target], target) > (BATCHES[live_before], live_before),
            f"{target} replaced the newer {live_before} automatically",
        )
        rollback = simulation.last_rollback
        must(
            rollback is None or BatchId(target).minted_at > rollback,
            f"{target} was minted before the last rollback and published automatically",
        )
    if kind == "rollback":
        must(state_before == "superseded", f"rolled back to {target}, which was {state_before}")
        home, far = (simulation.table.pointer(MODEL, region) for region in (HOME, FAR))
        if home and far and home.sequence == far.sequence:
            must(FAR in batch.verified_regions, f"{FAR} moved to the unverified {target}")


def check_readers(simulation: RegistrySimulation) -> None:
    """Readers of every region and of Snowflake see only complete batches."""
    for region in (HOME, FAR):
        pointer = simulation.table.pointer(MODEL, region)
        if pointer and pointer.batch_id:
            batch = simulation.known(pointer.batch_id)
            must(
                simulation.world.is_whole(region, batch),
                f"readers of {region} see {pointer.batch_id} incomplete",
            )
            must(batch.load_state == LoadState.VERIFIED, f"{region} serves a {batch.load_state} batch")
    if simulation.world.projected_batch:
        batch = simulation.known(simulation.world.projected_batch)
        rows = simulation.world.warehouse.get(batch.batch_id, {})
        must(
            rows == expected_rows(batch.manifest_digest, batch.cleaning),
            f"readers of Snowflake see {batch.batch_id} incomplete",
        )


def check_release_states(simulation: RegistrySimulation) -> None:
    """Exactly the home region's batch is live, and the previous batch is verified."""
    home = simulation.table.pointer(MODEL, HOME)
    live = [batch_id for batch_id in BATCHES if simulation.known(batch_id).release_state == "live"]
    must(live == ([home.batch_id] if home and home.batch_id else []), f"live are {live}, served is {home}")
    if home and home.previous_batch_id:
        must(home.previous_batch_id != home.batch_id, "the batch before the live one is the live one")
        previous = simulation.known(home.previous_batch_id)
        must(previous.load_state == LoadState.VERIFIED, f"the rollback target is {previous.load_state}")


def check_workers(simulation: RegistrySimulation) -> None:
    """At most one worker handles a batch, and a job holds its claim and reads its registered manifest."""
    for batch_id in BATCHES:
        batch = simulation.known(batch_id)
        jobs = [
            job
            for job in simulation.world.jobs
            if job.batch_id == batch_id and job.confirmed and not job.finished and not job.reported_ended
        ]
        workers = [job.job_run_id for job in jobs]
        workers += [run_id for run_id, purged in simulation.purges.items() if purged == batch_id]
        must(len(workers) <= 1, f"{workers} work on {batch_id} at once")
        for job in jobs:
            must(batch.claim_token == job.token, f"{job.job_run_id} works on {batch_id} without its claim")
            must(
                job.cleaning is None or job.digest == batch.manifest_digest,
                f"{batch_id} is written from another done file",
            )
        claimed_by_load = batch.claim_token and not str(batch.claim_job_run_id).startswith("purge")
        if batch.load_state in {LoadState.REFUSED, LoadState.RETIRED}:
            must(not claimed_by_load, f"{batch_id} is {batch.load_state} and being loaded")
        if batch.load_state == LoadState.REFUSED:
            must((batch_id, batch.manifest_digest) in simulation.faulty, f"the good {batch_id} is refused")
        if batch.load_state == LoadState.RETIRED:
            must(not batch.verified_regions, f"the retired {batch_id} counts as held by a region")


def check_requests(simulation: RegistrySimulation) -> None:
    """The registry keeps a record of every request that was carried out."""
    kept = {key.record for key in simulation.table.records}
    for request_id in simulation.carried_out:
        must(f"request#{request_id}" in kept, f"the registry has forgotten {request_id}")
