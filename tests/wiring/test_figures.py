"""The figures in the README and the documentation are those that `make bench` measured.

Only the figures are compared, not the words around them.
"""

from __future__ import annotations

import json
import re
from collections import Counter
from pathlib import Path
from typing import Any

from mlpipe_dagster.costs import Prices

ROOT = Path(__file__).resolve().parents[2]
RESULTS = ROOT / "benchmarks" / "results"
MEASURED: dict[str, Any] = json.loads((RESULTS / "load.json").read_text())
SCORED: dict[str, Any] = json.loads((RESULTS / "score.json").read_text())
_FIGURE = re.compile(r"(?<![\w.^])\d[\d,]*(?:\.\d+)?(?!\w)")


def section(document: str, heading: str) -> str:
    """Return the text below a second-level heading."""
    text = (ROOT / document).read_text(encoding="utf-8")
    assert f"\n## {heading}\n" in text
    return text.partition(f"\n## {heading}\n")[2].partition("\n## ")[0]


def figures(text: str) -> Counter[str]:
    """Return how often each figure occurs in a text, without thousands separators."""
    return Counter(found.rstrip(",").replace(",", "") for found in _FIGURE.findall(text))


def row(text: str, name: str) -> Counter[str]:
    """Return the figures in a table's row with this first cell."""
    (cells,) = [line for line in text.splitlines() if line.startswith(f"| {name} |")]
    return figures(cells.partition(name)[2])


def most_memory() -> float:
    """Return the peak memory in MB of a survey or part of many rows."""
    return max(MEASURED["long"][kind]["peak_mb"] for kind in ("survey", "part"))


def test_figures_are_found_in_a_text() -> None:
    """Thousands, fractions and bold figures count; words, powers and code do not."""
    text = "of 1,000,000 rows, **0.9 cores**; 10^9, `G.1X`, x86_64: 46,424, and 12."
    assert figures(text) == Counter(["1000000", "0.9", "10", "46424", "12"])


def test_readme_figures_for_loads_are_measured() -> None:
    """Rates, ratios, memory and machine are those of `benchmarks/results/load.json`."""
    text = section("README.md", "What a load costs")
    part, rows = MEASURED["part"], MEASURED["rows"]
    for name, client in (
        ("mlpipe", "mlpipe"),
        ("boto3 `batch_writer`", "boto3"),
        ("awswrangler", "awswrangler"),
    ):
        values = part[client]
        ratio = [] if client == "mlpipe" else [f"{values['ratio']:.1f}"]
        expected = [f"{values['items_per_cpu_s']:.0f}", *ratio, f"{values['peak_mb']:.0f}"]
        assert row(text, name) == Counter(expected)
    prose = figures("\n".join(line for line in text.splitlines() if not line.startswith("|")))
    for figure in (
        f"{rows['mlpipe']['items_per_cpu_s']:.0f}",
        f"{rows['boto3']['ratio']:.1f}",
        f"{rows['awswrangler']['ratio']:.1f}",
        f"{MEASURED['long']['rows']}",
        f"{most_memory():.0f}",
    ):
        assert prose[figure], figure
    assert MEASURED["machine"] in text
    assert MEASURED["endpoint"] in text


def test_readme_figures_for_scoring_are_measured() -> None:
    """Rates, ratios, memory and machine are those of `benchmarks/results/score.json`."""
    text, (largest, _) = section("README.md", "What scoring costs"), largest_jobs()
    for name, writer in (
        ("mlpipe", "mlpipe"),
        ("row by row", "row by row"),
        ("pandas `to_json` and `to_parquet`", "pandas"),
        ("the same, gzip level 1", "pandas, gzip 1"),
        ("Polars `write_ndjson` and `write_parquet`", "Polars"),
    ):
        values = SCORED["writers"][writer]
        ratio = [] if writer == "mlpipe" else [f"{values['ratio']:.1f}"]
        # The gzip level is a figure in the row's name.
        assert row(text, name) == Counter([f"{values['rows_per_cpu_s']:.0f}", *ratio])
    prose = figures("\n".join(line for line in text.splitlines() if not line.startswith("|")))
    for figure in (
        f"{SCORED['rows']}",
        f"{SCORED['with_json']['mlpipe']['rows_per_cpu_s']:.0f}",
        f"{SCORED['with_json']['row by row']['ratio']:.1f}",
        f"{largest['rows']}",
        f"{largest['peak_mb']:.0f}",
    ):
        assert prose[figure], figure
    assert SCORED["machine"] in text


