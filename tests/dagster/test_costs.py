"""Estimated costs and console links of a batch."""

from __future__ import annotations

from datetime import UTC, datetime

import pytest

from mlpipe_dagster.costs import Consumption, Prices, estimated_costs
from mlpipe_dagster.publication.publication_asset import console_links
from mlpipe_dagster.settings import Settings, SettingsError
from prediction_contract.manifests.manifest import JsonPart, Producer, build_manifest
from prediction_contract.naming.resource_names import Deployment
from prediction_contract.naming.s3_layout import json_part_key
from tests.dagster.small_model import declaration

BATCH = "20130201T060000Z-0123abcd"


def test_consumption_is_priced_by_service() -> None:
    """Each service is priced separately; an unknown instance type and zero consumption cost nothing."""
    consumed = Consumption(
        write_units=2_000_000,
        dpu_seconds=7200,
        warehouse_seconds=1800,
        machine_seconds={"ml.m5.xlarge": 3600, "ml.unheard.of": 3600},
    )
    prices = Prices(dynamodb_million_writes=0.5, glue_dpu_hour=0.4, snowflake_credit=2.0)
    assert estimated_costs(consumed, prices) == {
        "dynamodb": 1.0,
        "glue": 0.8,
        "snowflake": 1.0,
        "sagemaker": 0.23,
    }
    assert estimated_costs(Consumption(), prices) == {}


def test_prices_can_be_configured(minimal_environment: dict[str, str]) -> None:
    """A deployment can replace default prices, and a malformed price is named in the error."""
    stated = {"MLPIPE_PRICE_SNOWFLAKE_CREDIT": "1.5", "MLPIPE_PRICE_ML_P4_LARGE": "9"}
    prices = Settings.from_environment({**minimal_environment, **stated}).prices
    assert (prices.snowflake_credit, prices.machine("ml.p4.large")) == (1.5, 9.0)
    assert prices.machine("ml.m5.xlarge") == 0.23
    with pytest.raises(SettingsError, match="MLPIPE_PRICE_"):
        Settings.from_environment({**minimal_environment, "MLPIPE_PRICE_GLUE_DPU_HOUR": "cheap"})


@pytest.mark.parametrize(
    ("region", "host"), [("us-east-1", "console.aws.amazon.com"), ("cn-north-1", "console.amazonaws.cn")]
)
def test_links_lead_to_the_regions_console(region: str, host: str) -> None:
    """They lead to done file, parts, table, load job run and score job."""
    key = json_part_key("things", "2013-02-01", BATCH, 1, share="part", number=0)
    manifest = build_manifest(
        model="things",
        batch_id=BATCH,
        attempt=1,
        partition="2013-02-01",
        bucket="a-bucket",
        created_at=datetime(2013, 2, 1, 6, 0, 1, tzinfo=UTC),
        model_version="v1",
        code_version="c1",
        schema=declaration("things").prediction_schema,
        json_parts=[JsonPart(key, 3, 100, "a" * 64)],
        delta_version=1,
        delta_files=["part-0.parquet"],
        checksum="1",
        producer=Producer(job_name="score-things-1"),
    )
    links = console_links(Deployment("dev", "123456789012", region), manifest, "jr_1")
    assert set(links) == {"done_file", "json_parts", "online_table", "load_job_run", "score_job"}
    assert all(link.startswith(f"https://{region}.{host}/") for link in links.values())
    assert links["load_job_run"].endswith("/run/jr_1")
    assert "load_job_run" not in console_links(Deployment("dev", "123456789012", region), manifest, None)
