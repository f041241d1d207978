"""Tests of outgoing connections and of reads from a troubled DynamoDB."""

from __future__ import annotations

import json
import socket
import time
from dataclasses import replace
from typing import TYPE_CHECKING

import pytest

from api_lambda.bounded_cache import BoundedCache
from api_lambda.http.http_connections import HttpConnections, HttpFaultError, OutgoingRequest
from api_lambda.settings import Settings
from api_lambda.store.item_reader import ItemReader, StoreRefusedError, StoreUnavailableError
from tests.api.api_calls import ApiUnderTest, environment
from tests.fakes.http_answers import serving, speaking

if TYPE_CHECKING:
    from tests.fakes.token_issuer import TokenIssuer

OK = (200, b"{}", {})


def test_connections_are_kept_alive_and_shared() -> None:
    """Ten requests use one connection."""
    connections = HttpConnections()
    with serving(OK) as server:
        for _ in range(10):
            assert connections.send(OutgoingRequest(f"{server.url}/a?b=c"), 10).body == OK[1]
        assert (server.connections, set(server.requests)) == (1, {"/a?b=c"})


@pytest.mark.parametrize(
    "asked",
    [
        OutgoingRequest("http://HOST/a", headers={"X-Key": "a\r\nX-Other: b"}),
        OutgoingRequest("http://HOST/a", headers={"X-Key\n": "a"}),
        OutgoingRequest("http://HOST/a b"),
        OutgoingRequest("http://HOST/a", headers={"X-Key": "\u20ac"}),
    ],
    ids=["value", "name", "target", "not latin"],
)
def test_request_with_line_breaks_is_not_sent(asked: OutgoingRequest) -> None:
    """A request that would break the header lines, or cannot be encoded, is not sent."""
    with serving(OK) as server:
        with pytest.raises(HttpFaultError):
            HttpConnections().send(replace(asked, url=asked.url.replace("http://HOST", server.url)), 5)
        assert server.requests == []


def test_only_four_idle_connections_are_kept() -> None:
    """Of nine connections, four are kept open."""
    connections = HttpConnections()
    with serving(OK) as server:
        asked = OutgoingRequest(server.url)
        opened = [connections._connect(server.url, asked, time.monotonic() + 10) for _ in range(9)]
        for connection in opened:
            connections._keep(server.url, asked, connection)
        assert sum(connection.fileno() != -1 for connection in opened) == 4
        for connection in opened:
            connection.close()


def test_cache_drops_least_recently_used_entry() -> None:
    """A full cache drops the entry that was not used for the longest time."""
    cache: BoundedCache[str, int] = BoundedCache(2)
    cache.put("a", 1)
    cache.put("b", 2)
    assert cache.get("a") == 1
    cache.put("c", 3)
    assert [cache.get(key) for key in "abc"] == [1, None, 3]


def test_cache_is_limited_by_weight() -> None:
    """Large values leave room for few others, and a value beyond the limit is not kept."""
    cache: BoundedCache[str, str] = BoundedCache(10, lambda key, value: len(key) + len(value))
    for _ in range(3):
        cache.put("a", "1234")
    cache.put("b", "1234")
    assert [cache.get(key) for key in "ab"] == ["1234", "1234"]
    cache.put("c", "1")
    assert [cache.get(key) for key in "abc"] == [None, "1234", "1"]
    cache.put("d", "x" * 10)
    assert [cache.get(key) for key in "abcd"] == [None] * 4


def test_closed_connection_is_replaced() -> None:
    """If a kept connection was closed, the request is sent again on a new one."""
    connections = HttpConnections()
    with serving(OK) as server:
        asked = OutgoingRequest(server.url)
        connections.send(asked, 10)
        kept = connections._take(server.url, asked)
        assert kept is not None
        kept.shutdown(socket.SHUT_RDWR)
        connections._keep(server.url, asked, kept)
        assert connections.send(asked, 10).status == 200
        assert server.connections == 2


def test_long_idle_connection_is_not_reused() -> None:
    """A long idle connection may have been dropped silently, so it is replaced."""
    now = [0.0]
    connections = HttpConnections(clock=lambda: now[0])
    with serving(OK) as server:
        for seconds, opened in ((0, 1), (59, 1), (61, 2)):
            now[0] += seconds
            connections.send(OutgoingRequest(server.url), 10)
            assert server.connections == opened


def test_public_requests_use_only_checked_connections() -> None:
    """A connection whose address was not checked is not reused for a request to public addresses only."""
    connections = HttpConnections()
    with serving(OK) as server:
        assert connections.send(OutgoingRequest(server.url), 5).status == 200
        with pytest.raises(HttpFaultError):
            connections.send(OutgoingRequest(server.url, public_only=True), 5)
        assert len(server.requests) == 1


