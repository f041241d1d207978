"""Tests of what a score job says of its progress, alone and as the first of several hosts."""

from __future__ import annotations

import logging
from typing import TYPE_CHECKING, Any

import pytest

from prediction_batches.object_store import ObjectStore
from sagemaker_scripts.scoring import hosts as hosts_module
from sagemaker_scripts.scoring.hosts import HostLostError, Hosts, HostState, HostWatch
from sagemaker_scripts.scoring.score_progress import ScoreProgress
from sagemaker_scripts.scoring.shares import Share
from tests.fakes.memory_s3 import MemoryS3

if TYPE_CHECKING:
    from collections.abc import Mapping

PREFIX = "predictions/m/json/dt=2013-02-01/batch=b/attempt=1/"
NAMES = ("algo-1", "algo-2", "algo-3")


class Told:
    """What was sent, in order."""

    def __init__(self) -> None:
        self.messages: list[tuple[str, dict[str, Any]]] = []

    def __call__(self, kind: str, values: Mapping[str, Any]) -> None:
        """Keep a message."""
        self.messages.append((kind, dict(values)))


@pytest.fixture
def store() -> ObjectStore:
    """Give an empty bucket."""
    return ObjectStore(MemoryS3(), "mlpipe-data")


def watch(store: ObjectStore, host: str) -> HostWatch:
    """Return a host's watch over the others."""
    return HostWatch(store, PREFIX, Hosts(host, NAMES))


def test_one_host_tells_rows_rate_and_time_left(caplog: pytest.LogCaptureFixture) -> None:
    """Rows that were done before the step began count, and make it no faster."""
    caplog.set_level(logging.INFO)
    told = Told()
    progress = ScoreProgress("here", None, told)
    with progress.step("score", 1000, done=400):
        progress.count_rows(350)
        progress.count_rows(250)
    (_, begun), (kind, ended) = told.messages
    assert begun == {"step": "score", "rows": 400, "seconds": 0}
    assert (kind, ended["step"], ended["rows"], ended["eta_seconds"]) == ("progress", "score", 1000, 0)
    assert 0 < ended["rows_per_second"] <= 600 / 0.001
    assert "progress: step=score rows=400 seconds=0" in caplog.text


def test_the_first_host_adds_what_the_others_tell_of_the_same_step(store: ObjectStore) -> None:
    """A host that still divides has scored nothing; the others say nothing to Dagster themselves."""
    told = Told()
    first = ScoreProgress("algo-1", watch(store, "algo-1"), told)
    others = [ScoreProgress(name, watch(store, name), None) for name in NAMES[1:]]
    with first.step("score", 600), others[0].step("score", 600), others[1].step("divide", 600):
        first.count_rows(10)
        others[0].count_rows(20)
        others[1].count_rows(40)
        others[0]._report_state(None)
        first._report(600, 0, 0.0)
        assert told.messages[-1][1]["rows"] == 30
    first.complete()
    first._report(600, 0, 0.0)
    assert told.messages[-1][1]["rows"] == 600


def test_what_an_earlier_run_left_is_no_sign_of_life(
    store: ObjectStore, monkeypatch: pytest.MonkeyPatch
) -> None:
    """Only what a host says after the first one began counts; its failure then does."""
    shares = {"algo-2": [Share("00001"), Share("00004")]}
    before = watch(store, "algo-2")
    before.report_state(HostState("algo-2", "score", 5, "earlier-1", "MemoryError: too much"))
    first = watch(store, "algo-1")
    assert first.read_reports() == {}
    first.require_alive(shares)
    monkeypatch.setattr(hosts_module, "START_PATIENCE_SECONDS", -1.0)
    fault = r"algo-2 did not start within 0 s \(2 shares are missing, including 00001, 00004\)"
    with pytest.raises(HostLostError, match=fault):
        first.require_alive(shares)
    before.report_state(HostState("algo-2", "score", 5, "later-1"))
    assert first.read_reports()["algo-2"].rows == 5
    first.require_alive(shares)
    before.report_state(HostState("algo-2", "score", 5, "later-2", "MemoryError: too much"))
    first.read_reports()
    with pytest.raises(HostLostError, match=r"algo-2 failed: MemoryError: too much .*Read the logs"):
        first.require_alive(shares)


def test_what_a_stopped_job_says_at_its_end_is_nobody_s_failure(store: ObjectStore) -> None:
    """Its hosts may end after the next job of the same attempt began, and have the same names."""
    first = HostWatch(store, PREFIX, Hosts("algo-1", NAMES, "job-2"))
    stopped, own = (HostWatch(store, PREFIX, Hosts("algo-2", NAMES, job)) for job in ("job-1", "job-2"))
    stopped.report_state(HostState("algo-2", "score", 5, "1-1", "SystemExit: 143"))
    assert first.read_reports() == {}
    own.report_state(HostState("algo-2", "score", 5, "2-1"))
    assert first.read_reports()["algo-2"].error is None
    stopped.report_state(HostState("algo-2", "score", 6, "1-2", "SystemExit: 143"))
    first.read_reports()
    first.require_alive({"algo-2": [Share("00001")]})


def test_a_host_that_ended_may_be_silent_but_owes_no_share(
    store: ObjectStore, monkeypatch: pytest.MonkeyPatch
) -> None:
    """It has put its receipts before it said so; one that still works must say so again and again."""
    monkeypatch.setattr(hosts_module, "SILENCE_PATIENCE_SECONDS", -1.0)
    first, second, third = (watch(store, name) for name in NAMES)
    second.report_state(HostState("algo-2", "ended", 9, "2-1"))
    third.report_state(HostState("algo-3", "score", 9, "3-1"))
    first.read_reports()
    assert first.ended() == {"algo-2"}
    first.require_alive({"algo-2": ()})
    with pytest.raises(HostLostError, match=r"algo-3 has not reported for 0 s\. Read"):
        first.require_alive({"algo-2": (), "algo-3": ()})
    with pytest.raises(
        HostLostError, match=r"algo-2 ended without writing all its shares \(1 shares are missing"
    ):
        first.require_alive({"algo-2": [Share("00001")]}, first.ended())


def test_a_failure_is_told_to_the_other_hosts(store: ObjectStore) -> None:
    """Whatever ends a step, the first host hears why."""
    first, second = watch(store, "algo-1"), ScoreProgress("algo-2", watch(store, "algo-2"), None)
    with pytest.raises(ValueError, match="minutes"), second.step("score", 10):
        raise ValueError("minutes are impossible")
    assert first.read_reports()["algo-2"].error == "ValueError: minutes are impossible"
