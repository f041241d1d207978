"""The demo checks each of its statements, fails on the first that does not hold and reports JSON."""

from __future__ import annotations

import dataclasses
import io
import json
import subprocess
import sys
from pathlib import Path
from types import SimpleNamespace
from typing import TYPE_CHECKING, Any

import pytest

from infra.local.demo.demo_plan import demo_plan
from infra.local.demo.demo_stores import BatchRows
from infra.local.demo.live_api import LiveApi, ServedAnswer
from infra.local.demo.model_path import Delivered
from infra.local.demo.progress import DemoProgress
from infra.local.demo.scenario import Demo, require_version, table
from infra.local.stack.command_line import ChosenStack
from infra.local.stack.dagster_runs import Run, wait_for
from infra.local.supervision.stack_state import StackDirectory, StackError
from tests.projects import EXAMPLE
from tests.stack_runs import PROJECT_ROOT

if TYPE_CHECKING:
    from collections.abc import Mapping

ROWS = BatchRows(promised=10, json=10, delta=10, dynamodb=8, snowflake=8, quarantine=2)
BATCH = "20261123T010203Z-00000001"


class CountedStores:
    """Stores with the row counts that a test gives them."""

    def __init__(self, rows: BatchRows, live: Mapping[str, int]) -> None:
        self.rows = rows
        self.live = live
        self.registry = SimpleNamespace(batch=lambda _model, _batch_id: None)

    def count(self, _manifest: Any, _record: Any) -> BatchRows:
        """Return the batch's rows by store."""
        return self.rows

    def live_in_snowflake(self, _manifest: Any) -> Mapping[str, int]:
        """Return the live view's rows by batch."""
        return self.live


def demo(tmp_path: Path) -> Demo:
    """Return a demo that has not begun."""
    stack = ChosenStack(EXAMPLE, StackDirectory(tmp_path), tmp_path / ".env")
    return Demo(stack, demo_plan(EXAMPLE), DemoProgress(io.StringIO()))


def delivered(*, is_live: bool = True) -> Delivered:
    """Return a loaded day that version 2 scored, live unless said otherwise."""
    manifest: Any = SimpleNamespace(batch_id=BATCH, model_package=SimpleNamespace(version=2))
    return Delivered("2013-02-01", manifest, is_live, 12.5 if is_live else None)


def test_matching_row_counts_pass(tmp_path: Path) -> None:
    """Loaded plus quarantined rows equal the manifest's rows in each store."""
    stores: Any = CountedStores(ROWS, {BATCH: 8})
    assert demo(tmp_path)._count(stores, [delivered()], "day") == {BATCH: ROWS}


@pytest.mark.parametrize(
    ("change", "named"),
    [
        ({"json": 9}, "JSON has 9 of the manifest's 10 rows"),
        ({"delta": 11}, "Delta has 11 of the manifest's 10 rows"),
        ({"dynamodb": 7}, "DynamoDB 7 "),
        ({"snowflake": 9}, "Snowflake 9 "),
        ({"quarantine": 0}, "quarantine 0 "),
        (dict.fromkeys(("promised", "json", "delta", "dynamodb", "snowflake", "quarantine"), 0), "empty"),
    ],
)
def test_wrong_row_count_fails_the_demo(tmp_path: Path, change: dict[str, int], named: str) -> None:
    """A missing or surplus row in any store fails the demo with the store's name."""
    rows = dataclasses.replace(ROWS, **change)
    stores: Any = CountedStores(rows, {BATCH: rows.snowflake})
    with pytest.raises(StackError, match=named):
        demo(tmp_path)._count(stores, [delivered()], "day")


@pytest.mark.parametrize("live", [{}, {BATCH: 7}, {"20261123T010203Z-00000002": 8}])
def test_wrong_live_view_fails_the_demo(tmp_path: Path, live: dict[str, int]) -> None:
    """Snowflake's live view must contain all rows of the live batch and no other batch."""
    stores: Any = CountedStores(ROWS, live)
    with pytest.raises(StackError, match="live view"):
        demo(tmp_path)._count(stores, [delivered()], "day")


