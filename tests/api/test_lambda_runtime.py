"""The built archive under AWS's Lambda runtime client."""

from __future__ import annotations

import importlib.metadata
import json
import subprocess
import sys
import zipfile
from pathlib import Path
from typing import TYPE_CHECKING

import pytest

from infra import packaging
from tests.api.api_calls import Answered, environment, recorded_event
from tests.api.published_batches import FLIGHT, PublishedModel
from tests.fakes.http_answers import serving_requests
from tests.fakes.runtime_api import RuntimeApi
from tests.projects import EXAMPLE

if TYPE_CHECKING:
    from collections.abc import Iterator

    from tests.fakes.token_issuer import TokenIssuer
    from tests.stack_runs import LocalStack

pytestmark = pytest.mark.stack
_KEPT = EXAMPLE.packages
# The packages of Lambda's image that the archive relies on.
_RUNTIME = ("awslambdaric", "simplejson", "snapshot-restore-py")


@pytest.fixture(scope="module")
def runtime_folder(tmp_path_factory: pytest.TempPathFactory) -> Path:
    """Return a folder with only AWS's runtime client and its dependencies."""
    folder = tmp_path_factory.mktemp("runtime")
    for name in _RUNTIME:
        for file in importlib.metadata.files(name) or ():
            top = file.parts[0]
            source = Path(str(importlib.metadata.distribution(name).locate_file(top)))
            if top != ".." and not (folder / top).exists():
                (folder / top).symlink_to(source)
    return folder


@pytest.fixture(scope="module")
def task_folder(tmp_path_factory: pytest.TempPathFactory) -> Path:
    """Return the unpacked archive."""
    folder = tmp_path_factory.mktemp("task")
    with zipfile.ZipFile(packaging.build_api_archive(_KEPT).path) as archive:
        archive.extractall(folder)
    return folder


@pytest.fixture
def function(
    local_stack: LocalStack,
    session_issuer: TokenIssuer,
    runtime_folder: Path,
    task_folder: Path,
    tmp_path: Path,
) -> Iterator[RuntimeApi]:
    """Start the function; its output is in `lines.txt`."""
    variables = environment(
        MLPIPE_JWKS_URL=session_issuer.url,
        AWS_ENDPOINT_URL=local_stack.environment["AWS_ENDPOINT_URL"],
        MLPIPE_POINTER_CACHE_SECONDS="0",
    )
    lines = tmp_path / "lines.txt"
    with RuntimeApi() as api, serving_requests(api), lines.open("w") as output:
        process = subprocess.Popen(
            [sys.executable, "-S", "-s", "-m", "awslambdaric", "api_lambda.handler.handler"],
            cwd=task_folder,
            env={
                **variables,
                "AWS_LAMBDA_RUNTIME_API": api.address,
                "AWS_EXECUTION_ENV": "AWS_Lambda_python3.11",
                "LAMBDA_TASK_ROOT": str(task_folder),
                "PYTHONPATH": f"{task_folder}:{runtime_folder}",
            },
            stdout=output,
            stderr=subprocess.STDOUT,
        )
        try:
            yield api
        finally:
            process.kill()
            process.wait(10)


def test_archive_works_under_lambda_runtime(
    function: RuntimeApi, model: PublishedModel, session_issuer: TokenIssuer, tmp_path: Path
) -> None:
    """The archive handles recorded events, a refusal and a health check, and logs one line per request."""
    model.publish(FLIGHT)
    token = session_issuer.token()
    for name in ("alb_single_value", "alb_multi_value", "alb_both_shapes", "alb_base64_body"):
        answer = Answered(function.invoke(recorded_event(name, model=model.name, token=token)))
        assert answer.status == 200
        assert answer.document["prediction"]["serial"] == 9007199254740993
        assert answer.headers["X-Request-Id"].startswith("request-")
    assert Answered(function.invoke(recorded_event("alb_health_check"))).document == {"status": "ok"}
    refused = recorded_event("alb_single_value", model=model.name, token="x")
    assert Answered(function.invoke(refused)).problem == "invalid-token"
    batch = {
        **recorded_event("alb_both_shapes", model=model.name, token=token),
        "httpMethod": "POST",
        "path": f"/v1/models/{model.name}/predictions:batchGet",
        "body": '{"entity_ids":["AA-1141-JFK","nobody"]}',
    }
    assert [entry["found"] for entry in Answered(function.invoke(batch)).document["predictions"]] == [
        True,
        False,
    ]
    lines = [json.loads(line) for line in (tmp_path / "lines.txt").read_text().splitlines()]
    assert [line["status"] for line in lines] == [200, 200, 200, 200, 200, 401, 200]
    assert [line["request_id"] for line in lines] == [f"request-{number}" for number in range(1, 8)]
    assert {line["trace_id"] for line in lines} == {"Root=1-5c536348-3d683b8b04734faae651f476;Sampled=0"}


def test_largest_response_fits_the_load_balancer(
    function: RuntimeApi, model: PublishedModel, session_issuer: TokenIssuer
) -> None:
    """The size that the runtime sends, escapes included, stays within the load balancer's limit."""
    rows = [json.dumps({"flight": f"f{n}", "reasons": "ü" * 54_000}, ensure_ascii=False) for n in range(4)]
    model.publish(*rows)
    event = recorded_event("alb_both_shapes", model=model.name, token=session_issuer.token())
    path = f"/v1/models/{model.name}/predictions:batchGet"
    for count, status in ((3, 200), (4, 400)):
        body = json.dumps({"entity_ids": [f"f{n}" for n in range(count)], "fields": ["reasons"]})
        answer = function.invoke({**event, "httpMethod": "POST", "path": path, "body": body})
        assert answer["statusCode"] == status
    assert 900_000 < function.sizes[0] < 1024 * 1024
