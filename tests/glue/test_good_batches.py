"""Valid batches in both stores: loaded by Glue, loaded again, next to others, with all values kept."""

from __future__ import annotations

import gzip
import json
from datetime import UTC, date, datetime
from decimal import Decimal
from typing import TYPE_CHECKING, Any

import pytest
from dagster_pipes import encode_param

from glue_scripts.errors import ClaimNotHeldError
from prediction_contract.registry.load_rules import verify_load
from tests.glue.batch_builder import BATCH
from tests.glue.store_checks import check_stores

if TYPE_CHECKING:
    from collections.abc import Callable

    from prediction_contract.jobs.job_arguments import LoadArguments
    from prediction_contract.manifests.load_report import LoadReport
    from tests.glue.load_platform import LoadPlatform

pytestmark = pytest.mark.stack

OTHER_BATCH = "20130201T070000Z-0123abcd"
# Values that a store or a conversion might alter.
RICH: dict[str, Any] = {
    "flight": "AA-1141-JFK ✈",
    "carrier": "a'b\"c\\d%s\n",
    "seats": 2**63 - 1,
    "fare": Decimal("1234567890123456789012345678.0123456789"),
    "serial": 10**38 - 1,
    "probability": 0.1,
    "late": True,
    "day": date(2013, 2, 1),
    "departs": datetime(2013, 2, 1, 6, 0, 0, 123456, tzinfo=UTC),
    "reasons": {"n": Decimal("1.5"), "list": [None, "é"]},
}
ROWS: list[dict[str, Any]] = [RICH, {"flight": "only-a-key"}]


def flights(count: int, start: int = 0) -> list[dict[str, Any]]:
    """Return plain rows with distinct keys."""
    return [{"flight": f"F-{number:05}", "seats": number} for number in range(start, start + count)]


def pipes_arguments(platform: LoadPlatform) -> dict[str, str]:
    """Put a Pipes context on S3, as a Dagster run does, and return the arguments for it."""
    bucket, prefix = platform.deployment.data_bucket, f"reports/{platform.model}/pipes"
    context = {
        "asset_keys": None,
        "code_version_by_asset_key": None,
        "provenance_by_asset_key": None,
        "partition_key": None,
        "partition_key_range": None,
        "partition_time_window": None,
        "run_id": "run",
        "job_name": None,
        "retry_number": 0,
        "extras": {},
    }
    platform.aws("s3").put_object(Bucket=bucket, Key=f"{prefix}/context.json", Body=json.dumps(context))
    return {
        "--dagster-pipes-context": encode_param({"bucket": bucket, "key": f"{prefix}/context.json"}),
        "--dagster-pipes-messages": encode_param({"bucket": bucket, "key_prefix": f"{prefix}/messages"}),
    }


def pipes_messages(platform: LoadPlatform) -> list[dict[str, Any]]:
    """Return the payloads that the job sent to Dagster."""
    s3, bucket = platform.aws("s3"), platform.deployment.data_bucket
    listed = s3.list_objects_v2(Bucket=bucket, Prefix=f"reports/{platform.model}/pipes/messages/")
    contents = [s3.get_object(Bucket=bucket, Key=one["Key"])["Body"].read() for one in listed["Contents"]]
    messages = [json.loads(line) for content in contents for line in content.splitlines()]
    return [one["params"]["payload"] for one in messages if one["method"] == "report_custom_message"]


def test_glue_loads_a_batch_into_both_stores(platform: LoadPlatform) -> None:
    """The real script in a Glue job run loads both stores, and report, registry and messages agree."""
    written = platform.builder.write([*ROWS, *flights(60)], [b'{"flight": "cut', *flights(40, 60)])
    arguments = platform.claim(written)
    piped = pipes_arguments(platform)
    run = platform.run_by_glue(arguments, **piped)
    assert run["JobRunState"] == "SUCCEEDED", run
    report, record = platform.report(arguments), platform.record()
    assert (report.status, report.job_run_id, report.reason) == ("loaded", run["Id"], None)
    assert (record.load_state, record.claim_token, record.unverified_attempt) == ("loaded", None, 1)
    assert report.dynamodb is not None
    assert report.snowflake is not None
    assert report.dynamodb.rows.rows == report.snowflake.rows.rows == 102
    assert report.dynamodb.verified_rows == report.snowflake.verified_rows == 102
    assert report.dynamodb.details["write_units"] >= 102
    assert report.snowflake.details["query_ids"].keys() >= {"copy", "move", "verify", "commit"}
    assert report.quarantine.reasons == {"unparsable": 1}
    assert [(part.read.rows, part.quarantined.rows, part.acknowledged.rows) for part in report.parts] == [
        (62, 0, 62),
        (41, 1, 40),
    ]
    check_stores(platform, written)
    (ended,) = [payload for payload in pipes_messages(platform) if payload["kind"] == "load_ended"]
    assert (ended["status"], ended["report_key"]) == ("loaded", arguments.report_key)
    assert (ended["dynamodb"], ended["snowflake"], ended["quarantined"]) == (102, 102, 1)
    evidence = report.evidence()
    assert evidence is not None
    now = datetime.now(UTC)
    verify_load(record, evidence, now=now, retention=now - now).check({record.key: _attributes(record)})


