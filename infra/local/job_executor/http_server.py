"""The HTTP server: loopback only, limited bodies, AWS's operations and errors, and control endpoints."""

from __future__ import annotations

import json
import logging
import re
import socket
import time
import uuid
from http.server import BaseHTTPRequestHandler, ThreadingHTTPServer
from typing import TYPE_CHECKING, Any, cast

from infra.local.job_executor.aws_access import CALLER_KEY
from infra.local.job_executor.call_faults import ENDS_AS
from infra.local.job_executor.json_protocol import ApiError, JsonProtocol

if TYPE_CHECKING:
    from collections.abc import Callable, Mapping

    from infra.local.job_executor.call_faults import FaultBook
    from infra.local.job_executor.image_store import ImageStore

_LOG = logging.getLogger(__name__)
_FAULTS, _IMAGES = "/_executor/faults", "/_executor/images"
_MAX_BODY_BYTES = 4 * 1024 * 1024
_LOOPBACK_NAMES = {"127.0.0.1", "localhost", "[::1]"}
_AWS_JSON = "application/x-amz-json-1.1"
_TOO_LARGE = 413
_ACCESS_KEY = re.compile(r"Credential=([A-Z0-9a-z]{1,128})/")

Operations = dict[str, "Callable[[dict[str, Any]], dict[str, Any]]"]


class Dispatcher:
    """Finds and carries out the operation of a request, and applies faults.

    Args:
        operations: The supported operations by service and name.
        images: The images of SageMaker's jobs.
        faults: The faults; receives the names of all operations.
    """

    def __init__(self, operations: Mapping[str, Operations], images: ImageStore, faults: FaultBook) -> None:
        self.images = images
        self.faults = faults
        self._operations = operations
        self._protocols = {
            JsonProtocol(service).target_prefix: JsonProtocol(service) for service in operations
        }
        for protocol in self._protocols.values():
            errors = {name: protocol.error_names(name) for name in operations[protocol.service]}
            faults.allow_calls(protocol.service, errors)

    def dispatch(self, target: str, body: bytes) -> bytes | None:
        """Return the answer to one call; None if a fault says that the answer is lost.

        Raises:
            ApiError: The answer is an error.
        """
        prefix, _, name = target.partition(".")
        protocol = self._protocols.get(prefix)
        if protocol is None:
            raise ApiError("UnknownOperationException", f"No service has the X-Amz-Target {target!r}.")
        model = protocol.operation(name)
        operation = self._operations[protocol.service].get(name)
        if operation is None:
            raise ApiError(
                "UnknownOperationException",
                f"{protocol.service}:{name} is not supported by the local job executor.",
            )
        fault = self.faults.take(protocol.service, name)
        if fault is not None and fault.latency_seconds is not None:
            time.sleep(fault.latency_seconds)
        if fault is not None and fault.error is not None:
            message = "Rate exceeded" if fault.error == "ThrottlingException" else "Injected fault"
            raise ApiError(fault.error, message, status=fault.status)
        request = protocol.parse(model, body)
        if fault is not None and fault.ends_as is not None:
            request |= {ENDS_AS: fault.ends_as}
        answer = protocol.serialize(model, operation(request))
        return None if fault is not None and fault.lost_answer else answer


class ExecutorServer(ThreadingHTTPServer):
    """The HTTP server on 127.0.0.1.

    Args:
        port: The port; 0 for any free port.
    """

    daemon_threads = True
    # Clients open a connection per poll, so the default backlog of 5 is too short on a busy machine.
    request_queue_size = 128

    def __init__(self, port: int) -> None:
        super().__init__(("127.0.0.1", port), _Handler)
        self.dispatcher: Dispatcher | None = None

    @property
    def url(self) -> str:
        """The server's address for clients."""
        return f"http://127.0.0.1:{self.server_port}"


