"""Arbitrary rows keep their values from JSON to the API's response, and from Delta to Snowflake."""

from __future__ import annotations

import math
import uuid
from collections import Counter
from datetime import UTC, date, datetime, timedelta
from decimal import Decimal
from itertools import count
from typing import TYPE_CHECKING, Any

import pytest
from hypothesis import HealthCheck, Phase, assume, given, settings
from hypothesis import strategies as st

from prediction_contract.naming.batch import mint_batch_id
from prediction_contract.registry import publication_rules
from prediction_contract.registry.load_rules import verify_load
from prediction_contract.registry.records import ChangeRequest
from prediction_contract.stores.serving_record import ServingRecord
from prediction_contract.text.canonical_json import parse_json
from tests.api.api_calls import ApiUnderTest
from tests.contract.prediction_rows import FULL_SCHEMA, ROWS
from tests.fakes.token_issuer import TokenIssuer, serving_keys
from tests.glue.batch_builder import PARTITION

if TYPE_CHECKING:
    from collections.abc import Callable, Iterator

    from prediction_contract.jobs.job_arguments import LoadArguments
    from prediction_contract.manifests.load_report import LoadReport
    from tests.glue.batch_builder import WrittenBatch
    from tests.glue.load_platform import LoadPlatform

pytestmark = pytest.mark.stack

LIFE = timedelta(days=1)
MINTED = datetime(2013, 2, 1, 6, tzinfo=UTC)
SECONDS = count()


def nested(levels: int) -> Any:
    """Return a value inside nested lists."""
    value: Any = 1
    for _ in range(levels):
        value = [value]
    return value


# Values that no store can hold, with the reason for which their row is quarantined.
UNSTORABLE: list[tuple[str, Any, str]] = [
    ("flight", None, "missing_key"),
    ("flight", "", "empty_key"),
    ("flight", "\N{AIRPLANE}" * 1000, "key_too_long"),
    ("carrier", "a\0b", "nul_character"),
    ("carrier", 7, "wrong_type"),
    ("seats", 2**63, "out_of_range"),
    ("seats", 1.5, "wrong_type"),
    ("fare", Decimal("0.00000000001"), "out_of_range"),
    ("fare", Decimal(10**28), "out_of_range"),
    ("serial", 10**38, "out_of_range"),
    ("probability", math.nan, "not_a_number"),
    ("probability", -math.inf, "not_a_number"),
    ("probability", Decimal("1E-131"), "number_too_long"),
    ("late", "true", "wrong_type"),
    ("day", "2013-02-30", "wrong_type"),
    ("departs", "2013-02-01T06:00:00", "wrong_type"),
    ("reasons", nested(32), "too_deep"),
    ("reasons", {"": 1}, "empty_name"),
    ("reasons", [10**38 + 1], "number_too_long"),
    ("reasons", "x" * 410_000, "value_too_large"),
    ("gate", 1, "unknown_column"),
]


@st.composite
def unstorable_rows(draw: st.DrawFn) -> tuple[dict[str, Any], str]:
    """Return a row with one value that no store holds, and the expected reason."""
    column, value, reason = draw(st.sampled_from(UNSTORABLE))
    return {**draw(ROWS), column: value}, reason


def equals(kind: str, found: Any, written: Any) -> bool:
    """Return whether a found value equals the written one, given the column's type."""
    if written is None or found is None:
        return written is found
    if kind.startswith("decimal") or kind in {"long", "json"}:
        return same_nested(found, written)
    if kind == "double":
        return not isinstance(found, bool) and float(found) == float(written)
    if kind == "timestamp":
        moment = datetime.fromisoformat(found) if isinstance(found, str) else found
        return moment.replace(tzinfo=UTC) == datetime.fromisoformat(written)
    return type(found) in {type(written), date} and str(found) == str(written)


def same_nested(found: Any, written: Any) -> bool:
    """Return whether two nested values are equal, with booleans distinct from numbers."""
    if isinstance(written, dict):
        return (
            isinstance(found, dict)
            and found.keys() == written.keys()
            and all(same_nested(found[name], value) for name, value in written.items())
        )
    if isinstance(written, list):
        return (
            isinstance(found, list) and len(found) == len(written) and all(map(same_nested, found, written))
        )
    if isinstance(written, bool) or written is None or isinstance(written, str):
        return type(found) is type(written) and found == written
    return not isinstance(found, bool | float) and Decimal(found) == Decimal(written)


@pytest.fixture
def api(platform: LoadPlatform) -> Iterator[ApiUnderTest]:
    """Return the API's application over the stack's DynamoDB, without a pointer cache."""
    issuer = TokenIssuer()
    with serving_keys(issuer) as url:
        issuer.url = url
        variables = {
            "AWS_ENDPOINT_URL": platform.environment["AWS_ENDPOINT_URL"],
            "MLPIPE_POINTER_CACHE_SECONDS": "0",
        }
        yield ApiUnderTest(issuer, variables)


