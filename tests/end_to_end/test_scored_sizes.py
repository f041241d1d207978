"""A batch of any size is scored by the real job, loaded into both stores, and counted equally everywhere."""

from __future__ import annotations

from typing import TYPE_CHECKING, Any

import pyarrow.compute as pc
import pytest
from deltalake import DeltaTable

from benchmarks.canned.canned_load_store import TABLE, canned_load_store
from benchmarks.score_jobs import DAY, TEN_COLUMNS, score_jobs
from benchmarks.warehouse_load import arguments, warehouse
from glue_scripts import aws_clients
from glue_scripts.aws_clients import client, delta_storage_options
from glue_scripts.dynamodb.online_load import OnlineTask, write_part
from glue_scripts.engine import ProcessEngine
from glue_scripts.files.delivered_batch import DeliveredBatch
from glue_scripts.files.delta_check import check_delta
from glue_scripts.files.survey import survey_batch
from glue_scripts.snowflake.warehouse_loader import WarehouseLoader
from prediction_contract.rows.checksums import RowTally, batch_checksum
from prediction_contract.rows.quarantine_tolerance import QuarantineTolerance

if TYPE_CHECKING:
    from collections.abc import Iterator
    from pathlib import Path

    from prediction_contract.manifests.manifest import Manifest

BATCH = "20130201T060000Z-00000001"
EXPIRY = 1_900_000_000
# The limit for one process, independent of the batch's size.
MOST_MB = 450


@pytest.fixture
def _own_clients() -> Iterator[None]:
    """Clear cached clients, so that no test uses those of another test's environment."""
    aws_clients.client.cache_clear()
    yield
    aws_clients.client.cache_clear()


def rows_in_delta(manifest: Manifest) -> RowTally:
    """Return the count and checksum of the batch's rows in the manifest's table version."""
    uri = f"s3://{manifest.bucket}/{manifest.delta.table}"
    options = delta_storage_options()
    table = DeltaTable(uri, version=manifest.delta.version, storage_options=options).to_pyarrow_dataset()
    rows = checksum = 0
    for batch in table.to_batches(columns=["row_checksum"], filter=pc.field("batch_id") == manifest.batch_id):
        rows += batch.num_rows
        checksum += sum(batch["row_checksum"].to_pylist())
    return RowTally(rows=rows, checksum=checksum)


@pytest.mark.usefixtures("_own_clients")
@pytest.mark.timeout(7200)
@pytest.mark.parametrize(
    "rows",
    [
        pytest.param(250_000, marks=pytest.mark.slow),
        pytest.param(10_000_000, marks=pytest.mark.drill),
    ],
)
def test_all_stores_have_the_same_count_and_checksum(
    rows: int, tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    """JSON, Delta, requests to DynamoDB and Snowflake have the same row count and checksum."""
    with score_jobs("snowflake") as jobs, canned_load_store(tmp_path) as (sink, _):
        jobs.prepare(TEN_COLUMNS, DAY, rows)
        manifest, cost = jobs.run(jobs.arguments(TEN_COLUMNS, DAY, BATCH))
        assert cost.most_mb <= MOST_MB
        for name, value in {**jobs.environment, "AWS_ENDPOINT_URL_DYNAMODB": sink}.items():
            monkeypatch.setenv(name, value)
        expected = RowTally(rows=rows, checksum=int(manifest.checksum))
        check_delta(client("s3"), manifest, delta_storage_options())
        found: dict[str, Any] = {"delta": rows_in_delta(manifest)}
        batch, engine = DeliveredBatch(manifest), ProcessEngine(2)
        survey = survey_batch(batch, engine, QuarantineTolerance())
        found["json"] = survey.accepted
        tasks = [OnlineTask(source, TABLE, EXPIRY, None, "full") for source in survey.sources]
        found["online"] = RowTally(rows=0, checksum=0)
        for part in engine.run(write_part, tasks):
            found["online"] = found["online"].plus(part.acknowledged)
        with warehouse(jobs.ports["snowflake"], manifest.bucket) as connection:
            loader = WarehouseLoader(connection, batch, arguments(manifest), "jr_1")
            loader.stage()
            found["warehouse"] = loader.move(survey, []).rows
            loader.clean_up()
    assert {
        name: (tally.rows, batch_checksum([tally.checksum])) for name, tally in found.items()
    } == dict.fromkeys(found, (expected.rows, manifest.checksum))
