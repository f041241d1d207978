"""A batch that the registry lost, or whose items are gone, is loaded again from S3."""

from __future__ import annotations

from typing import TYPE_CHECKING, Any

import pytest

from prediction_contract.manifests.load_report import LOADED
from tests.glue.store_checks import check_stores

if TYPE_CHECKING:
    from collections.abc import Callable

    from prediction_contract.jobs.job_arguments import LoadArguments
    from prediction_contract.manifests.load_report import LoadReport
    from tests.glue.load_platform import LoadPlatform

    Load = Callable[[LoadArguments], LoadReport]

pytestmark = pytest.mark.stack

PARTS: list[list[dict[str, Any]]] = [
    [{"flight": f"F-{part}-{number:03}", "seats": number} for number in range(40)] for part in range(3)
]


def forget(platform: LoadPlatform, batch_id: str) -> None:
    """Delete the batch's record from the registry, as a restore to an earlier time does."""
    key = {"model": {"S": platform.model}, "record": {"S": f"batch#{batch_id}"}}
    platform.aws("dynamodb").delete_item(TableName=platform.deployment.registry_table, Key=key)


def test_batch_lost_by_the_registry_is_loaded_as_new(platform: LoadPlatform, load: Load) -> None:
    """Its attempts start at 1 again, and reports of earlier loads do not interfere."""
    written = platform.builder.write(*PARTS)
    for _ in range(2):
        load(platform.claim(written))
    assert platform.record().load_attempts == 2
    forget(platform, written.batch_id)
    arguments = platform.claim(written)
    report = load(arguments)
    assert (arguments.load_attempt, report.status) == (1, LOADED)
    assert platform.report(arguments).ended_at == report.ended_at
    check_stores(platform, written)


def test_emptied_table_is_filled_again(platform: LoadPlatform, load: Load) -> None:
    """Items that earlier loads had acknowledged are written again if the table was emptied."""
    written = platform.builder.write(*PARTS)
    load(platform.claim(written))
    platform.clear_online()
    report = load(platform.claim(written))
    assert report.dynamodb is not None
    assert (report.dynamodb.details["found_rows"], report.dynamodb.details["write_units"]) == (0, 120)
    check_stores(platform, written)
