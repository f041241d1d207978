"""What `mlpipe doctor` makes of a model's versions: pure, so that every fault can be put before it."""

from __future__ import annotations

from datetime import UTC, datetime, timedelta
from typing import Any

import pytest

from mlpipe_dagster.cli.health.version_health import RETRAINED_WITHIN, VersionFacts, version_findings
from mlpipe_dagster.cli.versions.listed_executions import ListedExecution
from mlpipe_dagster.cli.versions.version_documents import waits_for
from prediction_contract.registry.version_records import ChampionPointer, ModelVersion
from prediction_contract.text.utc_time import format_utc

NOW = datetime(2026, 11, 23, 12, tzinfo=UTC)
MODEL = "tides"
DAY = timedelta(days=1)
ACCOUNT = "arn:aws:sagemaker:us-east-1:000000000000"


def version(number: int = 7, **values: Any) -> ModelVersion:
    """Return a version that is the champion, unless changed."""
    return ModelVersion(
        **{
            "model": MODEL,
            "version": number,
            "state": "champion",
            "digest": f"{number:016x}",
            "artifact_key": f"models/{MODEL}/candidates/job/output/model.tar.gz",
            "artifact_sha256": "a" * 64,
            "package_arn": f"{ACCOUNT}:model-package/mlpipe-test-tides/{number}",
            "approval": "Approved",
            "created_at": format_utc(NOW - DAY),
            **values,
        }
    )


def pointer(**values: Any) -> ChampionPointer:
    """Return the pointer to that version."""
    return ChampionPointer(
        **{"model": MODEL, "version": 7, "digest": f"{7:016x}", "sequence": 3, "promoted_at": "x", **values}
    )


def execution(status: str = "Succeeded", age: timedelta = DAY, **values: Any) -> ListedExecution:
    """Return an execution."""
    arn = f"{ACCOUNT}:pipeline/mlpipe-test-0retrain-tides/execution/{status.lower()}{age.days}"
    return ListedExecution(**{"arn": arn, "name": "", "status": status, "started_at": NOW - age, **values})


def found(**values: Any) -> list[tuple[str, str, str]]:
    """Return severity, topic and words of each finding about a model that is well but for some facts."""
    facts = VersionFacts(
        **{
            "model": MODEL,
            "pointer": pointer(),
            "champion": version(),
            "champion_approval": "Approved",
            "has_artifact": True,
            "waiting": [],
            "executions": [execution()],
            "is_scheduled": True,
            "needs_champion": True,
            "unchallenged": [],
            "patience": 7 * DAY,
            "now": NOW,
            **values,
        }
    )
    return [(str(each.severity), each.topic, each.what) for each in version_findings(facts)]


def test_nothing_is_found_where_all_is_well() -> None:
    """A champion with file and approval, retrained yesterday."""
    assert found() == []


@pytest.mark.parametrize(
    ("values", "expected", "words"),
    [
        ({"pointer": pointer(hold=True)}, ("note", "champion"), "on hold"),
        (
            {"pointer": ChampionPointer(model=MODEL), "champion": None},
            ("note", "champion"),
            "nothing can be scored",
        ),
        ({"champion": None}, ("error", "champion"), "its record is missing"),
        ({"champion": version(state="superseded")}, ("error", "champion"), "its record is superseded"),
        ({"champion": version(digest="f" * 16)}, ("error", "champion"), "with digest ffff"),
        ({"has_artifact": False}, ("error", "champion"), "file of version 7 is gone"),
        ({"champion_approval": None}, ("warning", "champion"), "package of version 7 is deleted"),
        ({"champion_approval": "Rejected"}, ("warning", "champion"), "shows version 7 as Rejected"),
        (
            {"executions": [execution("Executing"), execution("Failed", failure="no data")]},
            ("warning", "retraining"),
            "failed1, is Failed: no data",
        ),
        ({"executions": [execution(age=RETRAINED_WITHIN + DAY)]}, ("warning", "retraining"), "for 35 days"),
        ({"executions": []}, ("warning", "retraining"), "for 35 days"),
        ({"unchallenged": ["2026-11-21", "2026-11-22"]}, ("warning", "challenger"), "2026-11-21, 2026-11-22"),
    ],
)
def test_each_fault_is_found_once(values: dict[str, Any], expected: tuple[str, str], words: str) -> None:
    """Severity and topic are as documented, and the words name what it is about."""
    ((severity, topic, what),) = found(**values)
    assert (severity, topic) == expected
    assert words in what


def test_a_failure_is_history_after_a_success_or_a_week() -> None:
    """Nobody has to look at it any more."""
    assert found(executions=[execution(), execution("Failed", 2 * DAY)]) == []
    assert found(executions=[execution("Failed", 8 * DAY)]) == []


def test_without_a_schedule_nobody_expects_a_retraining() -> None:
    """Such a model is retrained when somebody asks, or when it drifts."""
    assert found(is_scheduled=False, executions=[]) == []


def test_a_model_that_needs_no_champion_may_have_none() -> None:
    """A file that the declaration names scores without one."""
    assert found(pointer=ChampionPointer(model=MODEL), champion=None, needs_champion=False) == []


def test_a_candidate_is_found_once_it_has_waited_too_long() -> None:
    """Until then it is somebody's task and no finding."""
    young = version(8, state="candidate", created_at=format_utc(NOW - 6 * DAY))
    old = version(9, state="candidate", created_at=format_utc(NOW - 8 * DAY))
    ((severity, topic, what),) = found(waiting=[(young, "a"), (old, "A person must approve it")])
    assert (severity, topic) == ("warning", "candidates")
    assert "Version 9 has waited" in what
    assert "A person must approve it" in what


@pytest.mark.parametrize(
    ("target", "seen", "why"),
    [
        (version(8, state="candidate"), pointer(), "A person must approve it"),
        (version(8, state="approved", judged_against=7), pointer(), "within minutes"),
        (version(1, state="approved"), ChampionPointer(model=MODEL), "within minutes"),
        (
            version(8, state="approved", judged_against=6),
            pointer(),
            "The champion has changed since the plan",
        ),
        (version(8, state="approved", judged_against=7), pointer(hold=True), "on hold"),
        (
            version(8, state="approved", judged_against=7),
            pointer(withdrawn_before=format_utc(NOW)),
            "made before the last demotion",
        ),
    ],
)
def test_what_a_version_waits_for_is_said_by_the_rules(
    target: ModelVersion, seen: ChampionPointer, why: str
) -> None:
    """The words are those of the condition that keeps the version from being promoted by rule."""
    assert why in (waits_for(target, seen) or "")


def test_what_is_over_waits_for_nothing() -> None:
    """A refused, superseded or withdrawn version is not on its way."""
    for state in ("refused", "superseded", "withdrawn", "retired", "champion"):
        assert waits_for(version(8, state=state), pointer()) is None
