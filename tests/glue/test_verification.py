"""Stored rows are read back, and one altered or missing value is found."""

from __future__ import annotations

from dataclasses import replace
from decimal import Decimal
from typing import TYPE_CHECKING, Any

import pytest

from glue_scripts.dynamodb import online_load
from glue_scripts.dynamodb.online_load import OnlineTask, WrittenPart, verify_part, write_part
from glue_scripts.errors import BatchRefusedError, LoadFailedError
from glue_scripts.files.delivered_batch import DeliveredBatch
from glue_scripts.snowflake.warehouse_loader import WarehouseLoader, _is_same
from prediction_contract.manifests.manifest import parse_manifest
from prediction_contract.rows.checksums import RowTally
from prediction_contract.rows.prediction_line import prediction_line
from tests.glue.batch_builder import BATCH, CONTRACT, altered
from tests.glue.load_platform import EXPIRY

if TYPE_CHECKING:
    from collections.abc import Callable

    from prediction_contract.jobs.job_arguments import LoadArguments
    from prediction_contract.manifests.load_report import LoadReport
    from tests.glue.batch_builder import WrittenBatch
    from tests.glue.load_platform import LoadPlatform

    Load = Callable[[LoadArguments], LoadReport]

pytestmark = pytest.mark.stack

ROWS: list[dict[str, Any]] = [{"flight": f"F-{number:03}", "seats": number} for number in range(120)]


def task(
    platform: LoadPlatform, written: WrittenBatch, verify: str = "full", expiry: int = EXPIRY
) -> OnlineTask:
    """Return the verification task of a batch's only part."""
    (source,) = DeliveredBatch(written.manifest).sources
    return OnlineTask(source, platform.deployment.online_table(platform.model), expiry, None, verify)


def test_each_kind_of_altered_item_is_found(platform: LoadPlatform, load: Load) -> None:
    """Another value, type or checksum, a missing item and an early expiry are each found."""
    written = platform.builder.write(ROWS)
    load(platform.claim(written))
    table, dynamodb = platform.deployment.online_table(platform.model), platform.aws("dynamodb")
    assert verify_part(task(platform, written)) == len(ROWS)
    assert 0 <= verify_part(task(platform, written, "sample")) < len(ROWS)
    with pytest.raises(LoadFailedError, match="expires too early"):
        verify_part(task(platform, written, expiry=EXPIRY + 1))
    item = platform.online()["F-077"]
    for change, found in (
        ({"seats": {"N": "78"}}, "is not what was written"),
        ({"seats": {"S": "77"}}, "is damaged"),
        ({"row_checksum": {"N": "1"}}, "is not what was written"),
    ):
        dynamodb.put_item(TableName=table, Item=item | change)
        with pytest.raises(LoadFailedError, match=f"'F-077' of .* {found}"):
            verify_part(task(platform, written))
    key = {name: item[name] for name in ("entity_id", "batch_id")}
    dynamodb.delete_item(TableName=table, Key=key)
    with pytest.raises(LoadFailedError, match=r"'F-077' of .* is missing"):
        verify_part(task(platform, written))


def test_delta_row_with_other_values_refuses_the_batch(platform: LoadPlatform, load: Load) -> None:
    """A Delta row with another value and the right checksum is found by comparing its values."""
    written = platform.builder.write(ROWS)
    lines = list(written.lines[0])
    wrong = prediction_line(CONTRACT, ROWS[50] | {"seats": 51})
    lines[50] = wrong._replace(checksum=lines[50].checksum)
    version, files = platform.builder.commit(BATCH, lines)
    content = altered(written, delta=written.document["delta"] | {"version": version, "files": files})
    platform.builder.put_manifest(written.manifest.key, content)
    arguments = platform.claim(written, digest=parse_manifest(content).digest)
    with pytest.raises(BatchRefusedError, match="differ from JSON in the row 'F-050'"):
        load(arguments)
    assert platform.warehouse() == []
    assert platform.record().load_state == "refused"


@pytest.mark.parametrize(
    ("tampering", "found"),
    [
        ("INSERT INTO {staging} SELECT * FROM {staging} WHERE FLIGHT = 'F-007'", "121 rows of 120 keys"),
        ("DELETE FROM {staging} WHERE FLIGHT = 'F-007'", "119 rows of 119 keys"),
        (
            "UPDATE {staging} SET ROW_CHECKSUM = 1 WHERE FLIGHT = 'F-007'",
            "120 rows of 120 keys with checksum",
        ),
    ],
)
def test_rows_with_other_counts_or_checksum_are_not_committed(
    platform: LoadPlatform, load: Load, monkeypatch: pytest.MonkeyPatch, tampering: str, found: str
) -> None:
    """Rows, keys and checksums are counted within the transaction, so later changes are found."""
    written = platform.builder.write(ROWS)
    run = WarehouseLoader._run

    def tamper(loader: WarehouseLoader, step: str, *arguments: Any) -> Any:
        if step == "begin":
            run(loader, "tamper", tampering.format(staging=loader._load.staging))
        return run(loader, step, *arguments)

    monkeypatch.setattr(WarehouseLoader, "_run", tamper)
    monkeypatch.setattr(WarehouseLoader, "_verify_rows", lambda _loader, _rows: 0)
    with pytest.raises(BatchRefusedError, match=f"would leave {found}"):
        load(platform.claim(written))
    assert platform.warehouse() == []


@pytest.mark.parametrize(("rows", "checksum"), [(-1, 0), (0, 1)])
def test_acknowledged_rows_must_equal_accepted_rows(
    platform: LoadPlatform, load: Load, monkeypatch: pytest.MonkeyPatch, rows: int, checksum: int
) -> None:
    """Rows that vanish or change between the survey and the write fail the load."""
    written = platform.builder.write(ROWS)

    def write_others(one: OnlineTask) -> WrittenPart:
        whole = write_part(one)
        return replace(whole, acknowledged=whole.acknowledged.plus(RowTally(rows=rows, checksum=checksum)))

    monkeypatch.setattr(online_load, "write_part", write_others)
    fault = rf"acknowledged {120 + rows} rows with .*part-00000.* 120 rows with checksum \d+ were accepted"
    with pytest.raises(LoadFailedError, match=fault):
        load(platform.claim(written))
    assert platform.record().load_state == "done"
    assert platform.warehouse() == []


@pytest.mark.parametrize(
    ("found", "wanted", "same"),
    [
        (("a", 1), ("a", Decimal(1)), True),
        (("a", 2**53 + 1), ("a", 2**53 + 1), True),
        (("a", 1.0), ("a", 1), False),
        (("a", float(2**53)), ("a", 2**53), False),
        (("a", 1), ("a", 1.0), False),
        (("a", None), ("a", 0), False),
        (None, ("a", 0), False),
    ],
)
def test_float_does_not_equal_integer_or_decimal(found: Any, wanted: Any, *, same: bool) -> None:
    """An integer or decimal that came back as a binary float is not accepted as equal."""
    assert _is_same(found, wanted) is same
