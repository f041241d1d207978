"""The publication summarizes its batch for people, without values of sensitive columns."""

from __future__ import annotations

import uuid
from base64 import b64decode
from typing import TYPE_CHECKING

import pytest

from prediction_contract.manifests.load_report import LOADED, LoadReport, StoreReport
from prediction_contract.naming.s3_layout import report_key
from tests.dagster.loaded_model import COLUMNS, LoadedModel, rows
from tests.dagster.publication.test_publication_asset import materialized
from tests.dagster.small_model import ROWS, declaration

if TYPE_CHECKING:
    from mlpipe_dagster.resources.platform import Platform


@pytest.mark.stack
def test_publication_summarizes_its_batch(platform: Platform) -> None:
    """It shows counts, bytes, durations, write units, costs, links, drift, a distribution and sample rows."""
    model = LoadedModel(platform, declaration(f"m{uuid.uuid4().hex[:12]}", columns=COLUMNS))
    before = model.loaded_batch(rows(range(100)), partition="2013-01-31")
    materialized(model, partition="2013-01-31")
    batch_id = model.loaded_batch(rows(range(100), shift=1))
    report = LoadReport(
        status=LOADED,
        model=model.name,
        batch_id=batch_id,
        attempt=1,
        job_run_id="jr_1",
        manifest_digest=model.record(batch_id).manifest_digest,
        started_at="2026-11-23T01:02:03Z",
        ended_at="2026-11-23T01:02:09Z",
        items_expire_at=1,
        dynamodb=StoreReport(table="t", rows=ROWS, verified_rows=3, details={"write_units": 1_600_000}),
        snowflake=StoreReport(table="T", rows=ROWS, verified_rows=3),
        durations={"stage": 600_000, "move": 600_000, "write_online": 1},
    )
    platform.bucket.put(report_key(model.name, batch_id, 1), report.to_bytes())
    shown = materialized(model)
    assert shown["outcome"] == "live"
    assert (shown["dagster/row_count"], shown["rows_quarantined"], shown["bytes"]) == (3, 0, 100)
    assert shown["write_units"] == 1_600_000
    assert shown["load_durations_ms"]["move"] == 600_000
    assert shown["estimated_costs_usd"] == {"dynamodb": 1.0, "snowflake": 1.0}
    assert shown["estimated_cost_usd"] == 2.0
    assert shown["console_load_job_run"].endswith("/run/jr_1")
    assert "| `score` |" in shown["drift"]
    assert shown["distribution_score"].startswith("![Distribution of score](data:image/svg+xml;base64,")
    assert {name for name in shown if name.startswith("distribution_")} == {
        "distribution_score",
        "distribution_likely",
    }
    for column in ("score", "likely"):
        picture = b64decode(shown[f"distribution_{column}"].partition("base64,")[2].rstrip(")")).decode()
        assert f"batch {batch_id}" in picture
        assert f"live {before}" in picture
    sample = shown["sample_rows"].splitlines()
    assert sample[0] == "| entity_id | score | likely |"
    assert sample[2] == "| `E0` | `1.00` | `True` |"
    assert len(sample) == 7


@pytest.mark.stack
def test_sensitive_columns_are_not_shown(platform: Platform) -> None:
    """Neither values nor distributions of sensitive columns appear, even if the key is sensitive."""
    columns = [{**column, "sensitive": column["name"] != "likely"} for column in COLUMNS]
    model = LoadedModel(platform, declaration(f"m{uuid.uuid4().hex[:12]}", columns=columns))
    secret = [("SECRET-PERSON", 77.25, True, 31337.5), *rows(range(100))]
    model.loaded_batch(secret, partition="2013-01-31")
    materialized(model, partition="2013-01-31")
    model.loaded_batch(secret)
    shown = materialized(model)
    assert {name for name in shown if name.startswith("distribution_")} == {"distribution_likely"}
    assert shown["sample_rows"].splitlines()[0] == "| likely |"
    everything = str(shown)
    for value in ("SECRET", "77.25", "31337"):
        assert value not in everything