@pytest.mark.parametrize(
    ("p", "batch_id", "version"),
    [(2, BATCH, 2), (1, "20261123T010203Z-00000002", 2), (1, BATCH, 1), (1, BATCH, None)],
)
def test_wrong_prediction_or_provenance_fails_the_demo(p: int, batch_id: str, version: int | None) -> None:
    """The API must return the stored prediction with the live batch's id and version."""
    path: Any = SimpleNamespace(entity_id="a", stores=SimpleNamespace(served=lambda *_: '"p": 1'))
    provenance = {"batch_id": batch_id, "model_package_version": version}
    with pytest.raises(StackError):
        Demo._require_live_answer(
            path, delivered(), ServedAnswer(200, json.dumps({"provenance": provenance, "p": p}))
        )


def test_matching_answer_passes() -> None:
    """An answer with the stored prediction, the live batch and its version is accepted."""
    path: Any = SimpleNamespace(entity_id="a", stores=SimpleNamespace(served=lambda *_: '"p": 1'))
    body = {"provenance": {"batch_id": BATCH, "model_package_version": 2}, "p": 1}
    Demo._require_live_answer(path, delivered(), ServedAnswer(200, json.dumps(body)))


def test_batch_scored_by_other_version_fails_the_demo() -> None:
    """Each day must be scored by the version that was champion."""
    require_version(delivered(), 2)
    with pytest.raises(StackError, match="Version 2 scored 2013-02-01, but version 1 was champion"):
        require_version(delivered(), 1)


def test_day_that_never_went_live_is_listed_as_history() -> None:
    """A day that was older than the live one when it was loaded has no seconds in the table."""
    assert table([delivered(is_live=False)], {BATCH: ROWS}, "day")[1].endswith("history")
    assert table([delivered()], {BATCH: ROWS}, "day")[1].endswith("12.5 s")


def test_wait_fails_at_its_deadline() -> None:
    """The error names what did not happen and where to look."""
    with pytest.raises(StackError, match=r"The flood took longer than 0 s. See the river"):
        wait_for(lambda: None, seconds=0.05, what="The flood", reason_at="the river", pause_seconds=0.01)


def test_failed_step_is_printed_before_its_error() -> None:
    """The step's line says FAILED, and the error is raised again."""
    stream = io.StringIO()
    with pytest.raises(StackError), DemoProgress(stream).step("something"):
        raise StackError("It does not hold", remedy="Look")
    assert "FAILED" in stream.getvalue()


@pytest.mark.parametrize(
    ("status", "retried", "failed"),
    [
        ("FAILURE", False, True),
        ("FAILURE", True, False),
        ("CANCELED", False, True),
        ("STARTED", False, False),
    ],
)
def test_run_with_pending_retry_has_not_failed(status: str, retried: bool, failed: bool) -> None:
    """A run that Dagster will retry is not a failure; a failure without a retry is."""
    tags = {"dagster/will_retry": str(retried).lower()}
    assert Run("1", "job", status, tags).has_failed is failed


def test_unexpected_api_status_fails_the_demo(monkeypatch: pytest.MonkeyPatch) -> None:
    """A 200 answer to a request without a token fails the demo."""
    monkeypatch.setattr(LiveApi, "ask", lambda *_, **__: ServedAnswer(200, "{}"))
    with pytest.raises(StackError, match="200"):
        LiveApi("http://127.0.0.1:1", "flight_delay", "token").require("AA-1141-JFK", 401, with_token=False)


def test_failed_start_reports_json(tmp_path: Path) -> None:
    """A demo that cannot start exits with status 1 and a final JSON line that is not ok."""
    (tmp_path / "file").write_text("")
    done = subprocess.run(
        [sys.executable, "-m", "infra.local.demo", "--state-dir", str(tmp_path / "file" / "state")],
        cwd=PROJECT_ROOT,
        capture_output=True,
        text=True,
        timeout=120,
        check=False,
    )
    assert done.returncode == 1
    assert json.loads(done.stdout.splitlines()[-1])["ok"] is False
