"""Tests of enrichments: parallel calls within a budget, caching, retries and the circuit breaker."""

from __future__ import annotations

import threading
import time
from typing import TYPE_CHECKING, Any

import pytest

from api_lambda.enrichment.enricher import Enricher
from api_lambda.enrichment.providers import FAILURES_TO_OPEN, OPEN_SECONDS, Provider
from api_lambda.http.http_connections import HttpConnections
from prediction_contract.rows.row_contract import row_contract
from prediction_contract.stores.serving_record import Enrichment
from tests.api.published_batches import FLIGHT, SCHEMA
from tests.fakes.http_answers import serving

if TYPE_CHECKING:
    from collections.abc import Callable

ROW = row_contract(SCHEMA).accept(FLIGHT.encode())
OK = (200, b'{"a":1.50,"b":[12345678901234567890123],"c":"x"}', {})


def enricher(*origins: str, budget: float = 5.0, clock: Callable[[], float] = time.monotonic) -> Enricher:
    """Return an enricher that may call these origins."""
    connections = HttpConnections()
    providers = {origin: Provider(connections, origin, clock=clock) for origin in origins}
    return Enricher(providers, budget_seconds=budget, clock=clock)


def provider(url: str, name: str = "one", **changes: Any) -> Enrichment:
    """Return an enrichment from the provider at this address."""
    members: dict[str, Any] = {"fields": ("a", "b", "z"), "timeout_milliseconds": 5000, "cache_seconds": 60}
    return Enrichment(name, f"{url}/x/{{origin}}?at={{hour}}&key={{entity_id}}", **{**members, **changes})


def test_provider_numbers_keep_all_digits() -> None:
    """A provider's numbers keep all their digits; a field that it lacks is null."""
    with serving(OK) as server:
        outcome = enricher(server.url).enrich([provider(server.url)], ROW)["one"]
    assert outcome.to_json() == (
        '{"status":"ok","age_seconds":0,"data":{"a":1.5,"b":[12345678901234567890123],"z":null}}'
    )
    assert server.requests == ["/x/JFK?at=2013-02-01T10%3A00%3A00.000000Z&key=AA-1141-JFK"]


def test_providers_are_called_in_parallel() -> None:
    """Four providers that take half a second each take less than 1.5 seconds together."""
    with serving(OK, seconds=0.5) as server:
        started = time.monotonic()
        outcomes = enricher(server.url).enrich(
            [provider(server.url, f"p{number}", cache_seconds=0) for number in range(4)], ROW
        )
        assert time.monotonic() - started < 1.5
    assert [outcome.status for outcome in outcomes.values()] == ["ok"] * 4


def test_slow_provider_does_not_exceed_the_budget() -> None:
    """The response waits no longer than the budget, whatever timeout the provider has."""
    with serving(OK, seconds=3) as server, serving(OK) as quick:
        started = time.monotonic()
        asked = [provider(server.url, "slow"), provider(quick.url, "quick")]
        outcomes = enricher(server.url, quick.url, budget=0.5).enrich(asked, ROW)
        assert time.monotonic() - started < 2
    assert {name: outcome.status for name, outcome in outcomes.items()} == {
        "slow": "unavailable",
        "quick": "ok",
    }


def test_response_is_cached_then_stale_then_unavailable() -> None:
    """Within the cache time no call is made; if a later call fails, the old response is shown for a while."""
    now = [1000.0]
    with serving(OK, (500, b"", {})) as server:
        under_test = enricher(server.url, clock=lambda: now[0])
        asked = [provider(server.url)]
        states = []
        for seconds in (0, 59, 2, 86_400):
            now[0] += seconds
            outcome = under_test.enrich(asked, ROW)["one"]
            states.append((outcome.status, outcome.age_seconds, len(server.requests)))
    # A failed call is retried once.
    assert states == [("ok", 0, 1), ("ok", 59, 1), ("stale", 61, 3), ("unavailable", None, 5)]


