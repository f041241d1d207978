"""The HTTP reader agrees with http.client and refuses everything that is not one complete answer."""

from __future__ import annotations

import http.client
import io
from typing import Any

import pytest
from hypothesis import given, settings
from hypothesis import strategies as st

from aws_wire.http_answer import AnswerReader, BrokenAnswerError, HttpAnswer

MOST = 1_000
INTERIM = b"HTTP/1.1 100 Continue\r\n\r\n"
CHUNKED = b"HTTP/1.1 200 OK\r\nTransfer-Encoding: chunked\r\n\r\n"


def read(content: bytes, *, piece: int = 65_536, needs_length: bool = False) -> HttpAnswer:
    """Read an answer that arrives in pieces before the connection closes."""
    reader = AnswerReader(MOST, needs_length=needs_length)
    for start in range(0, len(content), piece):
        answer = reader.feed(content[start : start + piece])
        if answer is not None:
            return answer
    answer = reader.feed(b"")
    assert answer is not None
    return answer


@pytest.mark.parametrize(
    ("content", "answer"),
    [
        (b"HTTP/1.1 200 OK\r\nContent-Length: 2\r\n\r\nab", HttpAnswer(200, b"ab", is_reusable=True)),
        (b"HTTP/1.1 200\r\ncontent-length:2 \r\n\r\nab", HttpAnswer(200, b"ab", is_reusable=True)),
        (
            b"HTTP/1.1 200 OK\r\nContent-Length: 0\r\nConnection: Close\r\n\r\n",
            HttpAnswer(200, b"", is_reusable=False),
        ),
        (b"HTTP/1.0 200 OK\r\nContent-Length: 2\r\n\r\nab", HttpAnswer(200, b"ab", is_reusable=False)),
        (b"HTTP/1.1 200 OK\r\n\r\nto the end", HttpAnswer(200, b"to the end", is_reusable=False)),
        (b"HTTP/1.1 204 No Content\r\n\r\n", HttpAnswer(204, b"", is_reusable=True)),
        (
            INTERIM + b"HTTP/1.1 404 Not Found\r\nContent-Length: 1\r\n\r\nx",
            HttpAnswer(404, b"x", is_reusable=True),
        ),
        (
            CHUNKED + b"1\r\na\r\nA;x=y\r\n0123456789\r\n0\r\nX: y\r\n\r\n",
            HttpAnswer(200, b"a0123456789", is_reusable=True),
        ),
    ],
    ids=["length", "no reason", "close", "old", "to the end", "empty", "interim", "chunks"],
)
@pytest.mark.parametrize("piece", [1, 65_536])
def test_complete_answers_are_read(content: bytes, answer: HttpAnswer, piece: int) -> None:
    """Status, body and reusability are right, in one piece and byte by byte."""
    assert read(content, piece=piece) == answer


def test_surplus_bytes_make_connection_unusable() -> None:
    """Bytes after an answer must not be read as the answer to the next request."""
    content = b"HTTP/1.1 200 OK\r\nContent-Length: 2\r\n\r\nabX"
    assert read(content) == (HttpAnswer(200, b"ab", is_reusable=False))


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
def test_incomplete_or_invalid_answer_is_refused(content: bytes) -> None:
    """Truncated, oversized, ambiguous and non-HTTP answers are errors."""
    with pytest.raises(BrokenAnswerError):
        read(content)


def test_connection_closed_without_answer_is_a_reset() -> None:
    """The server may not have seen the request, so callers may retry on another connection."""
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
    """Any valid answer, chunked or with a length, is read like http.client reads it."""
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
    assert read(content) == HttpAnswer(theirs.status, theirs.read(), is_reusable=True)


@settings(deadline=None, max_examples=200)
@given(content=st.binary(max_size=300) | st.binary(max_size=100).map(b"HTTP/1.1 200 OK\r\n".__add__))
def test_random_bytes_give_an_answer_or_a_known_error(content: bytes) -> None:
    """No input raises any other exception."""
    try:
        answer = read(content)
    except (BrokenAnswerError, ConnectionResetError):
        return
    assert content.startswith(b"HTTP/1.")
    assert 200 <= answer.status < 600


@given(st.binary(max_size=60), st.integers(1, 40))
def test_answer_is_read_in_pieces_of_any_size(body: bytes, size: int) -> None:
    """The body is the same wherever the bytes are cut, and is not returned before it is complete."""
    chunked = b"".join(
        b"%x;x=y\r\n%b\r\n" % (len(body[at : at + 7]), body[at : at + 7]) for at in range(0, len(body), 7)
    )
    chunks_head = b"HTTP/1.1 200 OK\r\nTransfer-Encoding: chunked\r\nConnection: close\r\n\r\n"
    for content, is_reusable in (
        (b"HTTP/1.1 200 OK\r\nContent-Length: %d\r\n\r\n%b" % (len(body), body), True),
        (b"%b%b0\r\n\r\n" % (chunks_head, chunked), False),
    ):
        reader = AnswerReader(MOST, needs_length=True)
        answer = None
        for at in range(0, len(content), size):
            assert answer is None
            answer = reader.feed(content[at : at + size])
        assert answer == HttpAnswer(200, body, is_reusable)


@pytest.mark.parametrize(
    "content",
    [
        b"SSH-2.0-OpenSSH\r\n\r\n",
        b"HTTP/1.1 200 OK\r\n\r\nbody",
        b"HTTP/1.1 200 OK\r\nContent-Length: many\r\n\r\n",
        b"HTTP/1.1 200 OK\r\nTransfer-Encoding: chunked\r\n\r\nx\r\n",
        b"HTTP/1.1 200 OK\r\nContent-Length: 2\r\nx-amz-crc32: 1\r\n\r\n{}",
        b"HTTP/1.1 200 OK\r\n" + b"X: y\r\n" * 20_000,
    ],
    ids=["protocol", "no length", "length", "chunk", "altered", "endless head"],
)
def test_invalid_answer_is_refused_before_connection_closes(content: bytes) -> None:
    """Other protocols, answers without a length and altered bodies are refused early."""
    with pytest.raises(BrokenAnswerError):
        AnswerReader(MOST, needs_length=True).feed(content)


def test_body_with_matching_crc32_is_accepted() -> None:
    """A correct checksum of AWS is accepted for plain and chunked bodies."""
    head = b"HTTP/1.1 200 OK\r\nX-Amz-Crc32: 2745614147\r\n"
    sized, chunked = b"Content-Length: 2\r\n\r\n{}", b"Transfer-Encoding: chunked\r\n\r\n2\r\n{}\r\n0\r\n\r\n"
    for content in (head + sized, head + chunked):
        assert read(content) == HttpAnswer(200, b"{}", is_reusable=True)


@pytest.mark.parametrize("line", [b"X: a\rb", b"X: a\nContent-Length: 1", b"\nX: a", b"X"])
def test_ambiguous_header_line_is_refused(line: bytes) -> None:
    """A bare carriage return or line feed neither ends a header line nor may occur in one."""
    with pytest.raises(BrokenAnswerError):
        read(b"HTTP/1.1 200 OK\r\n%b\r\nContent-Length: 2\r\n\r\n{}" % line)
