"""A third-party weather API for the local stack: real observations over HTTP, and faults on demand.

    python -m flights.weather_service --port 8123 [--api-key-file FILE]

`GET /v1/stations`, `GET /v1/stations/JFK/observations?time=2013-02-01T05:00:00Z`, `GET /health`, and
`PUT /_faults`, which makes everything below `/v1` slow, failing or dead. `/health` is not affected, because
an injected fault is not a crash of the local stack.
"""

from __future__ import annotations

import argparse
import hashlib
import hmac
import json
import logging
import re
import signal
import socketserver
import sys
import threading
import time
from datetime import UTC, datetime
from http import HTTPStatus
from http.server import BaseHTTPRequestHandler, ThreadingHTTPServer
from pathlib import Path
from typing import Any, cast
from urllib.parse import parse_qs, urlsplit

from flights.weather_service.faults import FaultPlan, InvalidFaultError, WeatherFault, parse_fault
from flights.weather_service.observations import (
    UNITS,
    NoObservationError,
    UnknownStationError,
    WeatherObservations,
    read_observations,
    weather_file,
)

MAX_AGE_SECONDS = 3600
_LARGEST_BODY = 4096
_MAX_DISCARDED = 65_536
_OBSERVATIONS = re.compile(r"/v1/stations/([A-Za-z]{1,8})/observations")
_LOOPBACK_HOST = re.compile(r"(127\.0\.0\.1|localhost|\[::1\])(:[0-9]{1,5})?")
_LOG = logging.getLogger(__name__)


class _Problem(Exception):  # noqa: N818 -- an answer to give, not an error of the service
    """An answer other than success, in the form of RFC 9457."""

    def __init__(self, status: HTTPStatus, detail: str) -> None:
        self.status = status
        self.detail = detail
        super().__init__(detail)


def parse_time(text: str) -> datetime:
    """Parse an ISO 8601 time with a UTC offset, and return it in UTC.

    Raises:
        ValueError: The text is not such a time, or has no offset.
    """
    parsed = datetime.fromisoformat(text)
    if parsed.tzinfo is None:
        raise ValueError(f"{text!r} has no UTC offset")
    try:
        return parsed.astimezone(UTC)
    except OverflowError as error:
        raise ValueError(f"{text!r} is out of range in UTC") from error


def format_time(moment: datetime) -> str:
    """Return a UTC time as `2013-02-01T05:00:00Z`."""
    return moment.isoformat().replace("+00:00", "Z")


class WeatherServer(ThreadingHTTPServer):
    """The service on a loopback port.

    Args:
        port: The port; 0 for a free one.
        observations: The observations to serve.
        api_key: The key that the header `X-Api-Key` must contain for everything below `/v1`, or `None`.
    """

    daemon_threads = True
    request_queue_size = 128

    def __init__(self, port: int, observations: WeatherObservations, *, api_key: str | None = None) -> None:
        self.observations = observations
        self.api_key = api_key
        self.faults = FaultPlan()
        super().__init__(("127.0.0.1", port), _Handler)

    def server_bind(self) -> None:
        """Bind without the base class's reverse DNS lookup, which may be slow."""
        socketserver.TCPServer.server_bind(self)
        self.server_name, self.server_port = "127.0.0.1", self.server_address[1]

    @property
    def url(self) -> str:
        """The address without a trailing slash."""
        return f"http://127.0.0.1:{self.server_address[1]}"


