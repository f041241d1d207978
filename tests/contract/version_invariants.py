"""Invariants of a model's versions."""

from __future__ import annotations

from collections.abc import Mapping
from typing import TYPE_CHECKING

from prediction_contract.registry.records import RecordKey
from prediction_contract.registry.stored_record import Attributes
from prediction_contract.registry.version_records import ChampionPointer, ModelVersion, promotion_key
from prediction_contract.text.utc_time import parse_utc
from tests.contract.registry_invariants import must
from tests.fakes.prediction_stores import MODEL

if TYPE_CHECKING:
    from prediction_contract.registry.records import ChangeRequest
    from tests.contract.version_simulation import VersionSimulation
    from tests.fakes.registry_table import FakeRegistryTable

_NEVER_CHAMPION = {"refused", "candidate", "approved"}
STATES = {
    None: _NEVER_CHAMPION,
    "refused": _NEVER_CHAMPION | {"retired"},
    "candidate": _NEVER_CHAMPION,
    "approved": _NEVER_CHAMPION | {"champion"},
    "champion": {"champion", "superseded", "withdrawn"},
    "superseded": {"superseded", "champion", "withdrawn", "retired"},
    "withdrawn": {"withdrawn", "champion", "retired"},
    "retired": {"retired"},
}
_MOVES = {"promote", "demote"}


def check_history(table: FakeRegistryTable, before: Mapping[RecordKey, Attributes], rule: str) -> None:
    """No entry of the champion's history ever changes, and none is missing."""
    for key, entry in before.items():
        must(table.read(key) == entry, f"{rule} rewrote the entry {key.record}")
    pointer = table.champion(MODEL)
    entries = sum("promotion#" in key.record for key in table.records)
    must((pointer.sequence if pointer else 0) == entries, f"{rule} left {entries} entries for {pointer}")
    if pointer and pointer.sequence:
        newest = table.read(promotion_key(MODEL, pointer.sequence))
        must(newest.get("version") == pointer.version, f"{rule} wrote another champion into the history")
        must(newest.get("challenger") == pointer.challenger, f"{rule} wrote another challenger into it")


def check_pointer(was: ChampionPointer | None, now: ChampionPointer | None, rule: str) -> None:
    """The pointer never moves back or forgets a demotion, and only promotions and demotions move it."""
    if was is None or now is None or was == now:
        return
    must(now.sequence > was.sequence, f"{rule} changed the pointer without an entry")
    must(
        (now.withdrawn_before or "") >= (was.withdrawn_before or ""),
        f"{rule} forgot that versions made before {was.withdrawn_before} were withdrawn",
    )
    must(now.version == was.version or rule in _MOVES, f"{rule} moved the champion")


def check_version(rule: str, was: ModelVersion | None, now: ModelVersion | None) -> None:
    """A version's state changes only as permitted, and its identity never changes."""
    if now is None or was == now:
        return
    old_state = was.state if was else None
    must(now.state in STATES[old_state], f"{rule} took version {now.version} from {old_state} to {now.state}")
    if was:
        for name in ("digest", "artifact_key", "artifact_sha256", "created_at", "judged_against"):
            must(getattr(was, name) == getattr(now, name), f"{rule} changed the {name} of {now.version}")


def check_champion_may_score(simulation: VersionSimulation, number: int | None) -> None:
    """Only a version that was approved at least once becomes the champion."""
    must(
        number is None or number in simulation.approved_once,
        f"{number} became the champion, and was never approved",
    )


def check_promotion(
    simulation: VersionSimulation, version: ModelVersion, *, replaced: int | None, request: ChangeRequest
) -> None:
    """A version is promoted only if the simulation's record of events permits it."""
    number = version.version
    check_champion_may_score(simulation, number)
    if not request.automatic:
        return
    must(number not in simulation.ever_champion, f"{number} was promoted by rule a second time")
    record = simulation.table.model_version(MODEL, number)
    must(record is not None and record.approval == "Approved", f"{number} was promoted by rule, not approved")
    must(not simulation.held, f"{number} was promoted by rule during a hold")
    must(replaced is None or number > replaced, f"{number} replaced the newer {replaced} by rule")
    must(
        version.judged_against == (replaced or 0),
        f"{number} replaced {replaced} by rule, and was judged against {version.judged_against}",
    )
    demotion = simulation.last_demotion
    must(
        demotion is None or parse_utc(version.created_at) > demotion,
        f"{number} was made before the last demotion and promoted by rule",
    )


def check_challenger(simulation: VersionSimulation, number: int) -> None:
    """A challenger is a candidate, approved or superseded version."""
    must(
        not number or simulation.state(number) in {"candidate", "approved", "superseded"},
        f"{number} became the challenger, and is {simulation.state(number)}",
    )


def check_versions(simulation: VersionSimulation) -> None:
    """Exactly the version in the pointer is the champion, and no version in the pointer is retired."""
    pointer = simulation.table.champion(MODEL) or ChampionPointer(model=MODEL)
    champions = [number for number in simulation.packages if simulation.state(number) == "champion"]
    must(champions == ([pointer.version] if pointer.version else []), f"champions are {champions}: {pointer}")
    must(
        pointer.challenger is None or pointer.challenger != pointer.version, "the champion challenges itself"
    )
    for number, what in (
        (pointer.version, "champion"),
        (pointer.previous_version, "version before the champion"),
        (pointer.challenger, "challenger"),
    ):
        must(simulation.state(number) != "retired", f"the artifact of the {what}, {number}, is gone")


def check_batches(simulation: VersionSimulation) -> None:
    """All attempts of a batch use one version, which was approved once and keeps its artifact."""
    for batch_id, number in simulation.attempts:
        must(number == simulation.pins[batch_id], f"attempts at {batch_id} used two versions")
        must(number in simulation.approved_once, f"{batch_id} was scored by {number}, never approved")
        must(
            simulation.state(number) != "retired",
            f"the artifact of {number}, which {batch_id} names, is gone",
        )


def check_requests(simulation: VersionSimulation) -> None:
    """The registry keeps a record of every request that was carried out."""
    kept = {key.record for key in simulation.table.records}
    for request_id in simulation.carried_out:
        must(f"version_request#{request_id}" in kept, f"the registry has forgotten {request_id}")
