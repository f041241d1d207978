"""Answers off the wire: what http.client reads we read, what is not one whole answer is a fault."""

from __future__ import annotations

import http.client
import io
import socket
import threading
import time
from typing import Any

import pytest
from hypothesis import given, settings
from hypothesis import strategies as st

from api_lambda.http.http_answers import Answer, BrokenAnswerError, read_answer
from api_lambda.http.http_connections import HttpConnections, Outgoing
from tests.fakes.http_answers import serving

MOST = 1_000
OK = (200, b"{}", {})
INTERIM = b"HTTP/1.1 100 Continue\r\n\r\n"
CHUNKED = b"HTTP/1.1 200 OK\r\nTransfer-Encoding: chunked\r\n\r\n"


def read(content: bytes, *, piece: int = 65_536) -> tuple[Answer, bool]:
    """Read what a peer sends in pieces before it closes."""
    ours, theirs = socket.socketpair()

    def talk() -> None:
        try:
            for start in range(0, len(content), piece):
                theirs.sendall(content[start : start + piece])
        except OSError:
            # The reader has seen enough.
            return
        finally:
            theirs.close()

    speaker = threading.Thread(target=talk)
    speaker.start()
    with ours:
        try:
            return read_answer(ours, time.monotonic() + 10, MOST)
        finally:
            ours.close()
            speaker.join(10)


@pytest.mark.parametrize(
    ("content", "answer", "again"),
    [
        (b"HTTP/1.1 200 OK\r\nContent-Length: 2\r\n\r\nab", Answer(200, b"ab"), True),
        (b"HTTP/1.1 200\r\ncontent-length:2 \r\n\r\nab", Answer(200, b"ab"), True),
        (b"HTTP/1.1 200 OK\r\nContent-Length: 0\r\nConnection: Close\r\n\r\n", Answer(200, b""), False),
        (b"HTTP/1.0 200 OK\r\nContent-Length: 2\r\n\r\nab", Answer(200, b"ab"), False),
        (b"HTTP/1.1 200 OK\r\n\r\nto the end", Answer(200, b"to the end"), False),
        (b"HTTP/1.1 204 No Content\r\n\r\n", Answer(204, b""), True),
        (INTERIM + b"HTTP/1.1 404 Not Found\r\nContent-Length: 1\r\n\r\nx", Answer(404, b"x"), True),
        (
            CHUNKED + b"1\r\na\r\nA;x=y\r\n0123456789\r\n0\r\nX: y\r\n\r\n",
            Answer(200, b"a0123456789"),
            True,
        ),
    ],
    ids=["length", "no reason", "close", "old", "to the end", "empty", "interim", "chunks"],
)
@pytest.mark.parametrize("piece", [1, 65_536])
def test_whole_answers(content: bytes, answer: Answer, *, again: bool, piece: int) -> None:
    """Status and body, at once or byte by byte; whether the connection may serve another request."""
    assert read(content, piece=piece) == (answer, again)


def test_more_than_an_answer_ends_the_connection() -> None:
    """What follows unasked must not be taken for what is asked next."""
    content = b"HTTP/1.1 200 OK\r\nContent-Length: 2\r\n\r\nabX"
    assert read(content) == (Answer(200, b"ab"), False)


