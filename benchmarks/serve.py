"""Measure the API's handler, compared with handlers built on other libraries.

    python -m benchmarks.serve [--rounds 5] [--requests 500]

All handlers are measured in turn on one machine, with one store that answers from memory. CPU is that of the
handler's own process. Writes `benchmarks/results/serve.json`.
"""

from __future__ import annotations

import argparse
import json
import os
import platform
import socket
import statistics
import subprocess
import sys
import tempfile
import urllib.request
from contextlib import contextmanager
from pathlib import Path
from typing import TYPE_CHECKING, Any

from benchmarks.canned.canned_serving_store import CLIENT, DEPLOYMENT, ISSUER, MODEL
from infra.packaging import LARGEST_API_ARCHIVE, build_api_archive

if TYPE_CHECKING:
    from collections.abc import Iterator

ROOT = Path(__file__).resolve().parents[1]
RESULTS = ROOT / "benchmarks" / "results" / "serve.json"
HANDLERS = {
    "mlpipe": "api_lambda.handler",
    "powertools": "benchmarks.handlers.powertools",
    "fastapi": "benchmarks.handlers.fastapi_mangum",
}
BUDGET_MS = 200
MAX_REQUESTS = 900
_BEFORE_OPENING = 4
_DEAD = "http://127.0.0.1:1"


@contextmanager
def canned_store() -> Iterator[dict[str, str]]:
    """Run the canned store and yield its connection data."""
    command = [sys.executable, "-m", "benchmarks.canned.canned_serving_store"]
    with subprocess.Popen(command, cwd=ROOT, stdout=subprocess.PIPE, text=True) as process:
        try:
            assert process.stdout is not None  # noqa: S101 -- it is a pipe, as asked for
            yield json.loads(process.stdout.readline())
        finally:
            process.terminate()


