"""What the API asks of others: connections, DynamoDB's troubles."""

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
    """Ten requests go over one connection."""
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
def test_a_request_is_one_request(asked: OutgoingRequest) -> None:
    """What would end a line, or has no bytes in a header, is not sent."""
    with serving(OK) as server:
        with pytest.raises(HttpFaultError):
            HttpConnections().send(replace(asked, url=asked.url.replace("http://HOST", server.url)), 5)
        assert server.requests == []


def test_few_connections_are_kept() -> None:
    """A burst opens as many as it needs; four of them stay."""
    connections = HttpConnections()
    with serving(OK) as server:
        asked = OutgoingRequest(server.url)
        opened = [connections._connect(server.url, asked, time.monotonic() + 10) for _ in range(9)]
        for connection in opened:
            connections._keep(server.url, asked, connection)
        assert sum(connection.fileno() != -1 for connection in opened) == 4
        for connection in opened:
            connection.close()


def test_a_cache_forgets_what_was_unused_for_longest() -> None:
    """The newest and those asked for lately stay."""
    cache: BoundedCache[str, int] = BoundedCache(2)
    cache.put("a", 1)
    cache.put("b", 2)
    assert cache.get("a") == 1
    cache.put("c", 3)
    assert [cache.get(key) for key in "abc"] == [1, None, 3]


def test_a_cache_has_a_bound_of_weight() -> None:
    """Large values leave room for few, a replaced one counts once, and one too large for all is not kept."""
    cache: BoundedCache[str, str] = BoundedCache(10, lambda key, value: len(key) + len(value))
    for _ in range(3):
        cache.put("a", "1234")
    cache.put("b", "1234")
    assert [cache.get(key) for key in "ab"] == ["1234", "1234"]
    cache.put("c", "1")
    assert [cache.get(key) for key in "abc"] == [None, "1234", "1"]
    cache.put("d", "x" * 10)
    assert [cache.get(key) for key in "abcd"] == [None] * 4


def test_a_connection_that_was_closed_meanwhile_is_replaced() -> None:
    """The peer may close what we keep: the request is sent again, on a new connection."""
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


def test_a_connection_that_was_idle_for_long_is_not_trusted() -> None:
    """What lies between may have dropped it without a word, and a request over it would hang."""
    now = [0.0]
    connections = HttpConnections(clock=lambda: now[0])
    with serving(OK) as server:
        for seconds, opened in ((0, 1), (59, 1), (61, 2)):
            now[0] += seconds
            connections.send(OutgoingRequest(server.url), 10)
            assert server.connections == opened


def test_a_connection_judged_by_its_address_is_not_mixed_with_others() -> None:
    """What was opened to an address nobody judged is not lent to a request that asks for a public one."""
    connections = HttpConnections()
    with serving(OK) as server:
        assert connections.send(OutgoingRequest(server.url), 5).status == 200
        with pytest.raises(HttpFaultError):
            connections.send(OutgoingRequest(server.url, public_only=True), 5)
        assert len(server.requests) == 1


def test_an_answer_that_is_not_whole_in_time_is_a_fault() -> None:
    """Silence, a byte at a time in headers or body, a body cut off or too long, no HTTP, nobody there."""

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


def test_what_came_unasked_is_not_taken_for_the_next_answer() -> None:
    """A peer that said something after its answer has lost its connection: answers would be one off."""
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
    """Return a client of a DynamoDB at the address."""
    return ItemReader(HttpConnections(), Settings.from_environment(environment(AWS_ENDPOINT_URL=url)))


def fault(code: str, status: int = 400) -> tuple[int, bytes, dict[str, str]]:
    """Return an error as DynamoDB answers it."""
    return status, json.dumps({"__type": f"com.amazonaws.dynamodb.v20120810#{code}"}).encode(), {}


ITEM = (200, b'{"Item":{"entity_id":{"S":"a"}}}', {})


def test_throttling_is_retried() -> None:
    """Three refusals for load and two failures later the item is there."""
    throttled = fault("ProvisionedThroughputExceededException")
    troubles = (throttled, fault("ThrottlingException"), throttled, fault("InternalServerError", 500))
    with serving(*troubles, (503, b"busy", {}), ITEM) as server:
        assert dynamodb(server.url).get_item(
            "t", {"entity_id": "a"}, consistent=True, until=time.monotonic() + 5
        ) == {"entity_id": {"S": "a"}}
        assert len(server.requests) == 6


def test_throttling_without_end_is_said_and_never_missing() -> None:
    """At the deadline the store is unavailable: that the item is not there, nobody said."""
    with serving(fault("ProvisionedThroughputExceededException")) as server:
        started = time.monotonic()
        with pytest.raises(StoreUnavailableError, match="ProvisionedThroughputExceeded"):
            dynamodb(server.url).get_item(
                "t", {"entity_id": "a"}, consistent=False, until=time.monotonic() + 2
            )
        assert time.monotonic() - started < 10
        assert 3 <= len(server.requests) < 100


def test_an_answer_may_end_with_its_connection() -> None:
    """Without a length the body is all that comes, in any pieces; the next request connects again."""

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
    """No permission and no table stay so."""
    with serving(fault(code)) as server:
        with pytest.raises(StoreRefusedError, match=code):
            dynamodb(server.url).get_item(
                "t", {"entity_id": "a"}, consistent=False, until=time.monotonic() + 2
            )
        assert len(server.requests) == 1


def test_a_throttled_store_is_503_with_retry_after(session_issuer: TokenIssuer) -> None:
    """A client is told to come again, not that there is nothing."""
    with serving(fault("ThrottlingException")) as server:
        api = ApiUnderTest(session_issuer, {"AWS_ENDPOINT_URL": server.url})
        answer = api.prediction("m")
    assert (answer.status, answer.problem) == (503, "store-unavailable")
    assert answer.headers["Retry-After"] == "1"
    assert "ThrottlingException" in api.last_line["cause"]
