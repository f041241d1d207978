"""Measure writing predictions, compared with pandas and Polars, and whole score jobs.

    python -m benchmarks.score [--rows 300000] [--rounds 3] [--job-rows 100000 1000000 10000000]

All writers write the same rows as gzipped JSON and as Parquet, in turn, each in its own process. CPU is that
of all threads, without imports and the creation of the rows. mlpipe validates every row and computes a
checksum. The others do not; pandas turns decimals into floats, and Polars turns them into text. The jobs run
the real script on the S3 stand-in. Memory is each process's peak. The gain from a second process is measured
only if other processes leave the machine idle. Writes `benchmarks/results/score.json`.
"""

from __future__ import annotations

import argparse
import json
import os
import platform
import statistics
import subprocess
import sys
import tempfile
from pathlib import Path
from typing import TYPE_CHECKING, Any

import psutil

from benchmarks.local_stack import ROOT
from benchmarks.score_jobs import DAY, NEXT_DAY, TEN_COLUMNS, WIDE, JobCost, ScoreJobs, score_jobs
from benchmarks.score_writers import PLAIN, WITH_JSON
from infra.local.supervision.processes import stack_processes

if TYPE_CHECKING:
    from collections.abc import Sequence

    from prediction_contract.manifests.manifest import Manifest

RESULTS = ROOT / "benchmarks" / "results" / "score.json"
OURS, BY_ROWS, PANDAS = "mlpipe", "row by row", "pandas, gzip 1"
LEAST_OF_ROWS, LEAST_OF_PANDAS, LEAST_OF_JSON, LEAST_SCALING = 15.0, 3.0, 5.0, 1.8
MAX_MB, MAX_MB_WITH_PREVIOUS = 450.0, 600.0
# The largest share of the machine's time that other processes may use while scaling is measured.
_MOST_OF_OTHERS = 0.05
_FEW_ROWS = 1000
_SECONDS = 1800
_FEW_SECONDS = 10


def measure(writer: str, kind: str, rows: int) -> dict[str, float]:
    """Return one writer's figures, measured in a process of its own.

    Raises:
        RuntimeError: The process failed.
    """
    with tempfile.TemporaryDirectory() as folder:
        done = subprocess.run(
            [sys.executable, "-m", "benchmarks.score_writers", writer, kind, str(rows), folder],
            cwd=ROOT,
            capture_output=True,
            text=True,
            timeout=_SECONDS,
            check=False,
        )
    if done.returncode:
        raise RuntimeError(f"{writer} failed: {done.stderr[-2000:]}")
    measured = json.loads(done.stdout.splitlines()[-1])
    return {
        "rows_per_cpu_s": rows / measured["cpu_s"],
        "rows_per_s": rows / measured["wall_s"],
        "json_bytes_per_row": measured["json_bytes"] / rows,
        "parquet_bytes_per_row": measured["parquet_bytes"] / rows,
    }


def side_by_side(writers: Sequence[str], kind: str, rows: int, rounds: int) -> dict[str, dict[str, float]]:
    """Return each writer's medians; `ratio` is mlpipe's rows per CPU second divided by the writer's."""
    measured: dict[str, list[dict[str, float]]] = {writer: [] for writer in writers}
    for _ in range(rounds):
        for writer in writers:
            measured[writer].append(measure(writer, kind, rows))
    found = {
        writer: {name: statistics.median(each[name] for each in rounds_of) for name in rounds_of[0]}
        for writer, rounds_of in measured.items()
    }
    ours = found[OURS]["rows_per_cpu_s"]
    for values in found.values():
        values["ratio"] = ours / values["rows_per_cpu_s"]
    return found


class Scored:
    """Scores batches, each with an id of its own.

    Args:
        jobs: The score jobs.
    """

    def __init__(self, jobs: ScoreJobs) -> None:
        self._jobs = jobs
        self._count = 0

    def batch(self, model: str, day: str, *, cores: int | None = None) -> tuple[Manifest, JobCost]:
        """Score a prepared day."""
        self._count += 1
        batch_id = f"{day.replace('-', '')}T060000Z-{self._count:08x}"
        return self._jobs.run(self._jobs.arguments(model, day, batch_id), cores=cores)

    def measured(self, model: str, day: str) -> dict[str, Any]:
        """Return the figures of one batch."""
        manifest, cost = self.batch(model, day)
        return {
            "rows": manifest.row_count,
            "columns": len(manifest.schema.columns),
            "previous_batch": manifest.previous_batch_id is not None,
            "processes": len(cost.peak_mb),
            "peak_mb": cost.most_mb,
            "seconds": cost.seconds,
            "rows_per_cpu_s": manifest.row_count / sum(cost.cpu_seconds.values()),
            "rows_per_s": manifest.row_count / cost.seconds,
        }


