"""Invalid rows are quarantined in both stores alike; too many of them refuse the batch."""

from __future__ import annotations

import gzip
import json
from decimal import Decimal
from typing import TYPE_CHECKING, Any

import pytest

from glue_scripts.errors import BatchRefusedError

if TYPE_CHECKING:
    from collections.abc import Callable

    from prediction_contract.jobs.job_arguments import LoadArguments
    from prediction_contract.manifests.load_report import LoadReport
    from tests.glue.load_platform import LoadPlatform

    Load = Callable[[LoadArguments], LoadReport]

pytestmark = pytest.mark.stack


def flights(count: int) -> list[dict[str, Any]]:
    """Return valid rows."""
    return [{"flight": f"F-{number:05}", "seats": number} for number in range(count)]


def quarantined(platform: LoadPlatform, report: LoadReport) -> list[dict[str, Any]]:
    """Return the quarantined lines of a load."""
    bucket, s3 = platform.deployment.data_bucket, platform.aws("s3")
    contents = [s3.get_object(Bucket=bucket, Key=key)["Body"].read() for key in report.quarantine.keys]
    return [json.loads(line) for content in contents for line in gzip.decompress(content).splitlines()]


def test_invalid_rows_are_quarantined_and_others_loaded(platform: LoadPlatform, load: Load) -> None:
    """Each kind of invalid row is quarantined with its reason and is in neither store."""
    bad: list[dict[str, Any] | bytes] = [
        b'{"flight":"cut","sea',
        {"flight": "nan", "probability": float("nan")},
        {"seats": 1},
        {"flight": "large", "carrier": "x" * 500_000},
        {"flight": "long", "serial": int("1234567890" * 5)},
        {"flight": "twice", "seats": 1},
        {"flight": ""},
        b'{"flight": "reserved", "batch_id": "another"}',
        {"flight": "heavy", "carrier": "x" * 250_000, "reasons": ["y" * 200_000]},
    ]
    written = platform.builder.write([*bad, *flights(20)], [{"flight": "twice", "seats": 2}])
    report = load(platform.claim(written, quarantine_rows=10))
    found = {(line["part"], line["line"]): line["reason"] for line in quarantined(platform, report)}
    first, second = (part.key for part in written.manifest.json_parts)
    assert found == {
        (first, 1): "unparsable",
        (first, 2): "not_a_number",
        (first, 3): "missing_key",
        (first, 4): "value_too_large",
        (first, 5): "number_too_long",
        (first, 6): "duplicate_key",
        (first, 7): "empty_key",
        (first, 8): "unknown_column",
        (first, 9): "value_too_large",
        (second, 1): "duplicate_key",
    }
    assert report.quarantine.rows.rows == 10
    assert report.quarantine.reasons["duplicate_key"] == 2
    assert report.expected is not None
    assert report.dynamodb is not None
    assert report.dynamodb.rows.plus(report.quarantine.rows).rows == report.expected.rows == 30
    keys = {row["flight"] for row in flights(20)}
    assert platform.online().keys() == keys
    assert {row[0] for row in platform.warehouse()} == keys


@pytest.mark.parametrize(("refused", "is_loaded"), [(10, True), (11, False)])
def test_tolerance_in_rows_is_exact(
    platform: LoadPlatform, load: Load, refused: int, *, is_loaded: bool
) -> None:
    """Ten refused rows are tolerated; the eleventh refuses the batch, and all of them can be read."""
    written = platform.builder.write(flights(30), [b"{" for _ in range(refused)])
    arguments = platform.claim(written, quarantine_rows=10)
    if is_loaded:
        assert load(arguments).quarantine.rows.rows == refused
        assert len(platform.online()) == len(platform.warehouse()) == 30
        return
    with pytest.raises(BatchRefusedError, match="11 of 41 rows were refused, and 10 may be: 11 unparsable"):
        load(arguments)
    report = platform.report(arguments)
    assert len(quarantined(platform, report)) == refused
    assert platform.record().load_state == "refused"
    assert platform.stores() == ({}, [])


@pytest.mark.parametrize(("rows", "is_loaded"), [(99, False), (100, True)])
def test_default_tolerance_starts_at_100_rows(
    platform: LoadPlatform, load: Load, rows: int, *, is_loaded: bool
) -> None:
    """By default one refused row refuses a batch of 99 rows, but not one of 100."""
    arguments = platform.claim(platform.builder.write([*flights(rows - 1), b"{"]))
    if is_loaded:
        assert load(arguments).quarantine.rows.rows == 1
        return
    with pytest.raises(BatchRefusedError, match="1 of 99 rows were refused, and 0 may be: 1 unparsable"):
        load(arguments)


@pytest.mark.parametrize(
    ("rows", "reason"),
    [
        ([], "The batch has no rows"),
        (
            [{"flight": flight, "probability": float("nan")} for flight in ("EWR", "JFK", "LGA")],
            "None of 3 rows was accepted: 3 not_a_number",
        ),
    ],
)
def test_batch_without_accepted_rows_is_refused(
    platform: LoadPlatform, load: Load, rows: list[dict[str, Any]], reason: str
) -> None:
    """A batch without any accepted row is refused whatever the tolerance, and nothing is written."""
    arguments = platform.claim(platform.builder.write(rows), quarantine_rows=1000, quarantine_rate=Decimal(1))
    with pytest.raises(BatchRefusedError, match=reason):
        load(arguments)
    record = platform.record()
    assert (record.load_state, record.refusal_reason) == ("refused", reason)
    assert record.writing_begun_at is None
    assert platform.stores() == ({}, [])


def test_duplicate_keys_count_as_refused_rows(platform: LoadPlatform, load: Load) -> None:
    """Each row of a duplicate key is refused before the first row is written."""
    written = platform.builder.write(flights(6), flights(6))
    with pytest.raises(BatchRefusedError, match="12 duplicate_key"):
        load(platform.claim(written))
    assert platform.stores() == ({}, [])
    assert platform.record().writing_begun_at is None


def test_duplicate_keys_are_counted_up_to_a_limit(platform: LoadPlatform, load: Load) -> None:
    """Beyond what refuses the batch duplicate keys are not counted, and the message says at least."""
    written = platform.builder.write(flights(60), flights(60))
    with pytest.raises(
        BatchRefusedError, match=r"at least 40 of 120 rows were refused, .*: 40 duplicate_key"
    ):
        load(platform.claim(written))
    assert platform.stores() == ({}, [])


def test_tolerance_may_be_a_rate(platform: LoadPlatform, load: Load) -> None:
    """The larger of the tolerated number and the tolerated rate applies."""
    written = platform.builder.write([*flights(50), *(b"{" for _ in range(12))])
    assert load(platform.claim(written, quarantine_rate=Decimal("0.25"))).quarantine.rows.rows == 12
    assert len(platform.online()) == 50