@pytest.mark.parametrize(
    "answer",
    [
        (302, b"", {"Location": "http://127.0.0.1:1/"}),
        (200, b"[1]", {}),
        (200, b'{"a":NaN}', {}),
        (200, b'{"a":1e9999999}', {}),
        (200, b'{"b":[{"c":-1e-9999999}]}', {}),
        (200, b'{"a":"\\ud800"}', {}),
        (204, b"", {}),
        (200, b'{"a":' + b"[" * 900 + b"]" * 900 + b"}", {}),
    ],
    ids=["redirect", "list", "NaN", "huge number", "tiny number", "surrogate", "empty", "deep"],
)
def test_invalid_provider_response_is_unavailable(answer: tuple[int, bytes, dict[str, str]]) -> None:
    """Redirects are not followed, and a response that is not a valid JSON object is reported."""
    with serving(answer) as server:
        outcome = enricher(server.url).enrich([provider(server.url)], ROW)["one"]
        assert (outcome.status, len(server.requests)) == ("unavailable", 1)
        assert outcome.reason != "the time budget was spent"


def test_oversized_provider_response_is_unavailable() -> None:
    """A provider's response beyond the size limit is not used."""
    with serving((200, b'{"a":"' + b"x" * 70_000 + b'"}', {})) as server:
        assert enricher(server.url).enrich([provider(server.url)], ROW)["one"].status == "unavailable"


def test_transient_provider_error_is_retried_once() -> None:
    """A busy or failing provider is called once more; one that refuses is not."""
    failing, busy, refusing = (500, b"", {}), (429, b"", {}), (404, b"", {})
    cases = (((failing, OK), "ok", 2), ((busy, OK), "ok", 2), ((refusing, OK), "unavailable", 1))
    for answers, status, requests in (*cases, ((failing,), "unavailable", 2)):
        with serving(*answers) as server:
            outcome = enricher(server.url).enrich([provider(server.url)], ROW)["one"]
            assert (outcome.status, len(server.requests)) == (status, requests)


def test_retry_is_made_only_within_the_budget() -> None:
    """A slow failure that used up the budget is not retried."""
    with serving((500, b"", {}), seconds=0.5) as server:
        under_test = enricher(server.url, budget=0.4)
        under_test.enrich([provider(server.url)], ROW)
        time.sleep(1.0)
        assert len(server.requests) == 1


def test_breaker_opens_after_repeated_failures() -> None:
    """After repeated failures calls stop; a probe now and then finds out when the provider is back."""
    now = [1000.0]
    with serving((500, b"", {})) as server:
        under_test = enricher(server.url, clock=lambda: now[0])
        asked = [provider(server.url, cache_seconds=0)]
        for _ in range(FAILURES_TO_OPEN):
            under_test.enrich(asked, ROW)
        assert len(server.requests) == 2 * FAILURES_TO_OPEN
        for _ in range(10):
            assert under_test.enrich(asked, ROW)["one"].reason == "it failed several times in a row"
        assert len(server.requests) == 2 * FAILURES_TO_OPEN
        now[0] += OPEN_SECONDS
        for _ in range(10):
            under_test.enrich(asked, ROW)
        assert len(server.requests) == 2 * FAILURES_TO_OPEN + 2
        server.answers[:] = [OK]
        now[0] += OPEN_SECONDS
        assert [under_test.enrich(asked, ROW)["one"].status for _ in range(3)] == ["ok"] * 3
        assert len(server.requests) == 2 * FAILURES_TO_OPEN + 5