class _Handler(BaseHTTPRequestHandler):
    """One connection, kept alive until it is idle for 30 seconds."""

    protocol_version = "HTTP/1.1"
    server_version = "weather"
    sys_version = ""
    timeout = 30
    # A response is two writes; Nagle's algorithm would delay the second one by 40 ms.
    disable_nagle_algorithm = True

    @property
    def _service(self) -> WeatherServer:
        return cast("WeatherServer", self.server)

    def do_GET(self) -> None:
        """Answer a GET request."""
        self._answer(self._get)

    def do_PUT(self) -> None:
        """Replace the current fault."""
        self._answer(self._put)

    def _answer(self, route: Any) -> None:
        try:
            self._require_loopback()
            route()
        except _Problem as problem:
            self._send_problem(problem.status, problem.detail)
        except ConnectionError:
            # Expected: callers of a slow provider time out.
            _LOG.info("The caller closed the connection before the answer")
            self.close_connection = True

    def _require_loopback(self) -> None:
        # Guards against DNS rebinding: the browser still sends the web page's own host name.
        if not _LOOPBACK_HOST.fullmatch(self.headers.get("Host", "")):
            raise _Problem(HTTPStatus.MISDIRECTED_REQUEST, "The Host header must name this machine")

    def _get(self) -> None:
        parts = urlsplit(self.path)
        if parts.path == "/health":
            self._send(HTTPStatus.OK, {"status": "ok"}, cache=False)
            return
        if not parts.path.startswith("/v1/"):
            raise _Problem(HTTPStatus.NOT_FOUND, f"Nothing is served at {parts.path}")
        if not self._apply(self._service.faults.next()):
            return
        self._require_api_key()
        if parts.path == "/v1/stations":
            self._send(HTTPStatus.OK, self._stations())
        elif match := _OBSERVATIONS.fullmatch(parts.path):
            self._send(HTTPStatus.OK, self._observation(match[1], parts.query))
        else:
            raise _Problem(HTTPStatus.NOT_FOUND, f"Nothing is served at {parts.path}")

    def _apply(self, fault: WeatherFault) -> bool:
        """Apply a fault; return whether the request must still be answered."""
        if fault.mode == "dead":
            self.close_connection = True
            return False
        if fault.mode == "failing":
            self._send_problem(HTTPStatus(fault.status), "An injected fault makes the service fail")
            return False
        if fault.mode == "slow":
            time.sleep(fault.seconds)
        return True

    def _require_api_key(self) -> None:
        expected = self._service.api_key
        given = self.headers.get("X-Api-Key", "")
        if expected is not None and not hmac.compare_digest(given.encode(), expected.encode()):
            raise _Problem(HTTPStatus.UNAUTHORIZED, "The header X-Api-Key has no valid key")

    def _stations(self) -> dict[str, Any]:
        stations = []
        for code in self._service.observations.stations:
            first, last, count = self._service.observations.span(code)
            stations.append(
                {
                    "station": code,
                    "first": format_time(first),
                    "last": format_time(last),
                    "observations": count,
                }
            )
        return {"stations": stations}

    def _observation(self, station: str, query: str) -> dict[str, Any]:
        # `parse_qs` would turn the plus sign of an unescaped offset into a space.
        times = parse_qs(query.replace("+", "%2B")).get("time", [])
        if len(times) != 1:
            raise _Problem(HTTPStatus.BAD_REQUEST, "Give one time, for example time=2013-02-01T05:00:00Z")
        try:
            moment = parse_time(times[0])
        except ValueError as error:
            detail = f"The time is not ISO 8601 with an offset, such as 2013-02-01T05:00:00Z: {error}"
            raise _Problem(HTTPStatus.BAD_REQUEST, detail) from error
        try:
            observation = self._service.observations.at(station.upper(), moment)
        except UnknownStationError as error:
            known = ", ".join(self._service.observations.stations)
            raise _Problem(HTTPStatus.NOT_FOUND, f"The stations are {known}") from error
        except NoObservationError as error:
            detail = f"{station.upper()} has no observation within 3 hours before {format_time(moment)}"
            raise _Problem(HTTPStatus.NOT_FOUND, detail) from error
        return {
            "station": observation.station,
            "observed_at": format_time(observation.observed_at),
            **observation.values,
            "units": UNITS,
        }

    def _put(self) -> None:
        length = self.headers.get("Content-Length", "")
        known = re.fullmatch(r"[0-9]{1,6}", length) is not None
        if not known or int(length) > _LARGEST_BODY:
            # The rest of the body would be read as the next request.
            self.close_connection = True
            # Closing with unread bytes resets the connection, and the caller would lose the answer.
            self.rfile.read(min(int(length), _MAX_DISCARDED) if known else 0)
            detail = f"Content-Length must be at most {_LARGEST_BODY}"
            raise _Problem(HTTPStatus.REQUEST_ENTITY_TOO_LARGE, detail)
        body = self.rfile.read(int(length))
        if urlsplit(self.path).path != "/_faults":
            raise _Problem(HTTPStatus.NOT_FOUND, "Only /_faults accepts PUT")
        try:
            fault = parse_fault(json.loads(body))
        except (InvalidFaultError, ValueError, RecursionError) as error:
            raise _Problem(HTTPStatus.BAD_REQUEST, f"The fault is invalid: {error}") from error
        self._service.faults.replace(fault)
        _LOG.info("Current fault: %s", fault)
        self._send(HTTPStatus.OK, fault.as_document(), cache=False)

    def _send_problem(self, status: HTTPStatus, detail: str) -> None:
        document = {"type": "about:blank", "title": status.phrase, "status": int(status), "detail": detail}
        self._send(status, document, cache=False, content_type="application/problem+json")

    def _send(
        self,
        status: HTTPStatus,
        document: dict[str, Any],
        *,
        cache: bool = True,
        content_type: str = "application/json",
    ) -> None:
        body = json.dumps(document, allow_nan=False, separators=(",", ":")).encode()
        etag = f'"{hashlib.sha256(body).hexdigest()[:32]}"'
        known = [tag.strip().removeprefix("W/") for tag in self.headers.get("If-None-Match", "").split(",")]
        unchanged = cache and (etag in known or known == ["*"])
        self.send_response(HTTPStatus.NOT_MODIFIED if unchanged else status)
        if cache:
            # Responses that need a key must not be shared.
            audience = "public" if self._service.api_key is None else "private"
            self.send_header("Cache-Control", f"{audience}, max-age={MAX_AGE_SECONDS}")
            self.send_header("ETag", etag)
        else:
            self.send_header("Cache-Control", "no-store")
        if self.close_connection:
            self.send_header("Connection", "close")
        if not unchanged:
            self.send_header("Content-Type", content_type)
            self.send_header("Content-Length", str(len(body)))
        self.end_headers()
        if not unchanged:
            self.wfile.write(body)

    def log_message(self, format: str, *args: Any) -> None:  # noqa: A002 -- the name is the base class's
        """Log a request by the `logging` module; headers, and so keys, are not logged."""
        _LOG.info(format, *args)