class _Handler(BaseHTTPRequestHandler):
    protocol_version = "HTTP/1.1"
    timeout = 60
    # Send an answer in one segment: delayed acknowledgements would cost 40 ms.
    wbufsize = -1
    disable_nagle_algorithm = True

    def do_GET(self) -> None:
        """Answer the health check, the list of faults and the list of images."""
        if self.path == "/health" and self._is_local():
            self._send(200, {"status": "ok", "services": ["glue", "sagemaker"]})
        elif self.path == _FAULTS and self._is_local():
            self._send(200, {"faults": self._dispatcher().faults.listed()})
        elif self.path == _IMAGES and self._is_local():
            self._send(200, self._dispatcher().images.listed())
        else:
            self._send(404, {"message": f"unknown path {self.path}"})

    def do_DELETE(self) -> None:
        """Remove all faults."""
        if self.path != _FAULTS or not self._is_local():
            self._send(404, {"message": f"unknown path {self.path}"})
            return
        self._dispatcher().faults.clear()
        self._send(200, {"faults": []})

    def do_POST(self) -> None:
        """Carry out an AWS call, or add a fault or images."""
        body = self._body()
        if body is None:
            return
        if self.path in {_FAULTS, _IMAGES} and self._is_local():
            self._add(body)
            return
        try:
            answer = self._aws_call(body)
        except ApiError as error:
            self._send_error(error)
        except Exception as error:  # noqa: BLE001 - a boundary, see below
            # The boundary of a request: the caller gets AWS's InternalFailure, and the log gets the reason.
            _LOG.exception("call %s failed", self.headers.get("X-Amz-Target"))
            self._send_error(ApiError("InternalFailure", f"The job executor failed: {error!r}", status=500))
        else:
            if answer is None:
                self.close_connection = True
                self.connection.shutdown(socket.SHUT_RDWR)
            else:
                self._send_bytes(200, answer, _AWS_JSON)

    def _aws_call(self, body: bytes) -> bytes | None:
        if not self._is_local():
            raise ApiError(
                "AccessDeniedException", "Only requests to a loopback address are answered.", status=403
            )
        if self.headers.get_content_type() != _AWS_JSON:
            raise ApiError("UnknownOperationException", f"The content type must be {_AWS_JSON}.")
        self._note_call(body)
        return self._dispatcher().dispatch(self.headers.get("X-Amz-Target", ""), body)

    def _note_call(self, body: bytes) -> None:
        """Log the operation, the resource and the access key, since permissions are not checked here."""
        signed = _ACCESS_KEY.search(self.headers.get("Authorization", ""))
        CALLER_KEY.set(signed[1] if signed else None)
        try:
            request = json.loads(body or b"{}")
        except ValueError:
            request = {}
        members = request.items() if isinstance(request, dict) else ()
        named = (
            "JobName",
            "PipelineName",
            "PipelineExecutionArn",
            "PackageGroupName",
            "PackageArn",
            "PackageName",
        )
        names = [value for name, value in members if name.endswith(named) and isinstance(value, str)]
        _LOG.info(
            "call %s on %s with access key %s",
            self.headers.get("X-Amz-Target", ""),
            names[0] if names else "-",
            signed[1] if signed else "-",
        )

    def _add(self, body: bytes) -> None:
        # A browser asks a server before it sends this content type for a page of another origin.
        if self.headers.get_content_type() != "application/json":
            self._send(400, {"message": "the content type must be application/json"})
            return
        dispatcher = self._dispatcher()
        try:
            document = json.loads(body)
            if self.path == _IMAGES:
                dispatcher.images.add(document)
            else:
                dispatcher.faults.add(document)
        except ValueError as error:
            self._send(400, {"message": str(error)})
            return
        added = dispatcher.images.listed() if self.path == _IMAGES else {"faults": dispatcher.faults.listed()}
        self._send(200, added)

    def _is_local(self) -> bool:
        """Return whether `Host` is this machine, as protection against DNS rebinding."""
        name = self.headers.get("Host", "").rsplit(":", 1)[0]
        return name in _LOOPBACK_NAMES and "Origin" not in self.headers

    def _body(self) -> bytes | None:
        length = self.headers.get("Content-Length", "0")
        if not length.isdecimal() or int(length) > _MAX_BODY_BYTES or "Transfer-Encoding" in self.headers:
            self.close_connection = True
            message = f"A body needs a Content-Length of at most {_MAX_BODY_BYTES} bytes."
            self._send_error(ApiError("RequestEntityTooLargeException", message, status=_TOO_LARGE))
            return None
        return self.rfile.read(int(length))

    def _send_error(self, error: ApiError) -> None:
        body = json.dumps({"__type": error.code, "message": error.message, "Message": error.message}).encode()
        self._send_bytes(error.status, body, _AWS_JSON, {"x-amzn-ErrorType": error.code})

    def _send(self, status: int, document: dict[str, Any]) -> None:
        self._send_bytes(status, json.dumps(document).encode(), "application/json")

    def _send_bytes(self, status: int, body: bytes, kind: str, headers: dict[str, str] | None = None) -> None:
        self.send_response(status)
        self.send_header("Content-Type", kind)
        self.send_header("Content-Length", str(len(body)))
        self.send_header("x-amzn-RequestId", str(uuid.uuid4()))
        for name, value in (headers or {}).items():
            self.send_header(name, value)
        self.end_headers()
        self.wfile.write(body)
        self.wfile.flush()

    def _dispatcher(self) -> Dispatcher:
        return cast("Dispatcher", cast("ExecutorServer", self.server).dispatcher)

    def log_message(self, format: str, *args: Any) -> None:  # noqa: A002 - the base class's name
        """Log requests only at debug level, because clients poll."""
        _LOG.debug(format, *args)
