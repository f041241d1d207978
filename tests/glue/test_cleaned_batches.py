"""Tests of cleaned batches: equal rows in both stores, and all rows accounted for."""

from __future__ import annotations

import gzip
import json
import math
from datetime import UTC, datetime
from decimal import Decimal
from typing import TYPE_CHECKING, Any

import pytest

from glue_scripts.errors import BatchRefusedError, LoadFailedError
from prediction_contract.cleaning.cleaning_rules import Cleaning
from prediction_contract.cleaning.column_cleaning import ColumnCleaning
from prediction_contract.cleaning.row_cleaning import row_parser
from prediction_contract.errors import InvalidRowError
from prediction_contract.registry.load_rules import verify_load
from prediction_contract.rows.checksums import batch_checksum
from prediction_contract.rows.row_contract import Row
from prediction_contract.stores.online_item import OnlineItems
from prediction_contract.stores.warehouse_table import WarehouseTable
from tests.contract.prediction_rows import FULL_SCHEMA

if TYPE_CHECKING:
    from collections.abc import Callable

    from prediction_contract.jobs.job_arguments import LoadArguments
    from prediction_contract.manifests.load_report import LoadReport
    from tests.glue.batch_builder import WrittenBatch
    from tests.glue.load_platform import LoadPlatform

pytestmark = pytest.mark.stack

RULES = Cleaning(
    (
        ColumnCleaning(column="flight", trim=True, rename="number"),
        ColumnCleaning(column="carrier", trim=True, cast="long", rename="airline"),
        ColumnCleaning(column="seats", default="0", maximum="400"),
        ColumnCleaning(column="fare", cast="decimal(10,2)"),
        ColumnCleaning(column="probability", minimum="1e-9", maximum="0.9"),
        ColumnCleaning(column="reasons", drop=True),
    )
)
STORED = RULES.stored_schema(FULL_SCHEMA)
ROWS: list[dict[str, Any]] = [
    {"flight": " A-1\n", "carrier": " 7 ", "seats": 1000, "fare": Decimal("12.50"), "reasons": ["secret"]},
    {"flight": "A-2", "seats": 2, "departs": datetime(2013, 2, 1, tzinfo=UTC), "serial": 10**37},
    # Invalid as written, valid once cleaned: by clamping, dropping or trimming.
    {"flight": "B-1", "probability": 1e-131},
    {"flight": "B-2", "probability": -1e200},
    {"flight": "B-3", "reasons": [math.nan]},
    {"flight": "B-4 " + " " * 3000},
    {"flight": "A-3", "carrier": "many"},
    {"flight": "A-4", "fare": Decimal("0.001")},
    # Different keys as written, equal keys once trimmed.
    {"flight": "A-5"},
    {"flight": "A-5 "},
    {"flight": " \t"},
    # NaN is not clamped.
    {"flight": "B-5", "probability": math.nan},
]


def check_stores(platform: LoadPlatform, written: WrittenBatch, keys: list[str]) -> None:
    """Check that both stores hold exactly these keys' rows, cleaned, with the checksums as written."""
    accept = row_parser(FULL_SCHEMA, RULES)
    rows: dict[str, Row] = {}
    for line in [line for part in written.lines for line in part]:
        try:
            row = accept(line.content)
        except InvalidRowError:
            continue
        if row.key in keys:
            assert row.checksum == line.checksum
            rows[row.key] = row
    items, reader = platform.online(), OnlineItems(STORED)
    assert sorted(items) == sorted(rows) == keys
    for key, row in rows.items():
        stored = reader.read(items[key])
        assert (stored.row, stored.row_checksum, stored.is_intact) == (row, row.checksum, True)
        assert not items[key].keys() & {"flight", "carrier", "reasons"}
    table = WarehouseTable(platform.model, STORED)
    wanted = [table.stored_values(rows[key], written.batch_id) for key in keys]
    assert platform.warehouse(schema=STORED) == wanted


