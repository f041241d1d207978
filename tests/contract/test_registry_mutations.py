"""No condition of the rules is there for nothing: leaving any one out breaks an invariant."""

from __future__ import annotations

import pytest
from hypothesis.stateful import run_state_machine_as_test

from tests.contract.registry_invariants import InvariantBrokenError
from tests.contract.registry_machine import RegistryMachine, independent_histories
from tests.contract.registry_simulation import RegistrySimulation

pytestmark = [pytest.mark.slow, pytest.mark.timeout(900)]

CONDITIONS = (
    "abandon_claim.claim_is_dead",
    "begin_writing.claim_is_ours",
    "begin_writing.manifest_is_the_jobs",
    "claim_load.attempt_is_the_next",
    "claim_load.batch_is_not_retired",
    "claim_load.load_state_is_as_seen",
    "claim_load.no_load_is_claimed",
    "clear.claim_is_ours",
    "complete_load.claim_is_ours",
    "confirm_claim.claim_is_ours",
    "confirm_claim.claim_is_unconfirmed",
    "confirm_region.region_holds_the_verified_load",
    "follow_home.home_serves_the_same",
    "follow_home.pointer_is_as_seen",
    "follow_home.region_holds_the_batch",
    "hold.pointer_is_as_seen",
    "hold.request_is_new",
    "publish.pointer_is_as_seen",
    "publish.publication_is_not_held",
    "publish.request_is_new",
    "publish.target_is_newer_than_live",
    "publish.target_is_not_live",
    "publish.target_is_verified",
    "publish.target_lives_long_enough",
    "publish.target_passed_its_checks",
    "publish.target_was_minted_after_rollback",
    "publish.target_was_never_published",
    "refuse_load.batch_is_not_verified",
    "refuse_load.claim_is_ours",
    "refuse_load.manifest_is_the_jobs",
    "refuse_manifest.batch_is_not_retired",
    "refuse_manifest.manifest_is_as_seen",
    "refuse_manifest.manifest_is_not_fixed",
    "refuse_manifest.nothing_is_loading",
    "register_batch.batch_is_not_retired",
    "register_batch.load_state_is_as_seen",
    "register_batch.manifest_is_as_seen",
    "register_batch.manifest_is_not_fixed",
    "release_claim.claim_is_ours",
    "retire.batch_is_not_live",
    "retire.batch_is_not_the_previous_one",
    "retire.no_region_serves_it",
    "retire.nothing_is_loading",
    "retire.projection_has_moved_on",
    "retire.retention_is_over",
    "rollback.pointer_is_as_seen",
    "rollback.region_holds_the_batch",
    "rollback.request_is_new",
    "rollback.target_is_verified",
    "rollback.target_lives_long_enough",
    "rollback.target_was_superseded",
    "verify_load.dynamodb_checksum_adds_up",
    "verify_load.dynamodb_rows_add_up",
    "verify_load.evidence_is_of_the_last_load",
    "verify_load.snowflake_checksum_adds_up",
    "verify_load.snowflake_rows_add_up",
    "verify_load.some_row_was_accepted",
    "withdraw.batch_is_not_live",
    "withdraw.request_is_new",
)


def test_every_condition_of_the_rules_is_listed_and_none_is_broken_as_they_stand() -> None:
    """A new condition cannot be left out of this test, and the whole rules hold in as many histories."""
    run_state_machine_as_test(RegistryMachine, settings=independent_histories(3000))
    assert sorted(RegistrySimulation.seen_conditions) == sorted(CONDITIONS)


@pytest.mark.parametrize("condition", CONDITIONS)
def test_leaving_a_condition_out_breaks_an_invariant(condition: str) -> None:
    """Somebody sees half a batch, a lost answer acts twice, or the like."""

    class MutatedMachine(RegistryMachine):
        """The same actors under rules that lack one condition."""

        disabled = frozenset({condition})

    with pytest.raises(InvariantBrokenError):
        run_state_machine_as_test(MutatedMachine, settings=independent_histories(6000))