def main(arguments: list[str] | None = None) -> int:
    """Serve until the process gets SIGTERM or SIGINT."""
    parser = argparse.ArgumentParser(prog="python -m flights.weather_service", description=__doc__)
    parser.add_argument("--port", type=int, required=True, help="loopback port; 0 for a free one")
    parser.add_argument("--api-key-file", type=Path, help="a file with the key that callers must send")
    options = parser.parse_args(arguments)
    logging.basicConfig(level=logging.INFO, format="%(asctime)s %(message)s")
    api_key = None
    if options.api_key_file is not None:
        try:
            api_key = options.api_key_file.read_text(encoding="utf-8").strip()
        except OSError as error:
            parser.error(f"the key file {options.api_key_file} cannot be read: {error.strerror}")
        if not api_key:
            parser.error(f"the key file {options.api_key_file} is empty: write the key into it")
    try:
        server = WeatherServer(options.port, read_observations(weather_file()), api_key=api_key)
    except OSError as error:
        sys.stderr.write(f"The weather service cannot start: {error}. Choose another --port.\n")
        return 1
    # shutdown() waits for serve_forever(), which runs in this thread, so it needs another one.
    for number in (signal.SIGTERM, signal.SIGINT):
        signal.signal(number, lambda *_: threading.Thread(target=server.shutdown).start())
    sys.stdout.write(f"weather service ready at {server.url}\n")
    sys.stdout.flush()
    with server:
        server.serve_forever(poll_interval=0.2)
    return 0