def test_both_stores_hold_the_same_cleaned_rows(
    platform: LoadPlatform, load: Callable[[LoadArguments], LoadReport]
) -> None:
    """Rows that cannot be cleaned are quarantined once for both stores, and counts and checksums add up."""
    written = platform.builder.write(ROWS[:4], ROWS[4:])
    arguments = platform.claim(written, cleaning=RULES.to_argument(), quarantine_rows=6)
    report = load(arguments)
    check_stores(platform, written, ["A-1", "A-2", "B-1", "B-2", "B-3", "B-4"])
    assert report.quarantine.reasons == {
        "duplicate_key": 2,
        "empty_key": 1,
        "not_a_number": 1,
        "out_of_range": 1,
        "wrong_type": 1,
    }
    assert report.dynamodb is not None
    assert report.snowflake is not None
    assert (report.dynamodb.verified_rows, report.snowflake.verified_rows) == (6, 6)
    for store in (report.dynamodb, report.snowflake):
        total = batch_checksum([store.rows.checksum, report.quarantine.rows.checksum])
        assert (total, store.rows.rows + report.quarantine.rows.rows) == (written.manifest.checksum, 12)
    evidence, record, now = report.evidence(), platform.record(), datetime.now(UTC)
    assert evidence is not None
    platform.registry.carry_out(lambda: verify_load(record, evidence, now=now, retention=now - now))
    assert platform.record().cleaning == RULES.to_text()
    content = b"".join(
        gzip.decompress(platform.aws("s3").get_object(Bucket=arguments.bucket, Key=key)["Body"].read())
        for key in report.quarantine.keys
    )
    refused = [json.loads(line) for line in content.splitlines()]
    assert refused[0]["what"] == "carrier cannot be cast to long: it is not a number such as -12.5"
    assert json.loads(refused[0]["content"])["carrier"] == "many"


def test_reload_uses_the_rules_of_the_first_load(
    platform: LoadPlatform, load: Callable[[LoadArguments], LoadReport]
) -> None:
    """A batch keeps its content when it is loaded again after the model's cleaning rules changed."""
    written = platform.builder.write(ROWS[:2])
    load(platform.claim(written, cleaning=RULES.to_argument()))
    before = platform.online(), platform.warehouse(schema=STORED)
    other = Cleaning((ColumnCleaning(column="seats", minimum="5000"),))
    for argument in (other.to_argument(), None):
        report = load(platform.claim(written, cleaning=argument))
        assert report.status == "loaded"
        assert (platform.online(), platform.warehouse(schema=STORED)) == before
    assert platform.record().cleaning == RULES.to_text()


def test_rules_that_refused_a_batch_can_be_corrected(
    platform: LoadPlatform, load: Callable[[LoadArguments], LoadReport]
) -> None:
    """Rules are only kept once writing has begun, so a batch refused by its rules loads with better ones."""
    written = platform.builder.write([{"flight": f"A-{number}", "carrier": "AA"} for number in range(20)])
    with pytest.raises(BatchRefusedError, match="None of 20 rows was accepted: 20 wrong_type"):
        load(platform.claim(written, cleaning=RULES.to_argument()))
    assert platform.online() == {}
    assert platform.record().cleaning is None
    better = Cleaning((ColumnCleaning(column="carrier", rename="airline"),))
    report = load(platform.claim(written, cleaning=better.to_argument()))
    assert report.status == "loaded"
    assert {item["airline"]["S"] for item in platform.online().values()} == {"AA"}
    assert len(platform.warehouse(schema=better.stored_schema(FULL_SCHEMA))) == 20


def test_unfit_cleaning_rules_fail_the_load(
    platform: LoadPlatform, load: Callable[[LoadArguments], LoadReport]
) -> None:
    """Rules for an unknown column fail the load and free the claim, without refusing the batch."""
    written = platform.builder.write(ROWS[:1])
    rules = Cleaning((ColumnCleaning(column="colour", drop=True),))
    with pytest.raises(LoadFailedError, match=r"colour is not a column. Correct the cleaning"):
        load(platform.claim(written, cleaning=rules.to_argument()))
    record = platform.record()
    assert (record.load_state, record.claim_token, record.cleaning) == ("done", None, None)


def test_altered_cleaned_item_is_found(
    platform: LoadPlatform, load: Callable[[LoadArguments], LoadReport], monkeypatch: pytest.MonkeyPatch
) -> None:
    """A cleaned item with another value or row checksum fails the load."""
    from glue_scripts.snowflake import warehouse_loader  # noqa: PLC0415

    written = platform.builder.write(ROWS[:2])
    move = warehouse_loader.WarehouseLoader.move
    for attribute, value in (("seats", {"N": "399"}), ("row_checksum", {"N": "1"})):

        def alter(self: Any, *args: Any, attribute: str = attribute, value: Any = value) -> Any:
            items = platform.online()
            platform.aws("dynamodb").put_item(
                TableName=platform.deployment.online_table(platform.model),
                Item=items["A-1"] | {attribute: value},
            )
            return move(self, *args)

        monkeypatch.setattr(warehouse_loader.WarehouseLoader, "move", alter)
        with pytest.raises(LoadFailedError, match=r"'A-1' of .* is not what was written"):
            load(platform.claim(written, cleaning=RULES.to_argument()))
