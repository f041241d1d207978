"""The scoring benchmark runs with all writers and the real job."""

from __future__ import annotations

import json
from typing import TYPE_CHECKING

import pytest

from benchmarks import score
from benchmarks.score_writers import PLAIN, WITH_JSON

if TYPE_CHECKING:
    from pathlib import Path


@pytest.mark.slow
def test_score_benchmark_reports_all_measurements(tmp_path: Path, capsys: pytest.CaptureFixture[str]) -> None:
    """One short round measures every writer and every kind of job, and each statement has its number."""
    out = tmp_path / "score.json"
    sizes = ["--rows", "2000", "--job-rows", "3000", "--wide-rows", "200", "--scaling-rows", "3000"]
    # With so few rows a job's start-up dominates, so the statements need not hold.
    score.main([*sizes, "--rounds", "1", "--out", str(out)])
    found = json.loads(out.read_text())
    assert (set(found["writers"]), set(found["with_json"])) == (set(PLAIN), set(WITH_JSON))
    assert [(job["rows"], job["columns"], job["previous_batch"]) for job in found["jobs"].values()] == [
        (3000, 10, False),
        (3000, 10, True),
        (200, 300, False),
    ]
    assert all(job["peak_mb"] > 0 and job["rows_per_cpu_s"] > 0 for job in found["jobs"].values())
    assert found["scaling"]["rows"] == 3000
    assert all(stated["measured"] > 0 for stated in found["statements"].values())
    printed = capsys.readouterr().out
    assert all(name in printed for name in (*PLAIN, *found["jobs"]))