def test_incomplete_or_late_response_is_an_error() -> None:
    """Silence, dripping bytes, cut or oversized bodies and other protocols end in an error in time."""

    def drip_headers(connection: socket.socket) -> None:
        connection.sendall(b"HTTP/1.1 200 OK\r\n")
        for _ in range(100):
            connection.sendall(b"X: x\r\n")
            time.sleep(0.1)

    def drip(connection: socket.socket) -> None:
        connection.sendall(b"HTTP/1.1 200 OK\r\nContent-Length: 100\r\n\r\n")
        for _ in range(100):
            connection.sendall(b"x")
            time.sleep(0.1)

    def cut(connection: socket.socket) -> None:
        connection.sendall(b"HTTP/1.1 200 OK\r\nContent-Length: 100\r\n\r\nhalf")

    def long(connection: socket.socket) -> None:
        connection.sendall(b"HTTP/1.1 200 OK\r\nContent-Length: 5000\r\n\r\n" + b"x" * 5000)

    silent, foreign = (lambda _: time.sleep(1)), (lambda each: each.sendall(b"SSH-2.0\r\n\r\n"))
    for talk in (silent, drip_headers, drip, cut, long, foreign):
        with speaking(talk) as url:
            started = time.monotonic()
            with pytest.raises(HttpFaultError):
                HttpConnections().send(OutgoingRequest(url, max_bytes=1000), 0.5)
            assert time.monotonic() - started < 5
    with pytest.raises(HttpFaultError):
        HttpConnections().send(OutgoingRequest("http://127.0.0.1:1"), 5)


def test_unexpected_bytes_are_not_the_next_response() -> None:
    """A connection with unread bytes is closed, since its responses would be out of step."""
    connections = HttpConnections()
    with serving(OK) as server:
        asked = OutgoingRequest(server.url)
        ours, theirs = socket.socketpair()
        connections._keep(server.url, asked, ours)
        theirs.sendall(b"HTTP/1.1 200 OK\r\nContent-Length: 5\r\n\r\nother")
        with theirs:
            assert connections.send(asked, 10).body == OK[1]
        assert (ours.fileno(), server.connections) == (-1, 1)


def dynamodb(url: str) -> ItemReader:
    """Return a client of the DynamoDB at this address."""
    return ItemReader(HttpConnections(), Settings.from_environment(environment(AWS_ENDPOINT_URL=url)))


def fault(code: str, status: int = 400) -> tuple[int, bytes, dict[str, str]]:
    """Return an error response of DynamoDB."""
    return status, json.dumps({"__type": f"com.amazonaws.dynamodb.v20120810#{code}"}).encode(), {}


ITEM = (200, b'{"Item":{"entity_id":{"S":"a"}}}', {})


def test_throttling_is_retried() -> None:
    """The item is returned after several throttled and failed reads."""
    throttled = fault("ProvisionedThroughputExceededException")
    troubles = (throttled, fault("ThrottlingException"), throttled, fault("InternalServerError", 500))
    with serving(*troubles, (503, b"busy", {}), ITEM) as server:
        assert dynamodb(server.url).get_item(
            "t", {"entity_id": "a"}, consistent=True, until=time.monotonic() + 5
        ) == {"entity_id": {"S": "a"}}
        assert len(server.requests) == 6


def test_endless_throttling_is_not_a_missing_item() -> None:
    """At the deadline a throttled read is an error, not a missing item."""
    with serving(fault("ProvisionedThroughputExceededException")) as server:
        started = time.monotonic()
        with pytest.raises(StoreUnavailableError, match="ProvisionedThroughputExceeded"):
            dynamodb(server.url).get_item(
                "t", {"entity_id": "a"}, consistent=False, until=time.monotonic() + 2
            )
        assert time.monotonic() - started < 10
        assert 3 <= len(server.requests) < 100


def test_response_without_length_ends_with_connection() -> None:
    """A response without a length is read to the end of the connection."""

    def in_pieces(connection: socket.socket) -> None:
        for piece in (b"HTTP/1.1 200 OK\r\n", b"\r\n{", b"}"):
            connection.sendall(piece)
            time.sleep(0.01)

    connections = HttpConnections()
    with speaking(in_pieces) as url:
        assert [connections.send(OutgoingRequest(url), 5).body for _ in range(2)] == [b"{}", b"{}"]


@pytest.mark.parametrize(
    "code", ["AccessDeniedException", "ResourceNotFoundException", "ExpiredTokenException"]
)
def test_refusals_are_not_retried(code: str) -> None:
    """Denied access, a missing table and an expired token fail at once."""
    with serving(fault(code)) as server:
        with pytest.raises(StoreRefusedError, match=code):
            dynamodb(server.url).get_item(
                "t", {"entity_id": "a"}, consistent=False, until=time.monotonic() + 2
            )
        assert len(server.requests) == 1


def test_throttled_store_gives_503_with_retry_after(session_issuer: TokenIssuer) -> None:
    """A client of a throttled store gets 503 with Retry-After, not 404."""
    with serving(fault("ThrottlingException")) as server:
        api = ApiUnderTest(session_issuer, {"AWS_ENDPOINT_URL": server.url})
        answer = api.prediction("m")
    assert (answer.status, answer.problem) == (503, "store-unavailable")
    assert answer.headers["Retry-After"] == "1"
    assert "ThrottlingException" in api.last_line["cause"]
