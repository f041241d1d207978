"""Tests of a score job's progress reports, from one host and from several."""

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


class SentReports:
    """Collects sent reports in order."""

    def __init__(self) -> None:
        self.messages: list[tuple[str, dict[str, Any]]] = []

    def __call__(self, kind: str, values: Mapping[str, Any]) -> None:
        """Keep a report."""
        self.messages.append((kind, dict(values)))


@pytest.fixture
def store() -> ObjectStore:
    """Give an empty bucket."""
    return ObjectStore(MemoryS3(), "mlpipe-data")


def watch(store: ObjectStore, host: str) -> HostWatch:
    """Return a host's watch on the other hosts."""
    return HostWatch(store, PREFIX, Hosts(host, NAMES))


def test_single_host_reports_rows_rate_and_time_left(caplog: pytest.LogCaptureFixture) -> None:
    """Rows that were done before the step count as progress but not towards its speed."""
    caplog.set_level(logging.INFO)
    sent = SentReports()
    progress = ScoreProgress("here", None, sent)
    with progress.step("score", 1000, done=400):
        progress.count_rows(350)
        progress.count_rows(250)
    (_, begun), (kind, ended) = sent.messages
    assert begun == {"step": "score", "rows": 400, "seconds": 0}
    assert (kind, ended["step"], ended["rows"], ended["eta_seconds"]) == ("progress", "score", 1000, 0)
    assert 0 < ended["rows_per_second"] <= 600 / 0.001
    assert "progress: step=score rows=400 seconds=0" in caplog.text


def test_first_host_adds_rows_of_other_hosts_in_same_step(store: ObjectStore) -> None:
    """Only the first host reports to Dagster, and it adds the rows of hosts in the same step."""
    sent = SentReports()
    first = ScoreProgress("algo-1", watch(store, "algo-1"), sent)
    others = [ScoreProgress(name, watch(store, name), None) for name in NAMES[1:]]
    with first.step("score", 600), others[0].step("score", 600), others[1].step("divide", 600):
        first.count_rows(10)
        others[0].count_rows(20)
        others[1].count_rows(40)
        others[0]._report_state(None)
        first._report(600, 0, 0.0)
        assert sent.messages[-1][1]["rows"] == 30
    first.complete()
    first._report(600, 0, 0.0)
    assert sent.messages[-1][1]["rows"] == 600


def test_reports_of_an_earlier_run_are_ignored(store: ObjectStore, monkeypatch: pytest.MonkeyPatch) -> None:
    """Only reports written after the first host began show that a host is alive or has failed."""
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


def test_failure_report_of_a_stopped_job_is_ignored(store: ObjectStore) -> None:
    """Hosts of a stopped job share names with those of the next job, whose failures they must not cause."""
    first = HostWatch(store, PREFIX, Hosts("algo-1", NAMES, "job-2"))
    stopped, own = (HostWatch(store, PREFIX, Hosts("algo-2", NAMES, job)) for job in ("job-1", "job-2"))
    stopped.report_state(HostState("algo-2", "score", 5, "1-1", "SystemExit: 143"))
    assert first.read_reports() == {}
    own.report_state(HostState("algo-2", "score", 5, "2-1"))
    assert first.read_reports()["algo-2"].error is None
    stopped.report_state(HostState("algo-2", "score", 6, "1-2", "SystemExit: 143"))
    first.read_reports()
    first.require_alive({"algo-2": [Share("00001")]})


def test_ended_host_is_lost_only_if_shares_are_missing(
    store: ObjectStore, monkeypatch: pytest.MonkeyPatch
) -> None:
    """An ended host may be silent unless shares are missing; a working host must keep reporting."""
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


def test_failure_is_reported_to_the_first_host(store: ObjectStore) -> None:
    """The first host learns the error that ended a step on another host."""
    first, second = watch(store, "algo-1"), ScoreProgress("algo-2", watch(store, "algo-2"), None)
    with pytest.raises(ValueError, match="minutes"), second.step("score", 10):
        raise ValueError("minutes are impossible")
    assert first.read_reports()["algo-2"].error == "ValueError: minutes are impossible"
