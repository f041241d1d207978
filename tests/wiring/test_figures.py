"""The figures in the README and in the architecture are those that `make bench` has measured."""

from __future__ import annotations

import json
from pathlib import Path

from mlpipe_dagster.costs import Prices

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


def test_a_billion_rows_are_worked_out_from_what_was_measured_and_from_our_prices() -> None:
    """The arithmetic on paper is done again here: a new measurement or price has to be carried over."""
    measured = json.loads((ROOT / "benchmarks" / "results" / "load.json").read_text())
    page = " ".join((ROOT / "docs" / "architecture.md").read_text().split())
    rows, quota, raised, prices = 10**9, 40_000, 400_000, Prices()
    loader = measured["part"]["mlpipe"]["items_per_cpu_s"]
    survey_rows = measured["long"]["survey"]["items_per_cpu_s"]
    peak = max(measured["long"][kind]["peak_mb"] for kind in ("survey", "part"))
    survey = rows / survey_rows

    def glue(writing: float, cores: int, workers: int) -> str:
        seconds, price = survey / cores, prices.glue_dpu_hour
        dollars = (writing + seconds) / 3600 * workers * price
        time = f"({writing:,.0f} s + {seconds:,.0f} s survey) / 3,600"
        return f"{time} x {workers} DPU x {price} | {dollars:.2f} |"

    writes = prices.dynamodb_million_writes
    for sentence in (
        f"10^9 / 40,000 = {rows / quota:,.0f} s = **{rows / quota / 3600:.1f} hours**",
        f"{loader:,.0f} items a CPU second, part file to wire",
        f"40,000 / {loader:,.0f} = **{quota / loader:.1f} cores**",
        f"{survey_rows:,.0f} rows a CPU second",
        f"{survey:,.0f} CPU s: {survey / 3600:.1f} CPU hours, {survey / 4 / 60:.0f} minutes on four cores",
        f"{peak:.0f} MB a process at most, flat over {measured['long']['rows']:,} rows",
        f"`batch_writer` at {measured['part']['boto3']['items_per_cpu_s']:,.0f} items a CPU second",
        f"400,000 / {loader:,.0f} = {raised / loader:.1f} cores",
        f"1,000 million units x {writes} | {1000 * writes:.2f} |",
        glue(rows / quota, 4, 2),
        glue(rows / raised, 12, 4),
    ):
        assert sentence in page, sentence