@pytest.mark.parametrize(
    "content",
    [
        b"HTTP/1.1 200 OK\r\nContent-Length: 5\r\n\r\nhalf",
        b"HTTP/1.1 200 OK\r\nContent-Le",
        CHUNKED + b"5\r\nab",
        CHUNKED + b"1\r\naX\r\n0\r\n\r\n",
        CHUNKED + b"-1\r\n\r\n",
        CHUNKED + b"3E9\r\n" + b"x" * 1001 + b"\r\n0\r\n\r\n",
        CHUNKED + b"1" + b";" * 5_000 + b"\r\na\r\n0\r\n\r\n",
        b"HTTP/1.1 200 OK\r\nTransfer-Encoding: gzip\r\n\r\n",
        b"HTTP/1.1 200 OK\r\nTransfer-Encoding: chunked\r\nContent-Length: 1\r\n\r\n0\r\n\r\n",
        b"HTTP/1.1 200 OK\r\nContent-Length: 1\r\nContent-Length: 2\r\n\r\nab",
        b"HTTP/1.1 200 OK\r\nContent-Length: +1\r\n\r\na",
        b"HTTP/1.1 200 OK\r\nContent-Length: 1001\r\n\r\n" + b"x" * 1001,
        b"HTTP/1.1 200 OK\r\n\r\n" + b"x" * 1001,
        b"HTTP/1.1 200 OK\r\nContent-Length : 1\r\n\r\na",
        b"HTTP/1.1 200 OK\r\nX: a\r\n folded\r\n\r\n",
        b"HTTP/1.1 200 OK\r\n" + b"X: y\r\n" * 20_000 + b"\r\n",
        INTERIM * 20,
        b"HTTP/2 200\r\n\r\n",
        b"SSH-2.0\r\n\r\n",
    ],
    ids=lambda content: f"{len(content)} bytes",
)
def test_what_is_not_one_whole_answer_is_a_fault(content: bytes) -> None:
    """Cut off, too long, of two lengths, or not HTTP."""
    with pytest.raises(BrokenAnswerError):
        read(content)


def test_a_peer_that_closes_without_a_byte_is_told_apart() -> None:
    """It may have closed before it saw the request, so another connection is worth a try."""
    with pytest.raises(ConnectionResetError):
        read(b"")


@settings(deadline=None, max_examples=100)
@given(
    body=st.binary(max_size=MOST),
    sizes=st.none() | st.lists(st.integers(1, 300), min_size=1, max_size=5),
    status=st.sampled_from([200, 302, 400, 503]),
    names=st.dictionaries(
        st.from_regex(r"X-[A-Za-z-]{1,9}", fullmatch=True), st.text("ab :,;\u00e9", max_size=9), max_size=5
    ),
)
def test_http_client_reads_the_same(
    body: bytes, sizes: list[int] | None, status: int, names: dict[str, str]
) -> None:
    """Whatever a server sends by the rules, in chunks of any size or in one piece."""
    lines = [f"HTTP/1.1 {status} Told", *(f"{name}: {value}" for name, value in names.items())]
    if sizes is None:
        sent = body
        lines.append(f"Content-Length: {len(body)}")
    else:
        sent, rest = b"", body
        for size in (size for _ in range(MOST) for size in sizes):
            if not rest:
                break
            chunk, rest = rest[:size], rest[size:]
            sent += b"%x\r\n%b\r\n" % (len(chunk), chunk)
        sent += b"0\r\n\r\n"
        lines.append("Transfer-Encoding: chunked")
    content = "\r\n".join((*lines, "", "")).encode("latin-1") + sent

    class Recorded:
        def makefile(self, _mode: str) -> io.BytesIO:
            return io.BytesIO(content)

    recorded: Any = Recorded()
    theirs = http.client.HTTPResponse(recorded)
    theirs.begin()
    assert read(content) == (Answer(theirs.status, theirs.read()), True)


@settings(deadline=None, max_examples=200)
@given(content=st.binary(max_size=300) | st.binary(max_size=100).map(b"HTTP/1.1 200 OK\r\n".__add__))
def test_any_bytes_are_an_answer_or_a_fault(content: bytes) -> None:
    """Whatever a peer sends, nothing but the named faults is raised."""
    try:
        answer, _ = read(content)
    except (BrokenAnswerError, ConnectionResetError):
        return
    assert content.startswith(b"HTTP/1.")
    assert 200 <= answer.status < 600


def test_what_came_unasked_is_not_taken_for_the_next_answer() -> None:
    """A peer that said something after its answer has lost its connection: answers would be one off."""
    connections = HttpConnections()
    with serving(OK) as server:
        asked = Outgoing(server.url)
        ours, theirs = socket.socketpair()
        connections._keep(server.url, asked, ours)
        theirs.sendall(b"HTTP/1.1 200 OK\r\nContent-Length: 5\r\n\r\nother")
        with theirs:
            assert connections.send(asked, 10).body == OK[1]
        assert (ours.fileno(), server.connections) == (-1, 1)