def _attributes(record: Any) -> dict[str, Any]:
    members = {name: getattr(record, name) for name in record.__dataclass_fields__}
    return {name: value for name, value in members.items() if value is not None}


def test_quarantine_file_has_line_and_reason(
    platform: LoadPlatform, load: Callable[[LoadArguments], LoadReport]
) -> None:
    """The file on S3 has part, line number, reason and the line itself, cut if it is long."""
    written = platform.builder.write(flights(3), [*flights(2, 3), b"\xff{", b"{" + b"x" * 100_000])
    report = load(platform.claim(written, quarantine_rows=2))
    (key,) = report.quarantine.keys
    content = platform.aws("s3").get_object(Bucket=platform.deployment.data_bucket, Key=key)["Body"].read()
    first, second = map(json.loads, gzip.decompress(content).splitlines())
    assert first["part"] == written.manifest.json_parts[1].key
    assert (first["line"], first["reason"], first["content"]) == (3, "unparsable", "\\xff{")
    assert (second["line"], second["is_cut"], len(second["content"])) == (4, True, 65_536)
    check_stores(platform, written)


def test_second_load_leaves_the_same_stores(
    platform: LoadPlatform, load: Callable[[LoadArguments], LoadReport]
) -> None:
    """A loaded batch that is loaded again has the same rows in both stores."""
    written = platform.builder.write([*ROWS, *flights(30)])
    load(platform.claim(written))
    before = platform.stores()
    report = load(platform.claim(written))
    assert report.attempt == 2
    assert platform.stores() == before
    assert platform.record().unverified_attempt == 2


def test_batches_of_a_model_are_independent(
    platform: LoadPlatform, load: Callable[[LoadArguments], LoadReport]
) -> None:
    """A second batch with the same keys does not change the first."""
    first = platform.builder.write(flights(20))
    load(platform.claim(first))
    second = platform.builder.write(flights(25), batch_id=OTHER_BATCH)
    load(platform.claim(second, verify="sample", max_write_units_per_second=1000))
    check_stores(platform, first)
    check_stores(platform, second)


def test_parts_are_loaded_by_several_processes(
    platform: LoadPlatform, load: Callable[[LoadArguments], LoadReport]
) -> None:
    """A batch of several parts is loaded completely, within one write cap for all processes."""
    written = platform.builder.write(*(flights(40, 40 * number) for number in range(5)))
    report = load(platform.claim(written, max_write_units_per_second=60))
    assert [part.acknowledged.rows for part in report.parts] == [40] * 5
    assert report.dynamodb is not None
    # The processes share the job's cap.
    assert report.dynamodb.details["write_units_per_second"] <= 66
    check_stores(platform, written)


def test_stale_claim_changes_nothing(
    platform: LoadPlatform, load: Callable[[LoadArguments], LoadReport]
) -> None:
    """A job run with a used or replaced claim fails and changes neither registry nor stores."""
    written = platform.builder.write(flights(5))
    stale = platform.claim(written)
    load(stale)
    fresh = platform.claim(written)
    before = platform.record(), platform.stores()
    run = platform.run_by_glue(stale)
    assert run["JobRunState"] == "FAILED"
    assert "ClaimNotHeldError" in run["ErrorMessage"]
    assert BATCH in run["ErrorMessage"]
    assert (platform.record(), platform.stores()) == before
    load(fresh)
    with pytest.raises(ClaimNotHeldError):
        load(fresh)
