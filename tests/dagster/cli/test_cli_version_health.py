"""Findings of `mlpipe doctor` on a model's versions, without any store, so that each fault can be tested."""

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
    """Return the champion pointer to that version, unless changed."""
    return ChampionPointer(
        **{"model": MODEL, "version": 7, "digest": f"{7:016x}", "sequence": 3, "promoted_at": "x", **values}
    )


def execution(status: str = "Succeeded", age: timedelta = DAY, **values: Any) -> ListedExecution:
    """Return a retraining execution."""
    arn = f"{ACCOUNT}:pipeline/mlpipe-test-0retrain-tides/execution/{status.lower()}{age.days}"
    return ListedExecution(**{"arn": arn, "name": "", "status": status, "started_at": NOW - age, **values})


def findings(**values: Any) -> list[tuple[str, str, str]]:
    """Return severity, topic and text of each finding on a healthy model with some facts changed."""
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


def test_healthy_versions_have_no_findings() -> None:
    """The champion has its file and its approval, and was retrained yesterday."""
    assert findings() == []


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
    """Each fault gives one finding with its severity and topic, and a text that names it."""
    ((severity, topic, what),) = findings(**values)
    assert (severity, topic) == expected
    assert words in what


def test_failure_counts_until_a_success_or_for_a_week() -> None:
    """After that, a failed retraining needs no attention."""
    assert findings(executions=[execution(), execution("Failed", 2 * DAY)]) == []
    assert findings(executions=[execution("Failed", 8 * DAY)]) == []


def test_model_without_a_schedule_needs_no_retraining() -> None:
    """Such a model is retrained on request, or when it drifts."""
    assert findings(is_scheduled=False, executions=[]) == []


def test_model_with_a_declared_file_needs_no_champion() -> None:
    """A model file in the declaration scores without a champion."""
    assert findings(pointer=ChampionPointer(model=MODEL), champion=None, needs_champion=False) == []


def test_candidate_that_waits_too_long_is_found() -> None:
    """A younger candidate is no finding."""
    young = version(8, state="candidate", created_at=format_utc(NOW - 6 * DAY))
    old = version(9, state="candidate", created_at=format_utc(NOW - 8 * DAY))
    ((severity, topic, what),) = findings(waiting=[(young, "a"), (old, "A person must approve it")])
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
def test_waiting_version_shows_what_it_waits_for(
    target: ModelVersion, seen: ChampionPointer, why: str
) -> None:
    """The text is that of the condition that keeps the version from being promoted by rule."""
    assert why in (waits_for(target, seen) or "")


def test_settled_version_waits_for_nothing() -> None:
    """A version that is refused, superseded, withdrawn, retired or the champion is not on its way."""
    for state in ("refused", "superseded", "withdrawn", "retired", "champion"):
        assert waits_for(version(8, state=state), pointer()) is None
