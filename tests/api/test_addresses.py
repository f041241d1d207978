"""Where host names lead, and how long it may take to find out."""

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


def test_a_private_address_is_refused_by_where_it_leads() -> None:
    """A name that leads to this machine is no public provider; nothing is sent to it."""
    with serving(OK) as server:
        url = server.url.replace("127.0.0.1", "localhost")
        with pytest.raises(HttpFaultError):
            HttpConnections().send(OutgoingRequest(url, public_only=True), 5)
        assert server.connections == 0
        assert HttpConnections().send(OutgoingRequest(url), 5).status == 200
        assert len(server.requests) == 1


@pytest.mark.parametrize("address", ["127.0.0.1", "::ffff:127.0.0.1"])
def test_the_address_that_was_judged_is_the_one_that_is_called(address: str) -> None:
    """One look-up for one connection: a name that means another address a moment later gains nothing."""
    with serving(OK) as server:
        port = server.server_address[1]
        with names_leading_to(address) as asked:
            with pytest.raises(HttpFaultError):
                HttpConnections().send(OutgoingRequest(f"http://weather.example:{port}", public_only=True), 5)
            assert (asked, server.connections) == (["weather.example"], 0)
            assert HttpConnections().send(OutgoingRequest(f"http://weather.example:{port}"), 5).status == 200
            assert asked == ["weather.example"] * 2


@pytest.mark.parametrize("host", ["2130706433", "0x7f000001", "127.1", "017700000001", "localhost."])
def test_other_spellings_of_this_machine_are_judged_by_what_they_mean(host: str) -> None:
    """Numbers, octal, short forms: what the system makes of them is private."""
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
def test_which_addresses_are_public(address: str, *, public: bool) -> None:
    """Private, shared, link-local, multicast, reserved, and all of them inside an IPv6 address are not."""
    if public:
        require_public(address)
    else:
        with pytest.raises(ValueError, match="private"):
            require_public(address)


def test_a_name_server_that_is_silent_costs_the_deadline_and_no_more() -> None:
    """The system's look-up would wait for many seconds; the store is unavailable by its own deadline."""
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


def test_a_provider_whose_name_hangs_costs_its_timeout_until_the_breaker_opens() -> None:
    """Then nothing: the threads that wait for the name hold no place and no request."""
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


def test_a_name_without_an_address_is_a_fault() -> None:
    """As one that cannot be a name."""
    with names_leading_to(), pytest.raises(OSError, match="no address"):
        open_socket("nowhere.example", 80, time.monotonic() + 5, public_only=False)
    with pytest.raises(HttpFaultError):
        HttpConnections().send(OutgoingRequest(f"http://{'a' * 70}.example"), 5)
