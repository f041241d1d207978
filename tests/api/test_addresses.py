"""Tests of host name resolution for outgoing calls: private addresses and slow name servers."""

from __future__ import annotations

import time

import pytest

from api_lambda.enrichment.providers import FAILURES_TO_OPEN
from api_lambda.http.addresses import open_socket, require_public
from api_lambda.http.http_connections import HttpConnections, HttpFaultError, OutgoingRequest
from api_lambda.store.item_reader import StoreUnavailableError
from tests.api.test_enrichment import ROW, enricher, provider
from tests.api.test_outgoing import dynamodb
from tests.fakes.http_answers import serving
from tests.fakes.names import hanging_names, names_leading_to

OK = (200, b"{}", {})


def test_name_of_private_address_is_refused() -> None:
    """A provider name that resolves to this machine is refused, and nothing is sent to it."""
    with serving(OK) as server:
        url = server.url.replace("127.0.0.1", "localhost")
        with pytest.raises(HttpFaultError):
            HttpConnections().send(OutgoingRequest(url, public_only=True), 5)
        assert server.connections == 0
        assert HttpConnections().send(OutgoingRequest(url), 5).status == 200
        assert len(server.requests) == 1


@pytest.mark.parametrize("address", ["127.0.0.1", "::ffff:127.0.0.1"])
def test_checked_address_is_the_one_called(address: str) -> None:
    """Each connection resolves the name once, so a changed DNS answer cannot bypass the check."""
    with serving(OK) as server:
        port = server.server_address[1]
        with names_leading_to(address) as asked:
            with pytest.raises(HttpFaultError):
                HttpConnections().send(OutgoingRequest(f"http://weather.example:{port}", public_only=True), 5)
            assert (asked, server.connections) == (["weather.example"], 0)
            assert HttpConnections().send(OutgoingRequest(f"http://weather.example:{port}"), 5).status == 200
            assert asked == ["weather.example"] * 2


@pytest.mark.parametrize("host", ["2130706433", "0x7f000001", "127.1", "017700000001", "localhost."])
def test_alternative_spellings_of_loopback_are_refused(host: str) -> None:
    """Loopback addresses in decimal, hexadecimal, octal or short form are refused."""
    with serving(OK) as server:
        asked = OutgoingRequest(f"http://{host}:{server.server_address[1]}", public_only=True)
        with pytest.raises(HttpFaultError):
            HttpConnections().send(asked, 5)
        assert server.connections == 0


@pytest.mark.parametrize(
    ("address", "public"),
    [
        ("8.8.8.8", True),
        ("2001:4860:4860::8888", True),
        ("::ffff:8.8.8.8", True),
        ("64:ff9b::808:808", True),
        ("10.0.0.1", False),
        ("169.254.169.254", False),
        ("100.64.0.1", False),
        ("0.0.0.0", False),
        ("224.0.0.1", False),
        ("240.0.0.1", False),
        ("255.255.255.255", False),
        ("::", False),
        ("::1", False),
        ("::7f00:1", False),
        ("fd00:ec2::254", False),
        ("fe80::1%eth0", False),
        ("fec0::1", False),
        ("ff02::1", False),
        ("2001:db8::1", False),
        ("::ffff:169.254.169.254", False),
        ("64:ff9b::a9fe:a9fe", False),
        ("64:ff9b:1::a9fe:a9fe", False),
        ("2002:7f00:1::", False),
    ],
)
def test_only_public_addresses_are_accepted(address: str, *, public: bool) -> None:
    """Private, shared, link-local, multicast and reserved addresses are refused, also inside IPv6."""
    if public:
        require_public(address)
    else:
        with pytest.raises(ValueError, match="private"):
            require_public(address)


def test_silent_name_server_does_not_exceed_the_deadline() -> None:
    """A name lookup that hangs ends at the request's or the store's deadline."""
    with hanging_names() as asked:
        started = time.monotonic()
        with pytest.raises(HttpFaultError, match="TimeoutError"):
            HttpConnections().send(OutgoingRequest("http://hanging.example"), 0.2)
        with pytest.raises(StoreUnavailableError):
            dynamodb("http://hanging.example").get_item(
                "t", {"entity_id": "a"}, consistent=True, until=time.monotonic() + 0.3
            )
        assert time.monotonic() - started < 5
        assert len(asked) >= 2


def test_hanging_provider_name_opens_the_breaker() -> None:
    """A provider whose name lookup hangs costs its timeout a few times; then the breaker stops the calls."""
    with hanging_names() as asked:
        under_test = enricher("http://hanging.example", budget=5)
        declared = [provider("http://hanging.example", timeout_milliseconds=100)]
        started = time.monotonic()
        for _ in range(FAILURES_TO_OPEN):
            assert under_test.enrich(declared, ROW)["one"].status == "unavailable"
        assert time.monotonic() - started < 5
        looked_up = len(asked)
        assert {under_test.enrich(declared, ROW)["one"].reason for _ in range(20)} == {
            "it failed several times in a row"
        }
        assert len(asked) == looked_up


def test_name_without_address_is_an_error() -> None:
    """A name without an address and an invalid name are errors."""
    with names_leading_to(), pytest.raises(OSError, match="no address"):
        open_socket("nowhere.example", 80, time.monotonic() + 5, public_only=False)
    with pytest.raises(HttpFaultError):
        HttpConnections().send(OutgoingRequest(f"http://{'a' * 70}.example"), 5)
