"""What the load's Snowflake session carries, how the stage is made, and copies of many files."""

from __future__ import annotations

import json
from dataclasses import replace
from typing import TYPE_CHECKING

import pytest

from glue_scripts.warehouse_loader import WarehouseLoader, query_tag
from prediction_contract import warehouse_load
from tests.loading.store_checks import check_stores
from tests.loading.test_parts_of_the_load import ARGUMENTS, BATCH

if TYPE_CHECKING:
    from collections.abc import Callable

    from prediction_contract.job_arguments import LoadArguments
    from prediction_contract.load_report import LoadReport
    from tests.loading.load_platform import LoadPlatform


def test_the_query_tag_leads_to_batch_job_run_and_run() -> None:
    """Whoever looks into Snowflake's history finds where a statement comes from."""
    assert json.loads(query_tag(replace(ARGUMENTS, dagster_run_id="run-7"), "jr_1")) == {
        "application": "mlpipe",
        "model": "flight_delay",
        "batch_id": BATCH,
        "attempt": 1,
        "job_run_id": "jr_1",
        "dagster_run_id": "run-7",
    }


@pytest.mark.stack
@pytest.mark.parametrize(("integration", "option"), [(None, ""), ("S3_X", " STORAGE_INTEGRATION = S3_X")])
def test_the_stage_is_made_with_the_integration(
    platform: LoadPlatform, integration: str | None, option: str
) -> None:
    """On Snowflake with the one that the secret names; without one, by its own credentials."""
    manifest = platform.builder.write([{"flight": "A-1"}]).manifest
    loader = WarehouseLoader(None, manifest, ARGUMENTS, "jr_1", integration=integration)
    made = f"CREATE STAGE IF NOT EXISTS LAKE URL = 's3://{manifest.bucket}/'{option}"
    assert loader._create_stage() == made


@pytest.mark.stack
def test_more_files_than_a_copy_takes_are_copied_by_several(
    platform: LoadPlatform, load: Callable[[LoadArguments], LoadReport], monkeypatch: pytest.MonkeyPatch
) -> None:
    """Every file's rows are staged, counted and loaded."""
    rows = [{"flight": f"A-{number:02}", "seats": number} for number in range(50)]
    written = platform.builder.write(rows, several_files=True)
    files = len(written.manifest.delta.files)
    assert files > 1
    monkeypatch.setattr(warehouse_load, "MOST_FILES", 1)
    report = load(platform.claim(written))
    assert report.snowflake is not None
    assert len(report.snowflake.details["query_ids"]["copy"]) == files
    check_stores(platform, written)
