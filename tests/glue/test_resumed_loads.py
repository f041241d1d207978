"""A repeated load reads back what an earlier attempt wrote, and writes only what is missing."""

from __future__ import annotations

import io
import time
from dataclasses import replace
from datetime import UTC, datetime
from typing import TYPE_CHECKING, Any

import pytest

from glue_scripts.dynamodb.acknowledgement import Acknowledgement
from glue_scripts.errors import LoadFailedError
from glue_scripts.snowflake.warehouse_loader import WarehouseLoader
from prediction_contract.rows.checksums import RowTally
from prediction_contract.text.canonical_json import canonical_bytes
from prediction_contract.text.utc_time import format_utc
from tests.glue.load_platform import EXPIRY
from tests.glue.store_checks import check_stores

if TYPE_CHECKING:
    from collections.abc import Callable

    from prediction_contract.jobs.job_arguments import LoadArguments
    from prediction_contract.manifests.load_report import LoadReport
    from tests.glue.batch_builder import WrittenBatch
    from tests.glue.load_platform import LoadPlatform

    Load = Callable[[LoadArguments], LoadReport]

PARTS: list[list[dict[str, Any]]] = [
    [{"flight": f"F-{part}-{number:03}", "seats": number} for number in range(40)] for part in range(3)
]


@pytest.fixture
def half_loaded(platform: LoadPlatform, load: Load, monkeypatch: pytest.MonkeyPatch) -> WrittenBatch:
    """Return a batch that is in DynamoDB, and whose load then failed."""

    def fail(_loader: WarehouseLoader, *_arguments: Any) -> Any:
        raise LoadFailedError("Snowflake is away", remedy="Wait")

    written = platform.builder.write(*PARTS)
    with monkeypatch.context() as away:
        away.setattr(WarehouseLoader, "move", fail)
        with pytest.raises(LoadFailedError, match="Snowflake is away"):
            load(platform.claim(written))
    return written


@pytest.mark.stack
def test_acknowledged_parts_are_not_written_again(
    platform: LoadPlatform, load: Load, half_loaded: WrittenBatch
) -> None:
    """A repeated load uses no write units for acknowledged parts, and keeps their earlier expiry."""
    report = load(platform.claim(half_loaded, items_expire_at=EXPIRY + 3600))
    assert report.dynamodb is not None
    details = report.dynamodb.details
    assert (details["found_rows"], details["write_units"]) == (120, 0)
    assert report.dynamodb.verified_rows == 120
    assert [part.acknowledged for part in report.parts] == [part.read for part in report.parts]
    assert report.items_expire_at == EXPIRY
    assert platform.record().unverified_expire_at == format_utc(datetime.fromtimestamp(EXPIRY, UTC))
    check_stores(platform, half_loaded)


@pytest.mark.stack
def test_only_parts_with_differences_are_written_again(
    platform: LoadPlatform, load: Load, half_loaded: WrittenBatch
) -> None:
    """Parts with an altered or missing item are written again although they were acknowledged."""
    table, dynamodb = platform.deployment.online_table(platform.model), platform.aws("dynamodb")
    items = platform.online()
    dynamodb.put_item(TableName=table, Item=items["F-0-007"] | {"seats": {"N": "8"}})
    key = {name: items["F-2-039"][name] for name in ("entity_id", "batch_id")}
    dynamodb.delete_item(TableName=table, Key=key)
    report = load(platform.claim(half_loaded))
    assert report.dynamodb is not None
    assert (report.dynamodb.details["found_rows"], report.dynamodb.details["write_units"]) == (40, 80)
    assert report.dynamodb.verified_rows == 120
    check_stores(platform, half_loaded)


@pytest.mark.stack
def test_load_with_later_expiry_writes_again(
    platform: LoadPlatform, load: Load, half_loaded: WrittenBatch
) -> None:
    """Items that would expire much earlier than requested are written again."""
    much_later = EXPIRY + (EXPIRY - int(time.time()))
    report = load(platform.claim(half_loaded, items_expire_at=much_later))
    assert report.dynamodb is not None
    assert report.dynamodb.details["write_units"] == 120
    assert report.items_expire_at == much_later
    assert {item["expires_at"]["N"] for item in platform.online().values()} == {str(much_later)}


class OneObject:
    """An S3 client for a bucket with one object."""

    def __init__(self) -> None:
        self.content = b""

    def get_object(self, **_names: str) -> dict[str, Any]:
        """Return the object."""
        return {"Body": io.BytesIO(self.content)}

    def put_object(self, *, Body: bytes, **_names: str) -> None:  # noqa: N803  # boto3's name
        """Store the object."""
        self.content = Body


MINE = Acknowledgement("bucket", "key", "ab" * 32, "part", "online", EXPIRY, attempt=2)


def test_acknowledgement_is_found_by_the_next_attempt() -> None:
    """An attempt finds the earliest expiry that earlier attempts acknowledged; a first attempt finds none."""
    s3, tally = OneObject(), RowTally(rows=3, checksum=5)
    replace(MINE, attempt=1, items_expire_at=EXPIRY - 60).record(s3, tally)
    assert MINE.earlier_expiry(s3) == EXPIRY - 60
    assert replace(MINE, attempt=1).earlier_expiry(s3) is None
    replace(MINE, attempt=3, items_expire_at=EXPIRY + 60).record(s3, tally)
    assert MINE.earlier_expiry(s3) == EXPIRY


@pytest.mark.parametrize(
    "change",
    [{"manifest_digest": "cd" * 32}, {"part": "other"}, {"table": "other"}, {"items_expire_at": "soon"}],
)
def test_unrelated_acknowledgement_is_ignored(change: dict[str, Any]) -> None:
    """An acknowledgement of another manifest, part or table, or a malformed one, is ignored."""
    s3 = OneObject()
    right = {"manifest_digest": "ab" * 32, "part": "part", "table": "online", "items_expire_at": EXPIRY}
    s3.content = canonical_bytes(right)
    assert MINE.earlier_expiry(s3) == EXPIRY
    for content in (canonical_bytes(right | change), b"{", b"[]", b"{}"):
        s3.content = content
        assert MINE.earlier_expiry(s3) is None
