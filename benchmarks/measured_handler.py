"""Measures one handler in a process of its own.

    python -m benchmarks.measured_handler MODULE cold|point|point_new_tokens|batch COUNT

The last line of standard output is a JSON object: CPU and wall milliseconds.
"""

from __future__ import annotations

import time

_BEGAN = time.process_time(), time.perf_counter()

import importlib  # noqa: E402 -- the measured time begins before anything else
import json  # noqa: E402
import os  # noqa: E402
import sys  # noqa: E402
from collections.abc import Callable  # noqa: E402
from types import SimpleNamespace  # noqa: E402
from typing import Any  # noqa: E402

_WARM_UPS = 50
_BATCH = 100
_OK = 200


def main(module: str, kind: str, count: int) -> None:
    """Measure and print."""
    printed, sys.stdout = sys.stdout, open(os.devnull, "w", encoding="utf-8")  # noqa: PTH123, SIM115
    handler = importlib.import_module(module).handler
    context = SimpleNamespace(aws_request_id="request", function_name="f", memory_limit_in_mb=1024)
    context.invoked_function_arn = "arn:aws:lambda:us-east-1:000000000000:function:f"
    if kind == "cold":
        _require_ok(handler(_point(0), context))
        cpu, wall = time.process_time() - _BEGAN[0], time.perf_counter() - _BEGAN[1]
        measured: dict[str, Any] = {"cpu_ms": cpu * 1000, "wall_ms": wall * 1000}
    else:
        measured = _warm(handler, context, _events(kind), count)
    printed.write(f"{json.dumps(measured)}\n")


def _events(kind: str) -> Callable[[int], dict[str, Any]]:
    if kind != "point_new_tokens":
        return _point if kind == "point" else _batch
    # Imported here, so that a cold start does not include it.
    import urllib.request  # noqa: PLC0415

    opener = urllib.request.build_opener(urllib.request.ProxyHandler({}))
    with opener.open(f"{os.environ['AWS_ENDPOINT_URL']}/tokens", timeout=60) as answer:
        tokens = json.load(answer)

    def event(number: int) -> dict[str, Any]:
        # Each token is used once, also during warm-up.
        os.environ["BENCHMARK_TOKEN"] = tokens.pop()
        return _point(number)

    return event


def _warm(handler: Any, context: Any, event_of: Any, count: int) -> dict[str, Any]:
    for number in range(_WARM_UPS if count > _WARM_UPS else 1):
        _require_ok(handler(event_of(number), context))
    walls = []
    began = time.process_time()
    for number in range(count):
        event = event_of(number)
        started = time.perf_counter()
        answer = handler(event, context)
        walls.append((time.perf_counter() - started) * 1000)
        _require_ok(answer)
    cpu = (time.process_time() - began) * 1000 / count
    walls.sort()
    return {
        "cpu_ms": cpu,
        "p50_ms": walls[len(walls) // 2],
        "p99_ms": walls[min(len(walls) - 1, len(walls) * 99 // 100)],
    }


def _require_ok(answer: dict[str, Any]) -> None:
    if answer["statusCode"] != _OK:
        raise SystemExit(f"The handler did not answer with status 200: {answer}")


def _event(method: str, path: str, body: str) -> dict[str, Any]:
    headers = {
        "accept": "application/json",
        "authorization": f"Bearer {os.environ['BENCHMARK_TOKEN']}",
        "content-type": "application/json",
        "host": "api.example",
        "user-agent": "benchmark",
        "x-amzn-trace-id": "Root=1-5c536348-3d683b8b04734faae651f476",
        "x-forwarded-for": "72.12.164.125",
        "x-forwarded-port": "443",
        "x-forwarded-proto": "https",
    }
    return {
        "requestContext": {
            "elb": {"targetGroupArn": "arn:aws:elasticloadbalancing:us-east-1:0:targetgroup/f/6"}
        },
        "httpMethod": method,
        "path": path,
        "queryStringParameters": {},
        "headers": headers,
        "body": body,
        "isBase64Encoded": False,
    }


def _point(number: int) -> dict[str, Any]:
    return _event("GET", f"/v1/models/flight_delay/predictions/AA-{number % 1000}-JFK", "")


def _batch(number: int) -> dict[str, Any]:
    ids = [f"AA-{(number + each) % 1000}-JFK" for each in range(_BATCH)]
    return _event("POST", "/v1/models/flight_delay/predictions:batchGet", json.dumps({"entity_ids": ids}))


if __name__ == "__main__":
    main(sys.argv[1], sys.argv[2], int(sys.argv[3]))
