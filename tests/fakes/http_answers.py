"""HTTP servers whose answers a test decides."""

from __future__ import annotations

import socket
import threading
import time
from contextlib import contextmanager
from http.server import BaseHTTPRequestHandler, ThreadingHTTPServer
from typing import TYPE_CHECKING, Any

if TYPE_CHECKING:
    import socketserver
    from collections.abc import Callable, Iterator, Mapping


class LocalServer(ThreadingHTTPServer):
    """A server on a free port, which counts its connections."""

    daemon_threads = True
    request_queue_size = 64

    def __init__(self, handler: type[LocalHandler]) -> None:
        self.connections = 0
        super().__init__(("127.0.0.1", 0), handler)

    @property
    def url(self) -> str:
        """The address without a trailing slash."""
        return f"http://127.0.0.1:{self.server_address[1]}"


class LocalHandler(BaseHTTPRequestHandler):
    """Reads bodies, sends responses and logs nothing."""

    protocol_version = "HTTP/1.1"
    disable_nagle_algorithm = True
    timeout = 10

    def setup(self) -> None:
        """Count the connection."""
        self.server.connections += 1  # type: ignore[attr-defined]  # it is a LocalServer
        super().setup()

    def body(self) -> bytes:
        """Read the request's body."""
        return self.rfile.read(int(self.headers.get("Content-Length", "0")))

    def respond(self, status: int, body: bytes, headers: Mapping[str, str] | None = None) -> None:
        """Send a response."""
        self.send_response(status)
        for name, value in {"Content-Length": str(len(body)), **(headers or {})}.items():
            self.send_header(name, value)
        self.end_headers()
        self.wfile.write(body)

    def log_message(self, format: str, *args: Any) -> None:  # noqa: A002 -- the base class's name
        """Log nothing."""


class AnsweringServer(LocalServer):
    """Gives the listed answers in order, then repeats the last; records requests and headers."""

    def __init__(self, *answers: tuple[int, bytes, dict[str, str]], seconds: float = 0.0) -> None:
        self.answers, self.seconds = list(answers), seconds
        self.requests: list[str] = []
        self.headers: list[dict[str, str]] = []
        super().__init__(_Handler)


class _Handler(LocalHandler):
    def do_GET(self) -> None:
        server: Any = self.server
        self.body()
        server.requests.append(self.path)
        server.headers.append({name.lower(): value for name, value in self.headers.items()})
        status, body, headers = server.answers.pop(0) if len(server.answers) > 1 else server.answers[0]
        time.sleep(server.seconds)
        self.respond(status, body, headers)
        self.close_connection = headers.get("Connection") == "close"

    do_POST = do_GET  # noqa: N815 -- the name is the base class's


@contextmanager
def serving(*answers: tuple[int, bytes, dict[str, str]], seconds: float = 0.0) -> Iterator[AnsweringServer]:
    """Serve these answers until the block ends."""
    with AnsweringServer(*answers, seconds=seconds) as server, serving_requests(server):
        yield server


@contextmanager
def serving_requests(server: socketserver.BaseServer) -> Iterator[None]:
    """Run a server of any kind until the block ends."""
    thread = threading.Thread(target=server.serve_forever, args=(0.05,), daemon=True)
    thread.start()
    try:
        yield
    finally:
        server.shutdown()
        thread.join(10)


@contextmanager
def speaking(talk: Callable[[socket.socket], None]) -> Iterator[str]:
    """Accept connections one after another, let `talk` handle each, and give the address."""
    with socket.create_server(("127.0.0.1", 0)) as listener:
        ended = threading.Event()

        def accept() -> None:
            while not ended.is_set():
                try:
                    connection, _ = listener.accept()
                except OSError:
                    return
                with connection:
                    try:
                        connection.recv(65_536)
                        talk(connection)
                    except OSError:
                        continue

        thread = threading.Thread(target=accept, daemon=True)
        thread.start()
        yield f"http://127.0.0.1:{listener.getsockname()[1]}"
        ended.set()
