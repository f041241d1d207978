"""Tests of the query tag of Snowflake sessions, and of copies with many files."""

from __future__ import annotations

import json
from dataclasses import replace
from typing import TYPE_CHECKING

import pytest

from glue_scripts.snowflake.warehouse_loader import query_tag
from prediction_contract.limits import MAX_QUERY_TAG_CHARACTERS
from prediction_contract.stores import warehouse_load
from tests.glue.store_checks import check_stores
from tests.glue.test_parts_of_the_load import ARGUMENTS, BATCH

if TYPE_CHECKING:
    from collections.abc import Callable

    from prediction_contract.jobs.job_arguments import LoadArguments
    from prediction_contract.manifests.load_report import LoadReport
    from tests.glue.load_platform import LoadPlatform


def test_query_tag_names_batch_job_run_and_run() -> None:
    """Snowflake's query history names the model, batch, attempt, job run and Dagster run."""
    assert json.loads(query_tag(replace(ARGUMENTS, dagster_run_id="run-7"), "jr_1")) == {
        "application": "mlpipe",
        "model": "flight_delay",
        "batch_id": BATCH,
        "attempt": 1,
        "job_run_id": "jr_1",
        "dagster_run_id": "run-7",
    }


def test_longest_query_tag_fits_snowflakes_limit() -> None:
    """A query tag with names and ids of maximal length stays within Snowflake's limit."""
    longest = replace(
        ARGUMENTS,
        model="m" * 41,
        load_attempt=10**9,
        dagster_run_id="r" * 255,
    )
    for character in ("j", "\\", "\U0001f6eb"):
        assert len(query_tag(longest, character * 255)) <= MAX_QUERY_TAG_CHARACTERS


@pytest.mark.stack
def test_many_files_are_copied_by_several_statements(
    platform: LoadPlatform, load: Callable[[LoadArguments], LoadReport], monkeypatch: pytest.MonkeyPatch
) -> None:
    """More files than one COPY accepts are loaded completely by several."""
    rows = [{"flight": f"A-{number:02}", "seats": number} for number in range(50)]
    written = platform.builder.write(rows, several_files=True)
    files = len(written.manifest.delta.files)
    assert files > 1
    monkeypatch.setattr(warehouse_load, "MAX_COPY_FILES", 1)
    report = load(platform.claim(written))
    assert report.snowflake is not None
    assert len(report.snowflake.details["query_ids"]["copy"]) == files
    check_stores(platform, written)