def measure_jobs(options: argparse.Namespace) -> dict[str, Any]:
    """Return the figures of jobs of several sizes, and the gain from a second process."""
    with score_jobs() as jobs:
        scored, found = Scored(jobs), {}
        for rows in options.job_rows:
            jobs.prepare(TEN_COLUMNS, DAY, rows)
            found[f"{rows} rows"] = scored.measured(TEN_COLUMNS, DAY)
        most = max(options.job_rows)
        jobs.prepare(TEN_COLUMNS, NEXT_DAY, most, known=DAY)
        found[f"{most} rows, previous batch joined"] = scored.measured(TEN_COLUMNS, NEXT_DAY)
        jobs.prepare(WIDE, DAY, options.wide_rows)
        found[f"{options.wide_rows} rows of 300 columns"] = scored.measured(WIDE, DAY)
        return {"jobs": found, "scaling": scaling(jobs, scored, options.scaling_rows, options.rounds)}


def scaling(jobs: ScoreJobs, scored: Scored, rows: int, rounds: int) -> dict[str, Any]:
    """Return the rows per second of a job on one core and on two, without the fixed time of a small job.

    The stand-ins run on the job's cores only. On a core of their own they would not slow the one-core job.
    """
    taken: dict[tuple[int, int], list[float]] = {}
    quiet = OtherProcesses(jobs.folder)
    for of_rows in (_FEW_ROWS, rows):
        jobs.prepare(TEN_COLUMNS, DAY, of_rows)
        for _ in range(rounds):
            for cores in (1, 2):
                quiet.keep_stack_on(cores)
                quiet.begin()
                _, cost = scored.batch(TEN_COLUMNS, DAY, cores=cores)
                taken.setdefault((cores, of_rows), []).append(cost.seconds)
                others = quiet.share_of_others(cost)
                # A small job ends before all of its processes' CPU time was sampled.
                if of_rows == rows and others > _MOST_OF_OTHERS:
                    return {"rows": rows, "not_measured": f"others used {others:.0%} of the machine"}
    seconds = {at: statistics.median(each) for at, each in taken.items()}
    rates = {cores: rows / (seconds[cores, rows] - seconds[cores, _FEW_ROWS]) for cores in (1, 2)}
    return {
        "rows": rows,
        "rows_per_s": {str(cores): rate for cores, rate in rates.items()},
        "ratio": rates[2] / rates[1],
    }


class OtherProcesses:
    """Measures the share of the machine that processes other than a job and its stand-ins use.

    Args:
        folder: The stand-ins' folder.
    """

    def __init__(self, folder: Path) -> None:
        self._stack = stack_processes(folder / "state")
        self.begin()

    def begin(self) -> None:
        """Start the measurement."""
        self._began = self._counted()

    def keep_stack_on(self, cores: int) -> None:
        """Limit the stand-ins to the machine's first `cores` cores."""
        for process in self._stack:
            kept = ["taskset", "--all-tasks", "--cpu-list", "--pid", f"0-{cores - 1}", str(process.pid)]
            subprocess.run(kept, stdout=subprocess.DEVNULL, check=True, timeout=_FEW_SECONDS)

    def share_of_others(self, cost: JobCost) -> float:
        """Return the share of CPU time since `begin` that others used, including stolen time."""
        busy, own, there = (
            after - before for after, before in zip(self._counted(), self._began, strict=True)
        )
        return max(0.0, busy - own - sum(cost.cpu_seconds.values())) / there

    def _counted(self) -> tuple[float, float, float]:
        times, own = psutil.cpu_times(), psutil.Process().cpu_times()
        of_stack = [process.cpu_times() for process in self._stack]
        idle = times.idle + times.iowait
        return (
            sum(times) - times.guest - times.guest_nice - idle,
            own.user + own.system + sum(each.user + each.system for each in of_stack),
            sum(times) - times.guest - times.guest_nice,
        )


