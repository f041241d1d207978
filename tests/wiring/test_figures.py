"""The README's figures are those that `make bench` has measured."""

from __future__ import annotations

import json
from pathlib import Path

ROOT = Path(__file__).resolve().parents[2]


def test_the_readme_says_what_a_load_was_measured_to_cost() -> None:
    """Table, multiples, memory and machine are those of `benchmarks/results/load.json`."""
    measured = json.loads((ROOT / "benchmarks" / "results" / "load.json").read_text())
    part, rows = measured["part"], measured["rows"]

    def line(name: str, client: str) -> str:
        ratio = "" if client == "mlpipe" else f" {part[client]['ratio']:.1f} times"
        values = part[client]
        return f"| {name} | {values['items_per_cpu_s']:,.0f} |{ratio} | {values['peak_mb']:.0f} MB |"

    peak = max(measured["long"][kind]["peak_mb"] for kind in ("survey", "part"))
    readme = " ".join((ROOT / "README.md").read_text().split())
    for sentence in (
        line("mlpipe", "mlpipe"),
        line("boto3 `batch_writer`", "boto3"),
        line("awswrangler", "awswrangler"),
        f"it is {rows['mlpipe']['items_per_cpu_s']:,.0f} items per CPU second",
        f"{rows['boto3']['ratio']:.1f} and {rows['awswrangler']['ratio']:.1f} times.",
        f"A part of {measured['long']['rows']:,} rows takes {peak:.0f} MB at most.",
        f"on {measured['machine']}, against {measured['endpoint']}",
    ):
        assert sentence in readme