def test_half_open_breaker_allows_one_call() -> None:
    """Of four concurrent calls, a half-open breaker lets one through and fails the others at once."""
    now = [1000.0]
    with serving((500, b"", {}), seconds=0.3) as server:
        under_test = enricher(server.url, clock=lambda: now[0])
        asked = [provider(server.url, f"p{number}", cache_seconds=0) for number in range(4)]
        for _ in range(2):
            under_test.enrich(asked, ROW)
        now[0] += OPEN_SECONDS
        before = len(server.requests)
        reasons = [outcome.reason for outcome in under_test.enrich(asked, ROW).values()]
        assert sorted(reasons, key=str) == ["it failed several times in a row"] * 3 + ["status 500"]
        # The failed call was retried like any other, and the breaker is open again from now on.
        assert len(server.requests) == before + 2
        now[0] += OPEN_SECONDS - 1
        assert under_test.enrich(asked[:1], ROW)["p0"].reason == "it failed several times in a row"


def test_each_provider_has_its_own_breaker() -> None:
    """A failing provider does not stop the calls to a working one."""
    with serving((500, b"", {})) as dead, serving(OK) as alive:
        under_test = enricher(dead.url, alive.url)
        asked = [provider(dead.url, "dead", cache_seconds=0), provider(alive.url, "alive", cache_seconds=0)]
        for _ in range(FAILURES_TO_OPEN + 1):
            under_test.enrich(asked, ROW)
        outcomes = under_test.enrich(asked, ROW)
        assert outcomes["dead"].reason == "it failed several times in a row"
        assert outcomes["alive"].status == "ok"
        assert len(alive.requests) == FAILURES_TO_OPEN + 2


def test_value_too_long_for_an_address_is_not_sent() -> None:
    """A row whose value would make the address too long is not applicable, and no call is made."""
    row = row_contract(SCHEMA).accept(b'{"flight":"a","origin":"%s"}' % (b"x" * 9_000))
    with serving(OK) as server:
        asked = Enrichment("one", f"{server.url}/{{origin}}", ("a",))
        assert enricher(server.url).enrich([asked], row)["one"].status == "not_applicable"
        assert server.requests == []


def test_not_found_does_not_open_the_breaker() -> None:
    """A provider that does not know one row is still called for others."""
    with serving((404, b"", {})) as server:
        under_test = enricher(server.url)
        for _ in range(3 * FAILURES_TO_OPEN):
            under_test.enrich([provider(server.url)], ROW)
        assert len(server.requests) == 3 * FAILURES_TO_OPEN


def test_only_allowed_origins_are_called() -> None:
    """Scheme, host and port must be on the deployment's list, and a listed name may not be private."""
    with serving(OK) as server:
        named = server.url.replace("127.0.0.1", "localhost")
        for allowed, url in (("https://127.0.0.1", server.url), (server.url, named), (named, named)):
            outcome = enricher(allowed).enrich([provider(url)], ROW)["one"]
            assert outcome.status == "unavailable"
        assert server.requests == []


def test_missing_threads_make_enrichment_unavailable(monkeypatch: pytest.MonkeyPatch) -> None:
    """A process that cannot start threads responds without enrichment, and recovers."""
    with serving(OK) as server:
        under_test = enricher(server.url)
        with monkeypatch.context() as patched:

            def start(_: threading.Thread) -> None:
                raise RuntimeError("can't start new thread")

            patched.setattr(threading.Thread, "start", start)
            for _ in range(20):
                outcome = under_test.enrich([provider(server.url)], ROW)["one"]
                assert (outcome.status, outcome.reason) == ("unavailable", "the process has no thread left")
        assert under_test.enrich([provider(server.url)], ROW)["one"].status == "ok"


def test_hanging_calls_do_not_pile_up() -> None:
    """A provider that never responds holds a bounded number of threads and does not block others."""
    with serving(OK, seconds=2) as server, serving(OK) as quick:
        under_test = enricher(server.url, quick.url, budget=0.01)
        for _ in range(40):
            under_test.enrich([provider(server.url, cache_seconds=0)], ROW)
        patient = Enricher(under_test._providers, budget_seconds=5)
        assert patient.enrich([provider(quick.url)], ROW)["one"].status == "ok"
        assert len(server.requests) <= 8
