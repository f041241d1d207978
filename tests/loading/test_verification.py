"""What was stored is read back: one altered or missing value is found; and a lost claim stops a load."""

from __future__ import annotations

from typing import TYPE_CHECKING, Any

import pytest
from botocore.exceptions import ClientError

from glue_scripts.batch_load import BatchLoad
from glue_scripts.errors import BatchRefusedError, ClaimNotHeldError, LoadFailedError
from glue_scripts.online_table import OnlineTask, verify_part
from glue_scripts.part_lines import sources
from glue_scripts.warehouse_loader import WarehouseLoader
from prediction_contract.manifest import parse_manifest
from prediction_contract.prediction_line import prediction_line
from tests.loading.batch_builder import BATCH, CONTRACT, altered
from tests.loading.load_platform import EXPIRY
from tests.loading.store_checks import check_stores

if TYPE_CHECKING:
    from collections.abc import Callable

    from prediction_contract.job_arguments import LoadArguments
    from prediction_contract.load_report import LoadReport
    from tests.loading.batch_builder import WrittenBatch
    from tests.loading.load_platform import LoadPlatform

    Load = Callable[[LoadArguments], LoadReport]

pytestmark = pytest.mark.stack

ROWS: list[dict[str, Any]] = [{"flight": f"F-{number:03}", "seats": number} for number in range(120)]


def task(
    platform: LoadPlatform, written: WrittenBatch, verify: str = "full", expiry: int = EXPIRY
) -> OnlineTask:
    """Return the comparison of a batch's only part."""
    (source,) = sources(written.manifest)
    return OnlineTask(source, platform.deployment.online_table(platform.model), expiry, None, verify)


def test_every_single_altered_item_is_found(platform: LoadPlatform, load: Load) -> None:
    """Another value, another type, another checksum, a missing item, an early expiry: each is told."""
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


def test_a_delta_row_of_other_values_refuses_the_batch(platform: LoadPlatform, load: Load) -> None:
    """A Delta row with the right checksum beside another value passes every sum, and not the reading."""
    written = platform.builder.write(ROWS)
    lines = list(written.lines[0])
    wrong = prediction_line(CONTRACT, ROWS[50] | {"seats": 51})
    lines[50] = wrong._replace(checksum=lines[50].checksum)
    version, files = platform.builder.commit(BATCH, lines)
    content = altered(written, delta=written.document["delta"] | {"version": version, "files": files})
    platform.builder.put_manifest(written.manifest.key, content)
    arguments = platform.claim(written, digest=parse_manifest(content).digest)
    with pytest.raises(BatchRefusedError, match="hold other values than JSON for the row 'F-050'"):
        load(arguments)
    assert platform.warehouse() == []
    assert platform.record().load_state == "refused"


def test_a_load_that_lost_its_claim_before_writing_writes_nothing(
    platform: LoadPlatform, load: Load, monkeypatch: pytest.MonkeyPatch
) -> None:
    """A job run that was taken for dead wakes up, finds another's claim, and leaves no trace in a store."""
    written = platform.builder.write(ROWS)
    stale = platform.claim(written)
    fresh: list[LoadArguments] = []
    stage = WarehouseLoader.stage

    def replace_claim(loader: WarehouseLoader) -> None:
        stage(loader)
        if not fresh:
            fresh.append(platform.claim(written, ended="jr_1"))

    monkeypatch.setattr(WarehouseLoader, "stage", replace_claim)
    with pytest.raises(ClaimNotHeldError):
        load(stale)
    assert platform.stores() == ({}, [])
    assert platform.record().claim_token == fresh[0].claim_token
    with pytest.raises(ClientError):
        platform.report(stale)
    load(fresh[0])
    check_stores(platform, written)


def test_a_load_that_lost_its_claim_at_the_end_does_no_harm(
    platform: LoadPlatform, load: Load, monkeypatch: pytest.MonkeyPatch
) -> None:
    """A zombie that has written all its rows cannot declare them loaded, and its successor's are the same."""
    written = platform.builder.write(ROWS)
    stale = platform.claim(written)
    fresh: list[LoadArguments] = []
    put = BatchLoad._put

    def replace_claim(one: BatchLoad, report: LoadReport) -> None:
        put(one, report)
        if not fresh:
            fresh.append(platform.claim(written, ended="jr_1"))

    monkeypatch.setattr(BatchLoad, "_put", replace_claim)
    with pytest.raises(ClaimNotHeldError):
        load(stale)
    record = platform.record()
    assert (record.load_state, record.claim_token) == ("loading", fresh[0].claim_token)
    load(fresh[0])
    assert platform.record().unverified_attempt == 2
    check_stores(platform, written)
