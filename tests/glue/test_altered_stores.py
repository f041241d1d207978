"""One altered, missing or extra row in either store is found, and the batch does not count as loaded."""

from __future__ import annotations

from typing import TYPE_CHECKING, Any

import pytest

from glue_scripts.dynamodb.online_load import OnlineLoad
from glue_scripts.errors import BatchRefusedError, LoadFailedError
from glue_scripts.snowflake.warehouse_loader import WarehouseLoader
from tests.glue.store_checks import check_stores

if TYPE_CHECKING:
    from collections.abc import Callable

    from prediction_contract.jobs.job_arguments import LoadArguments
    from prediction_contract.manifests.load_report import LoadReport
    from tests.glue.load_platform import LoadPlatform

    Load = Callable[[LoadArguments], LoadReport]

pytestmark = pytest.mark.stack

PARTS: list[list[dict[str, Any]]] = [
    [{"flight": f"F-{part}-{number:03}", "seats": number} for number in range(60)] for part in range(2)
]


def alter_item(platform: LoadPlatform) -> None:
    """Change one value of one item."""
    item = platform.online()["F-1-047"] | {"seats": {"N": "48"}}
    platform.aws("dynamodb").put_item(TableName=platform.deployment.online_table(platform.model), Item=item)


def delete_item(platform: LoadPlatform) -> None:
    """Delete one item."""
    item = platform.online()["F-1-047"]
    platform.aws("dynamodb").delete_item(
        TableName=platform.deployment.online_table(platform.model),
        Key={name: item[name] for name in ("entity_id", "batch_id")},
    )


def add_item(platform: LoadPlatform) -> None:
    """Add an item that is not in the batch."""
    item = platform.online()["F-1-047"] | {"entity_id": {"S": "F-extra"}}
    platform.aws("dynamodb").put_item(TableName=platform.deployment.online_table(platform.model), Item=item)


@pytest.mark.parametrize(
    "case",
    [
        (alter_item, "full", "the row 'F-1-047' .* is not what was written"),
        (alter_item, "scan", "the row 'F-1-047' .* is not what was written"),
        (delete_item, "full", "the row 'F-1-047' .* is missing"),
        (add_item, "scan", "holds 121 items of the batch, which has 120 rows: F-extra"),
    ],
)
def test_one_wrong_item_fails_the_load(
    platform: LoadPlatform,
    load: Load,
    monkeypatch: pytest.MonkeyPatch,
    case: tuple[Callable[[LoadPlatform], None], str, str],
) -> None:
    """An altered, missing or extra item in DynamoDB is named, and the batch is not loaded."""
    tamper, verify, found = case
    written = platform.builder.write(*PARTS)
    verify_all = OnlineLoad.verify

    def verify_tampered(online: OnlineLoad) -> None:
        tamper(platform)
        verify_all(online)

    monkeypatch.setattr(OnlineLoad, "verify", verify_tampered)
    arguments = platform.claim(written, verify=verify)
    with pytest.raises(LoadFailedError, match=found):
        load(arguments)
    assert (platform.record().load_state, platform.record().claim_token) == ("done", None)
    assert platform.report(arguments).evidence() is None


def test_rerun_repairs_altered_and_missing_items(platform: LoadPlatform, load: Load) -> None:
    """A further load rewrites altered and missing items that DynamoDB had acknowledged before."""
    written = platform.builder.write(*PARTS)
    load(platform.claim(written))
    alter_item(platform)
    load(platform.claim(written))
    delete_item(platform)
    load(platform.claim(written))
    check_stores(platform, written)


def test_scan_counts_only_its_batch(platform: LoadPlatform, load: Load) -> None:
    """A scan reads items of other batches without counting them, and reports its read units."""
    load(platform.claim(platform.builder.write(PARTS[0], batch_id="20130201T070000Z-0123abcd")))
    written = platform.builder.write(*PARTS)
    report = load(platform.claim(written, verify="scan"))
    assert report.dynamodb is not None
    assert report.dynamodb.verified_rows == 120
    assert report.dynamodb.details["scan_read_units"] >= 1
    add_item(platform)
    assert load(platform.claim(written, verify="full")).status == "loaded"  # only a scan can know


@pytest.mark.parametrize(
    ("tampering", "found"),
    [
        ("UPDATE {table} SET SEATS = 48 WHERE FLIGHT = 'F-1-047'", "differ from JSON in the row 'F-1-047'"),
        ("DELETE FROM {table} WHERE FLIGHT = 'F-1-047'", "would leave 119 rows of 119 keys"),
        (
            "INSERT INTO {table} SELECT * REPLACE ('extra' AS FLIGHT) FROM {table} WHERE FLIGHT = 'F-1-047'",
            "would leave 121 rows of 121 keys",
        ),
    ],
    ids=["altered", "missing", "extra"],
)
def test_one_wrong_row_in_the_warehouse_is_rolled_back(
    platform: LoadPlatform,
    load: Load,
    monkeypatch: pytest.MonkeyPatch,
    tampering: str,
    found: str,
) -> None:
    """The rows in Snowflake are counted, summed and compared before the transaction is committed."""
    written = platform.builder.write(*PARTS)
    run = WarehouseLoader._run

    def tamper(loader: WarehouseLoader, step: str, *arguments: Any) -> Any:
        if step == "verify":
            run(loader, "tamper", tampering.format(table=loader._table.name))
        return run(loader, step, *arguments)

    monkeypatch.setattr(WarehouseLoader, "_run", tamper)
    with pytest.raises(BatchRefusedError, match=found):
        load(platform.claim(written))
    assert platform.warehouse() == []