def publish(platform: LoadPlatform, written: WrittenBatch, report: LoadReport) -> None:
    """Verify a loaded batch and make it live."""
    registry, evidence, now = platform.registry, report.evidence(), datetime.now(UTC)
    assert evidence is not None
    batch_id = written.batch_id
    registry.carry_out(lambda: verify_load(platform.record(batch_id), evidence, now=now, retention=LIFE))
    manifest = written.manifest
    serving = ServingRecord(manifest.schema, "1", manifest.row_count, manifest.checksum, ())
    registry.carry_out(
        lambda: publication_rules.publish(
            platform.record(batch_id),
            registry.live_pointers(platform.model, home_region=platform.deployment.home),
            ChangeRequest(request_id=uuid.uuid4().hex, actor="test"),
            now=now,
            minimum_life=LIFE,
            retention=LIFE,
            serving=serving.to_json(),
        )
    )


def answers(api: ApiUnderTest, model: str, keys: list[str]) -> dict[str, Any]:
    """Return the API's predictions for entities, without those not found."""
    found: dict[str, Any] = {}
    for first in range(0, len(keys), 100):
        answer = api.batch_get(model, {"entity_ids": keys[first : first + 100]})
        assert answer.status == 200, answer.event
        found |= {
            one["entity_id"]: one["prediction"] for one in answer.document["predictions"] if one["found"]
        }
    return found


def warehouse_rows(platform: LoadPlatform, batch_id: str) -> dict[str, dict[str, Any]]:
    """Return Snowflake's rows of a batch by key and column, with JSON parsed."""
    rows = {}
    for values in platform.warehouse(batch_id):
        row = dict(zip(FULL_SCHEMA.names, values, strict=False))
        row["reasons"] = None if row["reasons"] is None else parse_json(row["reasons"].encode())
        rows[row["flight"]] = row
    return rows


@st.composite
def batches(draw: st.DrawFn) -> tuple[list[dict[str, Any]], list[tuple[dict[str, Any], str]]]:
    """Return rows, some with the same key, and rows that no store holds."""
    rows = draw(st.lists(ROWS, min_size=1, max_size=25))
    rows += [{"flight": rows[0]["flight"]}] * draw(st.integers(0, 2))
    # A batch without an accepted row would be refused.
    assume(1 in Counter(row["flight"] for row in rows).values())
    return rows, draw(st.lists(unstorable_rows(), max_size=10))


# Each example is a whole load: shrinking takes minutes, and failures name the value anyway.
WHOLE_LOADS = settings(
    deadline=None,
    phases=[Phase.explicit, Phase.reuse, Phase.generate],
    suppress_health_check=[
        HealthCheck.function_scoped_fixture,
        HealthCheck.too_slow,
        HealthCheck.data_too_large,
        HealthCheck.large_base_example,
    ],
)
Content = tuple[list[dict[str, Any]], list[tuple[dict[str, Any], str]]]


@settings(WHOLE_LOADS, max_examples=6)
@given(content=batches())
def test_values_are_equal_in_all_stores_or_quarantined(
    platform: LoadPlatform,
    load: Callable[[LoadArguments], LoadReport],
    api: ApiUnderTest,
    content: Content,
) -> None:
    """Both stores and the API have the same rows with the written values; all others are in quarantine."""
    check_everywhere(platform, load, api, content)


@pytest.mark.drill
@settings(WHOLE_LOADS, max_examples=50)
@given(content=batches())
def test_many_values_are_equal_in_all_stores_or_quarantined(
    platform: LoadPlatform,
    load: Callable[[LoadArguments], LoadReport],
    api: ApiUnderTest,
    content: Content,
) -> None:
    """The same holds for hundreds of rows."""
    check_everywhere(platform, load, api, content)


def check_everywhere(
    platform: LoadPlatform,
    load: Callable[[LoadArguments], LoadReport],
    api: ApiUnderTest,
    content: Content,
) -> None:
    """Load and publish a batch, and compare both stores and the API with what was written."""
    rows, bad = content
    batch_id = mint_batch_id(
        platform.model, PARTITION, uuid.uuid4().hex, MINTED + timedelta(0, next(SECONDS))
    )
    written = platform.builder.write(rows, [row for row, _ in bad], batch_id=batch_id)
    report = load(platform.claim(written, quarantine_rows=1000))
    publish(platform, written, report)

    times = Counter(row["flight"] for row in rows)
    expected = {row["flight"]: row for row in rows if times[row["flight"]] == 1}
    reasons = Counter(reason for _, reason in bad)
    reasons["duplicate_key"] = sum(many for many in times.values() if many > 1)
    assert report.quarantine.reasons == {name: many for name, many in sorted(reasons.items()) if many}
    assert report.quarantine.rows.rows + len(expected) == written.manifest.row_count

    asked = {row["flight"] for row, _ in bad if row["flight"] and len(row["flight"]) < 100} | set(times)
    served = answers(api, platform.model, sorted(asked))
    stored = warehouse_rows(platform, batch_id)
    assert served.keys() == stored.keys() == platform.online(batch_id).keys() == expected.keys()
    for key, row in expected.items():
        for column in FULL_SCHEMA.columns:
            wanted = row.get(column.name)
            for where in (served[key], stored[key]):
                assert equals(str(column.type), where[column.name], wanted), (column, where, row)