def statements(result: dict[str, Any]) -> dict[str, dict[str, float]]:
    """Return each promise with its measured figure."""
    plain, json_rows, jobs = result["writers"], result["with_json"], result["jobs"]
    found = {
        f"times the rows per CPU second of {BY_ROWS}": (plain[BY_ROWS]["ratio"], LEAST_OF_ROWS),
        f"times the rows per CPU second of {PANDAS}": (plain[PANDAS]["ratio"], LEAST_OF_PANDAS),
        f"times the rows per CPU second of {BY_ROWS}, with a json column": (
            json_rows[BY_ROWS]["ratio"],
            LEAST_OF_JSON,
        ),
    }
    if "ratio" in result["scaling"]:
        found["times the rows a second of one process"] = (result["scaling"]["ratio"], LEAST_SCALING)
    stated = {name: {"measured": measured, "at_least": least} for name, (measured, least) in found.items()}
    for has_previous, most in ((False, MAX_MB), (True, MAX_MB_WITH_PREVIOUS)):
        peaks = [job["peak_mb"] for job in jobs.values() if job["previous_batch"] is has_previous]
        stated[f"MB at most{', previous batch joined' if has_previous else ''}"] = {
            "measured": max(peaks),
            "at_most": most,
        }
    return stated


def main(argv: Sequence[str] | None = None) -> int:
    """Measure, print and write; return 0 if all promises hold."""
    parser = argparse.ArgumentParser(description=(__doc__ or "").partition("\n")[0])
    parser.add_argument("--rows", type=int, default=300_000, help="rows for each writer")
    parser.add_argument("--rounds", type=int, default=3, help="measurements of each writer")
    parser.add_argument(
        "--job-rows", type=int, nargs="+", default=[100_000, 1_000_000, 10_000_000], help="rows of each job"
    )
    parser.add_argument("--wide-rows", type=int, default=200_000, help="rows of the job with 300 columns")
    parser.add_argument(
        "--scaling-rows", type=int, default=5_000_000, help="rows of the jobs on one core and on two"
    )
    parser.add_argument("--out", type=Path, default=RESULTS, help="file for the results")
    options = parser.parse_args(argv)
    result: dict[str, Any] = {
        "machine": f"{os.cpu_count()} x {platform.machine()}, Python {platform.python_version()}",
        "rows": options.rows,
        "rounds": options.rounds,
        "writers": side_by_side(PLAIN, "plain", options.rows, options.rounds),
        "with_json": side_by_side(WITH_JSON, "json", options.rows, options.rounds),
        **measure_jobs(options),
    }
    result["statements"] = statements(result)
    options.out.parent.mkdir(exist_ok=True)
    options.out.write_text(f"{json.dumps(result, indent=2)}\n")
    _print(result)
    return int(
        any(
            stated["measured"] < stated.get("at_least", 0)
            or stated["measured"] > stated.get("at_most", float("inf"))
            for stated in result["statements"].values()
        )
    )


def _print(result: dict[str, Any]) -> None:
    lines = [f"{result['rows']} rows; {result['machine']}"]
    for kind, title in (("writers", "ten columns"), ("with_json", "plus a json column")):
        lines.append(f"{title:<18}{'rows/CPU-s':>12}{'ours is':>10}{'JSON B/row':>12}{'Parquet B/row':>15}")
        lines += [
            f"  {writer:<16}{values['rows_per_cpu_s']:>12.0f}{values['ratio']:>9.1f}x"
            f"{values['json_bytes_per_row']:>12.1f}{values['parquet_bytes_per_row']:>15.1f}"
            for writer, values in result[kind].items()
        ]
    lines += [
        f"job of {name}: {job['rows_per_s']:.0f} rows/s, {job['rows_per_cpu_s']:.0f} rows/CPU-s, "
        f"{job['processes']} processes, peak {job['peak_mb']:.0f} MB"
        for name, job in result["jobs"].items()
    ]
    scaling = result["scaling"]
    lines.append(
        f"two processes: not measured, because {scaling['not_measured']}"
        if "not_measured" in scaling
        else f"two processes: {scaling['ratio']:.2f} times the rows per second of one"
    )
    sys.stdout.write("\n".join(lines) + "\n")


if __name__ == "__main__":
    sys.exit(main())