def largest_jobs() -> tuple[dict[str, Any], dict[str, Any]]:
    """Return the largest measured score job, and the one with a previous batch."""
    jobs = SCORED["jobs"].values()
    of_ten = [job for job in jobs if job["columns"] < 100 and not job["previous_batch"]]
    (joined,) = [job for job in jobs if job["previous_batch"]]
    return max(of_ten, key=lambda job: job["rows"]), joined


def test_scoring_page_figures_are_measured() -> None:
    """Each job has its measured rate and memory, and a billion rows are calculated from them."""
    text = (ROOT / "docs" / "scoring.md").read_text(encoding="utf-8")
    for job in SCORED["jobs"].values():
        joined = ", previous batch joined" if job["previous_batch"] else ""
        measured = row(text, f"{job['rows']:,} rows of {job['columns']} columns{joined}")
        assert measured == Counter([f"{job['rows_per_cpu_s']:.0f}", f"{job['peak_mb']:.0f}"])
    found, (largest, joined) = figures(text), largest_jobs()
    cpu_seconds, price = 10**9 / largest["rows_per_cpu_s"], Prices().machine("ml.m5.xlarge")
    seconds = cpu_seconds / 16 + 120
    assert price is not None
    for figure in (
        f"{largest['rows_per_cpu_s']:.0f}",
        f"{cpu_seconds:.0f}",
        f"{seconds:.0f}",
        f"{price}",
        f"{4 * seconds / 3600 * price:.2f}",
        f"{joined['rows_per_cpu_s']:.0f}",
        f"{10**9 / joined['rows_per_cpu_s'] / 4 + 120:.0f}",
    ):
        assert found[figure], figure
    ratio = SCORED["scaling"].get("ratio")
    assert found[f"{ratio:.2f}"] if ratio else "was not measured" in text


def test_billion_rows_page_follows_from_measurements_and_prices() -> None:
    """A new measurement or price must also change the page's calculation."""
    found = figures((ROOT / "docs" / "one-billion-rows.md").read_text(encoding="utf-8"))
    rows, quota, raised, prices = 10**9, 40_000, 400_000, Prices()
    loader = MEASURED["part"]["mlpipe"]["items_per_cpu_s"]
    survey_rows = MEASURED["long"]["survey"]["items_per_cpu_s"]
    survey, writes = rows / survey_rows, prices.dynamodb_million_writes

    def glue(writing: float, cores: int, workers: int) -> float:
        return (writing + survey / cores) / 3600 * workers * prices.glue_dpu_hour

    for figure in (
        f"{rows / quota:.0f}",
        f"{rows / quota / 3600:.1f}",
        f"{loader:.0f}",
        f"{quota / loader:.1f}",
        f"{survey_rows:.0f}",
        f"{survey:.0f}",
        f"{survey / 3600:.1f}",
        f"{survey / 4 / 60:.0f}",
        f"{most_memory():.0f}",
        f"{MEASURED['long']['rows']}",
        f"{MEASURED['part']['boto3']['items_per_cpu_s']:.0f}",
        f"{raised / loader:.1f}",
        f"{rows / raised:.0f}",
        f"{writes}",
        f"{1000 * writes:.2f}",
        f"{survey / 4:.0f}",
        f"{survey / 12:.0f}",
        f"{glue(rows / quota, 4, 2):.2f}",
        f"{glue(rows / raised, 12, 4):.2f}",
    ):
        assert found[figure], figure
