"""For each condition of the registry's rules, a short history that breaks an invariant without it."""

from __future__ import annotations

import inspect
from typing import Any

from tests.contract.registry_machine import RegistryMachine
from tests.contract.rules_machine import Step
from tests.fakes.prediction_stores import FIRST, OLDER, SECOND

_USUAL: dict[str, Any] = {
    "released": (),
    "later": "release_at_once",
    "hours": 0,
    "batch_id": FIRST,
    "other": FIRST,
    "choice": 0,
    "chosen": 0,
    "steps_before": None,
    "becomes_a_zombie": False,
    "answer_lost": False,
}


def step(rule_name: str, **arguments: Any) -> Step:
    """Return a step of the machine, with default values for omitted arguments."""
    taken = inspect.signature(getattr(RegistryMachine, rule_name)).parameters
    return rule_name, {name: _USUAL[name] for name in taken if name in _USUAL} | arguments


HISTORIES: dict[str, tuple[Step, ...]] = {
    "abandon_claim.claim_is_dead": (
        step("begin", released=(FIRST,)),
        step("several_steps_happen_at_once", sequel="refuse_at_once"),
        step("somebody_acts", actor="abandon"),
    ),
    "begin_writing.claim_is_ours": (
        step("begin"),
        step("a_zombie_wakes", steps=1),
    ),
    "begin_writing.manifest_is_the_jobs": (
        step("begin"),
        step("several_steps_happen_at_once", choice=2, sequel="replace_manifest_under_a_load"),
    ),
    "claim_load.attempt_is_the_next": (
        step("begin", released=(FIRST,)),
        step("two_race", chosen=2, race=("claim", "replace_job")),
    ),
    "claim_load.batch_is_not_retired": (
        step("begin"),
        step("a_load_gets_some_way", steps=4),
        step("time_passes", hours=70),
        step("several_steps_happen_at_once", sequel="sweep"),
        step("several_steps_happen_at_once", sequel="load_at_once"),
    ),
    "claim_load.load_state_is_as_seen": (
        step("begin"),
        step("several_steps_happen_at_once", choice=2, sequel="replace_job"),
        step("two_race", race=("claim", "verify")),
    ),
    "claim_load.no_load_is_claimed": (
        step("begin", released=(FIRST,)),
        step("several_steps_happen_at_once", sequel="refuse_at_once"),
        step("a_load_gets_some_way", steps=0),
    ),
    "clear.claim_is_ours": (
        step("begin"),
        step("a_load_gets_some_way", steps=4),
        step("time_passes", hours=30),
        step("time_passes", hours=30),
        step("time_passes", hours=30),
        step("several_steps_happen_at_once", sequel="retire_twice"),
    ),
    "complete_load.claim_is_ours": (
        step("begin"),
        step("a_zombie_wakes", steps=3),
    ),
    "confirm_claim.claim_is_ours": (
        step("begin"),
        step("two_race", race=("abandon", "job_step"), steps_before=4),
    ),
    "confirm_claim.claim_is_unconfirmed": (
        step("begin"),
        step("several_steps_happen_at_once", sequel="replace_job"),
    ),
    "confirm_region.region_holds_the_verified_load": (
        step("begin", released=(FIRST, SECOND, OLDER), hours=70),
        step("somebody_acts", actor="publish"),
        step("two_race", batch_id=SECOND, race=("confirm_region", "retire_and_restore")),
    ),
    "follow_home.home_serves_the_same": (
        step("begin", released=(FIRST, SECOND)),
        step("two_race", race=("follow", "publish")),
    ),
    "follow_home.pointer_is_as_seen": (
        step("begin", released=(FIRST, SECOND)),
        step("somebody_acts", actor="publish"),
        step("two_race", race=("follow", "follow")),
    ),
    "follow_home.region_holds_the_batch": (
        step("begin"),
        step("several_steps_happen_at_once", sequel="publish_and_follow"),
    ),
    "hold.pointer_is_as_seen": (
        step("begin", released=(FIRST, SECOND)),
        step("two_race", race=("hold", "publish")),
    ),
    "hold.request_is_new": (
        step("begin"),
        step("somebody_acts", actor="hold"),
        step("somebody_acts", actor="ask_again"),
    ),
    "publish.pointer_is_as_seen": (
        step("begin"),
        step("several_steps_happen_at_once", sequel="load_at_once"),
        step("an_actor_is_overtaken", quick=(("hold", False, 0),), slow="publish"),
    ),
    "publish.publication_is_not_held": (
        step("begin"),
        step("somebody_acts", actor="hold"),
        step("several_steps_happen_at_once", choice=1, sequel="roll_back_and_go_on"),
    ),
    "publish.request_is_new": (
        step("begin", released=(FIRST, SECOND)),
        step("somebody_acts", actor="ask_again"),
    ),
    "publish.target_is_newer_than_live": (
        step("begin", released=(FIRST,)),
        step("several_steps_happen_at_once", batch_id=OLDER, choice=1, sequel="load_at_once"),
        step("somebody_acts", batch_id=OLDER, actor="automatic"),
    ),
    "publish.target_is_not_live": (
        step("begin", released=(FIRST,)),
        step("several_steps_happen_at_once", sequel="release_at_home"),
    ),
    "publish.target_is_verified": (
        step("begin"),
        step("several_steps_happen_at_once", batch_id=OLDER, sequel="release_at_home"),
    ),
    "publish.target_lives_long_enough": (
        step("begin", released=(FIRST, SECOND)),
        step("time_passes", hours=170),
        step("somebody_acts", actor="publish"),
    ),
    "publish.target_passed_its_checks": (
        step("begin"),
        step("several_steps_happen_at_once", sequel="release_automatically"),
    ),
    "publish.target_was_minted_after_rollback": (
        step("begin", released=(OLDER, FIRST), hours=30),
        step("several_steps_happen_at_once", batch_id=OLDER, choice=1, sequel="roll_back_and_go_on"),
    ),
    "publish.target_was_never_published": (
        step("begin", released=(FIRST, OLDER)),
        step("somebody_acts", actor="automatic"),
    ),
    "refuse_load.batch_is_not_verified": (
        step("begin", released=(FIRST,)),
        step("several_steps_happen_at_once", sequel="refuse_at_once"),
    ),
    "refuse_load.claim_is_ours": (
        step("begin"),
        step("a_zombie_wakes", choice=12, steps=1),
    ),
    "refuse_load.manifest_is_the_jobs": (
        step("begin"),
        step("several_steps_happen_at_once", sequel="replace_manifest_under_a_load"),
    ),
    "refuse_manifest.batch_is_not_retired": (
        step("begin"),
        step("a_load_gets_some_way", batch_id=OLDER, steps=4),
        step("time_passes", hours=70),
        step("several_steps_happen_at_once", choice=1, sequel="sweep"),
        step("somebody_acts", actor="refuse_manifest"),
    ),
    "refuse_manifest.manifest_is_as_seen": (
        step("begin"),
        step("two_race", batch_id=OLDER, race=("refuse_manifest", "load_at_once")),
    ),
    "refuse_manifest.manifest_is_not_fixed": (
        step("begin", released=(OLDER,)),
        step("somebody_acts", actor="refuse_manifest"),
    ),
    "refuse_manifest.nothing_is_loading": (
        step("begin"),
        step("two_race", batch_id=OLDER, race=("automatic", "check"), steps_before=1),
        step("somebody_acts", actor="refuse_manifest"),
    ),
    "register_batch.batch_is_not_retired": (
        step("begin"),
        step("two_race", batch_id=OLDER, race=("abandon", "job_step"), steps_before=1),
        step("half_an_hour_passes"),
        step("time_passes", hours=30),
        step("time_passes", hours=30),
        step(
            "an_actor_is_overtaken",
            other=OLDER,
            quick=(("sweep", False, 0), ("notice", True, 1)),
            slow="notice",
        ),
    ),
    "register_batch.load_state_is_as_seen": (
        step("begin"),
        step("a_load_gets_some_way", choice=3, steps=3),
        step("two_race", choice=3, chosen=3, race=("notice", "load_at_once")),
    ),
    "register_batch.manifest_is_as_seen": (
        step("begin"),
        step("an_actor_is_overtaken", quick=(("refuse_at_once", False, 0),), slow="notice"),
    ),
    "register_batch.manifest_is_not_fixed": (
        step("begin", released=(FIRST,)),
        step("several_steps_happen_at_once", sequel="load_at_once"),
    ),
    "release_claim.claim_is_ours": (
        step("begin"),
        step("a_zombie_wakes", steps=1),
        step("somebody_acts", actor="job_step"),
    ),
    "retire.batch_is_not_live": (
        step("begin"),
        step("several_steps_happen_at_once", sequel="release_at_home"),
        step("time_passes", hours=70),
        step("several_steps_happen_at_once", sequel="retire_and_restore"),
    ),
    "retire.batch_is_not_the_previous_one": (
        step("begin", released=(FIRST, SECOND), hours=70),
        step("several_steps_happen_at_once", sequel="sweep"),
    ),
    "retire.no_region_serves_it": (
        step("begin", released=(FIRST, SECOND, OLDER), later="release_at_home"),
        step("time_passes", hours=30),
        step("time_passes", hours=30),
        step("time_passes", hours=30),
        step("several_steps_happen_at_once", sequel="retire_and_restore"),
    ),
    "retire.nothing_is_loading": (
        step("begin", released=(SECOND, OLDER)),
        step("time_passes", hours=70),
        step("several_steps_happen_at_once", sequel="release_at_home"),
        step("several_steps_happen_at_once", batch_id=SECOND, sequel="retire_twice"),
    ),
    "retire.projection_has_moved_on": (
        step("begin"),
        step("several_steps_happen_at_once", choice=1, sequel="roll_back_and_go_on"),
        step("the_next_publication_is_projected"),
        step("time_passes", hours=70),
        step("several_steps_happen_at_once", choice=1, sequel="sweep"),
    ),
    "retire.retention_is_over": (
        step("begin"),
        step("several_steps_happen_at_once", sequel="retire_and_restore"),
    ),
    "rollback.pointer_is_as_seen": (
        step("begin", released=(FIRST, SECOND)),
        step("an_actor_is_overtaken", quick=(("hold", False, 0),), slow="rollback"),
    ),
    "rollback.region_holds_the_batch": (
        step("begin", released=(OLDER,)),
        step("several_steps_happen_at_once", sequel="release_at_home"),
        step("an_actor_is_overtaken", batch_id=OLDER, quick=(("load_at_once", False, 0),), slow="rollback"),
    ),
    "rollback.request_is_new": (
        step("begin", released=(FIRST, SECOND)),
        step("several_steps_happen_at_once", sequel="roll_back_and_forward"),
    ),
    "rollback.target_is_verified": (
        step("begin", released=(FIRST, SECOND, OLDER), hours=70),
        step("several_steps_happen_at_once", sequel="retire_and_restore"),
        step("somebody_acts", actor="rollback"),
    ),
    "rollback.target_lives_long_enough": (
        step("begin", released=(FIRST, SECOND)),
        step("time_passes", hours=170),
        step("several_steps_happen_at_once", sequel="roll_back_and_forward"),
    ),
    "rollback.target_was_superseded": (
        step("begin"),
        step("several_steps_happen_at_once", sequel="load_at_once"),
        step("several_steps_happen_at_once", sequel="roll_back_and_forward"),
    ),
    "verify_load.dynamodb_checksum_adds_up": (
        step("begin"),
        step("a_zombie_wakes", chosen=14, steps=1),
        step("somebody_acts", actor="verify"),
    ),
    "verify_load.dynamodb_rows_add_up": (
        step("begin"),
        step("two_race", choice=40, race=("claim", "verify"), steps_before=4),
    ),
    "verify_load.evidence_is_of_the_last_load": (
        step("begin"),
        step("two_race", race=("abandon", "job_step"), steps_before=4),
        step("two_race", race=("verify", "claim")),
    ),
    "verify_load.snowflake_checksum_adds_up": (
        step("begin"),
        step("two_race", choice=16, race=("claim", "verify"), steps_before=4),
    ),
    "verify_load.snowflake_rows_add_up": (
        step("begin"),
        step("a_zombie_wakes", chosen=15, steps=1),
        step("somebody_acts", actor="verify"),
    ),
    "verify_load.some_row_was_accepted": (
        step("begin"),
        step("two_race", choice=8, race=("verify", "retire"), steps_before=4),
    ),
}