class HandlerBenchmark:
    """Measures handlers with one canned store."""

    def __init__(self, store: dict[str, str], rounds: int, requests: int) -> None:
        self._store = store
        self._rounds = rounds
        self._requests = requests

    def side_by_side(self, kind: str, *, byte_code: bool = True) -> dict[str, dict[str, float]]:
        """Return each handler's medians over the rounds; each round measures all handlers in turn."""
        measured: dict[str, list[dict[str, float]]] = {name: [] for name in HANDLERS}
        for _ in range(self._rounds):
            for name, module in HANDLERS.items():
                measured[name].append(self._measure(module, kind, byte_code=byte_code))
        return _medians(measured)

    def measure_in_turns(self, enrichments: dict[str, list[dict[str, Any]]]) -> dict[str, dict[str, float]]:
        """Return the medians of mlpipe's point lookups with each set of enrichments, measured in turn."""
        measured: dict[str, list[dict[str, float]]] = {name: [] for name in enrichments}
        for _ in range(self._rounds):
            for name, declared in enrichments.items():
                measured[name].append(self.measure_ours(declared, requests=self._requests))
        return _medians(measured)

    def measure_ours(self, enrichments: list[dict[str, Any]], *, requests: int) -> dict[str, float]:
        """Return the figures of mlpipe's point lookups with these enrichments."""
        self._publish(enrichments)
        try:
            return self._measure(HANDLERS["mlpipe"], "point", requests=requests)
        finally:
            self._publish([])

    def _publish(self, enrichments: list[dict[str, Any]]) -> None:
        body = json.dumps(enrichments).encode()
        request = urllib.request.Request(f"{self._store['url']}/enrich", data=body)  # noqa: S310 -- loopback
        opener = urllib.request.build_opener(urllib.request.ProxyHandler({}))
        opener.open(request, timeout=10).close()

    def _measure(
        self, module: str, kind: str, *, byte_code: bool = True, requests: int | None = None
    ) -> dict[str, float]:
        count = requests or (max(1, self._requests // 10) if kind == "batch" else self._requests)
        command = [sys.executable, "-m", "benchmarks.measured_handler", module, kind, str(count)]
        with tempfile.TemporaryDirectory() as empty:
            hidden = {} if byte_code else {"PYTHONDONTWRITEBYTECODE": "1", "PYTHONPYCACHEPREFIX": empty}
            done = subprocess.run(
                command,
                cwd=ROOT,
                env={**self._environment(), **hidden},
                capture_output=True,
                text=True,
                check=False,
                timeout=300,
            )
        if done.returncode != 0:
            raise SystemExit(f"{module} failed: {done.stderr[-2000:]}")
        return json.loads(done.stdout.splitlines()[-1])

    def _environment(self) -> dict[str, str]:
        url = self._store["url"]
        return {
            "PATH": os.environ["PATH"],
            "AWS_REGION": DEPLOYMENT.region,
            "AWS_DEFAULT_REGION": DEPLOYMENT.region,
            "AWS_ACCESS_KEY_ID": "test",
            "AWS_SECRET_ACCESS_KEY": "test",
            "AWS_ENDPOINT_URL": url,
            "MLPIPE_STAGE": DEPLOYMENT.stage,
            "MLPIPE_ACCOUNT_ID": DEPLOYMENT.account_id,
            "MLPIPE_TOKEN_ISSUER": ISSUER,
            "MLPIPE_JWKS_URL": f"{url}/jwks.json",
            "MLPIPE_TOKEN_CLIENT_IDS": CLIENT,
            "MLPIPE_TOKEN_SCOPE": DEPLOYMENT.read_scope,
            "MLPIPE_PROVIDER_ORIGINS": f"{_DEAD},{self._store.get('silent', _DEAD)}",
            "MLPIPE_ENRICHMENT_BUDGET_MILLISECONDS": str(BUDGET_MS),
            "BENCHMARK_TOKEN": self._store["token"],
            "BENCHMARK_REGISTRY": DEPLOYMENT.registry_table,
            "BENCHMARK_PREDICTIONS": DEPLOYMENT.online_table(MODEL),
            "POWERTOOLS_TRACE_DISABLED": "true",
        }


def _medians(measured: dict[str, list[dict[str, float]]]) -> dict[str, dict[str, float]]:
    return {
        name: {key: round(statistics.median(each[key] for each in found), 3) for key in found[0]}
        for name, found in measured.items()
    }


def enrichments_from(url: str) -> list[dict[str, Any]]:
    """Return the enrichment by a provider at this address."""
    return [{"name": "weather", "url": f"{url}/{{origin}}", "fields": ["temp"], "timeout_milliseconds": 5000}]


def measure(rounds: int, requests: int) -> dict[str, Any]:
    """Return all figures."""
    with canned_store() as store, socket.create_server(("127.0.0.1", 0), backlog=512) as silent:
        # Connections are accepted into its backlog and never answered.
        store["silent"] = f"http://127.0.0.1:{silent.getsockname()[1]}"
        bench = HandlerBenchmark(store, rounds, requests)
        found: dict[str, Any] = {
            "cold": bench.side_by_side("cold"),
            "cold_without_byte_code": bench.side_by_side("cold", byte_code=False),
            "point": bench.side_by_side("point"),
            "point_new_tokens": bench.side_by_side("point_new_tokens"),
            "batch_of_100": bench.side_by_side("batch"),
        }
        found["providers"] = {
            **bench.measure_in_turns({"none": [], "dead": enrichments_from(_DEAD)}),
            # A few requests only: until the breaker opens each costs the whole budget, afterwards nothing.
            "black_holed": bench.measure_ours(enrichments_from(store["silent"]), requests=_BEFORE_OPENING),
        }
    archive = build_api_archive(ROOT / "build" / "packages")
    return {
        "machine": {
            "cpus": os.cpu_count(),
            "machine": platform.machine(),
            "python": platform.python_version(),
            # Recorded, because other load distorts milliseconds more than ratios.
            "load_average": round(os.getloadavg()[0], 1),
        },
        **found,
        "archive_bytes": archive.size,
    }


def statements(found: dict[str, Any]) -> dict[str, dict[str, Any]]:
    """Return each limit with its measured figure."""
    cold, bare, point = found["cold"], found["cold_without_byte_code"], found["point"]
    providers = found["providers"]

    def ratio(measured: dict[str, dict[str, float]], other: str, most: float) -> dict[str, Any]:
        value = measured["mlpipe"]["cpu_ms"] / measured[other]["cpu_ms"]
        return {"measured": round(value, 3), "at_most": most, "holds": value <= most}

    def limit(value: float, most: float) -> dict[str, Any]:
        return {"measured": round(value, 3), "at_most": most, "holds": value <= most}

    return {
        "cold CPU / Powertools + boto3 + PyJWT": ratio(cold, "powertools", 0.5),
        "cold CPU / FastAPI + Mangum + boto3 + PyJWT": ratio(cold, "fastapi", 0.4),
        "cold CPU / Powertools + boto3 + PyJWT, no byte code": ratio(bare, "powertools", 0.5),
        "cold CPU / FastAPI + Mangum + boto3 + PyJWT, no byte code": ratio(bare, "fastapi", 0.4),
        "point CPU / FastAPI + boto3": ratio(point, "fastapi", 0.2),
        "point p99, ms": limit(point["mlpipe"]["p99_ms"], 3.0),
        "p99 that a black-holed provider adds, ms": limit(
            providers["black_holed"]["p99_ms"] - providers["none"]["p99_ms"], BUDGET_MS + 20
        ),
        "p50 that a dead provider adds, ms": limit(
            providers["dead"]["p50_ms"] - providers["none"]["p50_ms"], 0.1
        ),
        "archive, bytes": limit(found["archive_bytes"], LARGEST_API_ARCHIVE),
    }


def main(arguments: list[str] | None = None) -> int:
    """Measure, print and write; return 0 even if a limit is missed."""
    parser = argparse.ArgumentParser(description=(__doc__ or "").partition("\n")[0])
    parser.add_argument("--rounds", type=int, default=5, help="measurements of each handler")
    parser.add_argument("--requests", type=int, default=500, help="warm requests in each measurement")
    parser.add_argument("--out", type=Path, default=RESULTS, help="file for the results")
    options = parser.parse_args(arguments)
    if not 1 <= options.requests <= MAX_REQUESTS:
        parser.error(f"--requests must be 1 to {MAX_REQUESTS}, because each request has its own token")
    found = measure(options.rounds, options.requests)
    judged = statements(found)
    options.out.parent.mkdir(parents=True, exist_ok=True)
    options.out.write_text(f"{json.dumps({**found, 'statements': judged}, indent=2)}\n", encoding="utf-8")
    for kind in ("cold", "cold_without_byte_code", "point", "point_new_tokens", "batch_of_100"):
        for name, values in found[kind].items():
            texts = "  ".join(f"{key} {value:9.3f}" for key, value in values.items())
            sys.stdout.write(f"{kind:24}{name:12}{texts}\n")
    for name, each in judged.items():
        verdict = "holds" if each["holds"] else "MISSED"
        sys.stdout.write(f"{name:60}{each['measured']:>12} of {each['at_most']:>9}  {verdict}\n")
    return 0


if __name__ == "__main__":
    sys.exit(main())
