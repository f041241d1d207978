"""Third parties: asked in parallel within a budget, remembered, and never in the way."""

from __future__ import annotations

import time
from typing import TYPE_CHECKING, Any

import pytest

from api_lambda.enrichment import Enricher
from api_lambda.http_connections import HttpConnections
from prediction_contract.row import row_contract
from prediction_contract.serving import Enrichment
from tests.api.published_batches import FLIGHT, SCHEMA
from tests.fakes.http_answers import serving

if TYPE_CHECKING:
    from collections.abc import Callable

ROW = row_contract(SCHEMA).accept(FLIGHT.encode())
OK = (200, b'{"a":1.50,"b":[12345678901234567890123],"c":"x"}', {})


def enricher(*origins: str, budget: float = 5.0, clock: Callable[[], float] = time.monotonic) -> Enricher:
    """Return an enricher that may call these origins."""
    return Enricher(HttpConnections(), frozenset(origins), budget_seconds=budget, clock=clock)


def provider(url: str, name: str = "one", **changes: Any) -> Enrichment:
    """Return an enrichment by the provider at the address."""
    members: dict[str, Any] = {"fields": ("a", "b", "z"), "timeout_milliseconds": 5000, "cache_seconds": 60}
    return Enrichment(name, f"{url}/x/{{origin}}?at={{hour}}&key={{entity_id}}", **{**members, **changes})


def test_providers_numbers_survive() -> None:
    """A provider's numbers are shown with all their digits; a field that it does not have is null."""
    with serving(OK) as server:
        outcome = enricher(server.url).enrich([provider(server.url)], ROW)["one"]
    assert outcome.to_json() == (
        '{"status":"ok","age_seconds":0,"data":{"a":1.5,"b":[12345678901234567890123],"z":null}}'
    )
    assert server.requests == ["/x/JFK?at=2013-02-01T10%3A00%3A00.000000Z&key=AA-1141-JFK"]


def test_providers_are_called_in_parallel() -> None:
    """Four providers that take half a second each take together less than two of them."""
    with serving(OK, seconds=0.5) as server:
        started = time.monotonic()
        outcomes = enricher(server.url).enrich(
            [provider(server.url, f"p{number}", cache_seconds=0) for number in range(4)], ROW
        )
        assert time.monotonic() - started < 1.5
    assert [outcome.status for outcome in outcomes.values()] == ["ok"] * 4


def test_the_budget_bounds_what_a_silent_provider_costs() -> None:
    """The answer does not wait longer than the budget, whatever timeout the provider was given."""
    with serving(OK, seconds=3) as server, serving(OK) as quick:
        started = time.monotonic()
        asked = [provider(server.url, "slow"), provider(quick.url, "quick")]
        outcomes = enricher(server.url, quick.url, budget=0.5).enrich(asked, ROW)
        assert time.monotonic() - started < 2
    assert {name: outcome.status for name, outcome in outcomes.items()} == {
        "slow": "unavailable",
        "quick": "ok",
    }


def test_an_answer_is_fresh_for_its_cache_time_and_then_asked_for_again() -> None:
    """Within the cache time nobody is called; later the provider is, and its failure shows the old answer."""
    now = [1000.0]
    with serving(OK, (500, b"", {})) as server:
        under_test = enricher(server.url, clock=lambda: now[0])
        asked = [provider(server.url)]
        states = []
        for seconds in (0, 59, 2, 86_400):
            now[0] += seconds
            outcome = under_test.enrich(asked, ROW)["one"]
            states.append((outcome.status, outcome.age_seconds, len(server.requests)))
    assert states == [("ok", 0, 1), ("ok", 59, 1), ("stale", 61, 2), ("unavailable", None, 3)]


@pytest.mark.parametrize(
    "answer",
    [
        (302, b"", {"Location": "http://127.0.0.1:1/"}),
        (200, b"[1]", {}),
        (200, b'{"a":NaN}', {}),
        (200, b'{"a":"\\ud800"}', {}),
        (200, b"x" * 70_000, {}),
        (204, b"", {}),
        (200, b'{"a":' + b"[" * 900 + b"]" * 900 + b"}", {}),
    ],
    ids=["redirect", "list", "NaN", "surrogate", "long", "empty", "deep"],
)
def test_an_answer_that_is_no_object_is_none(answer: tuple[int, bytes, dict[str, str]]) -> None:
    """Redirects are not followed; what is no JSON object within the limits does not count, and is said."""
    with serving(answer) as server:
        outcome = enricher(server.url).enrich([provider(server.url)], ROW)["one"]
        assert (outcome.status, len(server.requests)) == ("unavailable", 1)
        assert outcome.reason != "the time budget was spent"


def test_only_allowed_origins_are_called() -> None:
    """Scheme, host and port must be on the deployment's list; a name on it may not lead to this machine."""
    with serving(OK) as server:
        named = server.url.replace("127.0.0.1", "localhost")
        for allowed, url in (("https://127.0.0.1", server.url), (server.url, named), (named, named)):
            outcome = enricher(allowed).enrich([provider(url)], ROW)["one"]
            assert outcome.status == "unavailable"
        assert server.requests == []


def test_hanging_calls_do_not_pile_up() -> None:
    """A provider that swallows requests holds a bounded number of threads."""
    with serving(OK, seconds=2) as server:
        under_test = enricher(server.url, budget=0.01)
        for _ in range(40):
            under_test.enrich([provider(server.url, cache_seconds=0)], ROW)
        time.sleep(0.2)
        assert len(server.requests) <= 16
