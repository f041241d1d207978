"""Answers DynamoDB's writes and serves S3 objects from files: with nginx if installed, else with asyncio.

    python -m benchmarks.canned.canned_load_store PORT FOLDER

serves with asyncio until it is terminated. Objects are files below the folder, as `/bucket/key`.
"""

from __future__ import annotations

import asyncio
import json
import shutil
import socket
import subprocess
import sys
import time
from contextlib import contextmanager, suppress
from pathlib import Path
from typing import TYPE_CHECKING, Any

from prediction_contract.limits import MAX_BATCH_WRITE_BYTES

if TYPE_CHECKING:
    from collections.abc import Iterator

TABLE = "online"
_READY_SECONDS = 20
_WRITTEN = json.dumps(
    {"UnprocessedItems": {}, "ConsumedCapacity": [{"TableName": TABLE, "CapacityUnits": 25.0}]}
)
# awswrangler asks for the table's keys.
_DESCRIBED = json.dumps(
    {
        "Table": {
            "TableName": TABLE,
            "TableStatus": "ACTIVE",
            "KeySchema": [
                {"AttributeName": "entity_id", "KeyType": "HASH"},
                {"AttributeName": "batch_id", "KeyType": "RANGE"},
            ],
            "AttributeDefinitions": [
                {"AttributeName": "entity_id", "AttributeType": "S"},
                {"AttributeName": "batch_id", "AttributeType": "S"},
            ],
        }
    }
)
_NGINX = """
worker_processes 1; daemon off; pid {folder}/nginx.pid; error_log stderr crit;
events {{ worker_connections 512; }}
http {{
  access_log off; keepalive_requests 100000000; client_max_body_size {largest}; client_body_buffer_size 1m;
  client_body_temp_path {folder}/body; proxy_temp_path {folder}/proxy; fastcgi_temp_path {folder}/fastcgi;
  uwsgi_temp_path {folder}/uwsgi; scgi_temp_path {folder}/scgi; default_type application/x-amz-json-1.0;
  map $http_x_amz_target $answer {{ default '{written}'; ~DescribeTable '{described}'; }}
  server {{
    listen 127.0.0.1:{port};
    location = / {{ return 200 $answer; }}
    location / {{ root {folder}; }}
  }}
}}
"""


@contextmanager
def canned_load_store(folder: Path) -> Iterator[tuple[str, str]]:
    """Serve a folder's files and accept all writes; yield the address and the server's name.

    Raises:
        RuntimeError: The server was not ready in time.
    """
    with socket.socket() as free:
        free.bind(("127.0.0.1", 0))
        port = free.getsockname()[1]
    nginx = shutil.which("nginx")
    if nginx:
        config = folder / "nginx.conf"
        answers = {"written": _WRITTEN, "described": _DESCRIBED}
        config.write_text(_NGINX.format(folder=folder, port=port, largest=MAX_BATCH_WRITE_BYTES, **answers))
        # nginx's workers run as another user and must be able to read the folder.
        folder.chmod(0o755)
        command = [nginx, "-c", str(config), "-p", str(folder)]
    else:
        command = [sys.executable, "-m", "benchmarks.canned.canned_load_store", str(port), str(folder)]
    with subprocess.Popen(command, cwd=Path(__file__).parents[2]) as process:
        try:
            _wait(port)
            yield f"http://127.0.0.1:{port}", "nginx" if nginx else "asyncio"
        finally:
            process.terminate()


def _wait(port: int) -> None:
    deadline = time.monotonic() + _READY_SECONDS
    while time.monotonic() < deadline:
        with suppress(OSError), socket.create_connection(("127.0.0.1", port), 1):
            return
        time.sleep(0.05)
    raise RuntimeError("The canned store did not start to listen")


class _Connection(asyncio.Protocol):
    """One kept-alive connection."""

    def __init__(self, folder: Path) -> None:
        self._folder = folder
        self._received = bytearray()

    def connection_made(self, transport: asyncio.BaseTransport) -> None:
        self._transport: Any = transport

    def data_received(self, data: bytes) -> None:
        self._received += data
        while (end := self._received.find(b"\r\n\r\n")) >= 0:
            lines = self._received[:end].decode("latin-1").split("\r\n")
            headers = {name.lower(): value for name, _, value in (line.partition(": ") for line in lines[1:])}
            whole = end + 4 + int(headers.get("content-length", "0"))
            if len(self._received) < whole:
                return
            del self._received[:whole]
            method, path, _ = lines[0].split(" ", 2)
            if method == "POST" and whole - end - 4 > MAX_BATCH_WRITE_BYTES:
                self._answer("413 Content Too Large", b"")
            elif method == "POST":
                described = headers.get("x-amz-target", "").endswith("DescribeTable")
                self._answer("200 OK", (_DESCRIBED if described else _WRITTEN).encode())
            else:
                self._answer_file(method, path, headers.get("range"))

    def _answer_file(self, method: str, path: str, wanted: str | None) -> None:
        content, status, more = (self._folder / path.lstrip("/")).read_bytes(), "200 OK", b""
        if wanted:
            first, _, last = wanted.removeprefix("bytes=").partition("-")
            begin, end = int(first), min(int(last or len(content)), len(content) - 1)
            more = f"Content-Range: bytes {begin}-{end}/{len(content)}\r\n".encode()
            content, status = content[begin : end + 1], "206 Partial Content"
        self._answer(status, content, more, with_body=method == "GET")

    def _answer(self, status: str, content: bytes, more: bytes = b"", *, with_body: bool = True) -> None:
        head = b"HTTP/1.1 %b\r\nContent-Type: application/x-amz-json-1.0\r\n" % status.encode()
        length = b"Content-Length: %d\r\n\r\n" % len(content)
        self._transport.write(head + more + length + (content if with_body else b""))


async def _serve(port: int, folder: Path) -> None:
    server = await asyncio.get_running_loop().create_server(lambda: _Connection(folder), "127.0.0.1", port)
    await server.serve_forever()


if __name__ == "__main__":
    asyncio.run(_serve(int(sys.argv[1]), Path(sys.argv[2])))
