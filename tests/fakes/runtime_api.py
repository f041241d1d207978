"""Lambda's Runtime API for one function: it hands out events and receives answers."""

from __future__ import annotations

import json
import queue
import time
from typing import TYPE_CHECKING, Any

from tests.fakes.http_answers import LocalHandler, LocalServer

if TYPE_CHECKING:
    from collections.abc import Mapping

_PREFIX = "/2018-06-01/runtime"
_INVOCATION_SECONDS = 30
_ARN = "arn:aws:lambda:us-east-1:000000000000:function:mlpipe-local-api"


class RuntimeApi(LocalServer):
    """Serves https://docs.aws.amazon.com/lambda/latest/dg/runtimes-api.html to one runtime.

    `sizes` are the sizes of the answers so far, in bytes.
    """

    def __init__(self) -> None:
        self.events: queue.Queue[tuple[str, bytes]] = queue.Queue()
        self.answers: queue.Queue[tuple[str, bytes]] = queue.Queue()
        self.sizes: list[int] = []
        self._count = 0
        super().__init__(_Handler)

    @property
    def address(self) -> str:
        """Host and port, as in `AWS_LAMBDA_RUNTIME_API`."""
        return f"127.0.0.1:{self.server_address[1]}"

    def invoke(self, event: Mapping[str, Any], *, seconds: float = _INVOCATION_SECONDS) -> dict[str, Any]:
        """Let the function answer an event and return the answer."""
        self._count += 1
        request_id = f"request-{self._count}"
        self.events.put((request_id, json.dumps(event).encode()))
        path, body = self.answers.get(timeout=seconds)
        assert path == f"{_PREFIX}/invocation/{request_id}/response", (path, body)
        self.sizes.append(len(body))
        return json.loads(body)


class _Handler(LocalHandler):
    # The runtime waits for the next event without a limit.
    timeout = None

    def do_GET(self) -> None:  # noqa: N802 -- the name is the base class's
        runtime: Any = self.server
        request_id, event = runtime.events.get()
        headers = {
            "Lambda-Runtime-Aws-Request-Id": request_id,
            "Lambda-Runtime-Deadline-Ms": str(int((time.time() + _INVOCATION_SECONDS) * 1000)),
            "Lambda-Runtime-Invoked-Function-Arn": _ARN,
            "Lambda-Runtime-Trace-Id": "Root=1-5c536348-3d683b8b04734faae651f476;Sampled=0",
            "Content-Type": "application/json",
        }
        self.respond(200, event, headers)

    def do_POST(self) -> None:  # noqa: N802 -- the name is the base class's
        runtime: Any = self.server
        runtime.answers.put((self.path, self.body()))
        self.respond(202, b"")
