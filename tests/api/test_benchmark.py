"""The API benchmark runs, and all handlers it compares respond."""

from __future__ import annotations

import json
from typing import TYPE_CHECKING

import pytest

from benchmarks import serve

if TYPE_CHECKING:
    from pathlib import Path


@pytest.mark.slow
def test_benchmark_reports_all_measurements(tmp_path: Path, capsys: pytest.CaptureFixture[str]) -> None:
    """One short round measures every handler in every way, and each statement has its number."""
    out = tmp_path / "serve.json"
    assert serve.main(["--rounds", "1", "--requests", "5", "--out", str(out)]) == 0
    found = json.loads(out.read_text())
    for kind in ("cold", "cold_without_byte_code", "point", "point_new_tokens", "batch_of_100"):
        assert set(found[kind]) == set(serve.HANDLERS)
        assert all(values["cpu_ms"] > 0 for values in found[kind].values())
    printed = capsys.readouterr().out
    for name, statement in found["statements"].items():
        assert statement["holds"] == (statement["measured"] <= statement["at_most"])
        assert name in printed
