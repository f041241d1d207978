"""The retention of batches that the real load job has loaded."""

from __future__ import annotations

import uuid
from datetime import UTC, datetime, timedelta
from typing import TYPE_CHECKING, Any

import dagster as dg
import pytest
from deltalake import DeltaTable

from infra.definitions import resource_definitions
from infra.local.provisioning.provisioned_storage import ensure_table
from mlpipe_dagster.pipeline.model_sensors import ServedModel
from mlpipe_dagster.publication.live_batches_sensor import live_batches_tick
from mlpipe_dagster.resources.aws_clients import delta_storage_options
from mlpipe_dagster.resources.platform import Platform
from mlpipe_dagster.resources.warehouse import Warehouse
from mlpipe_dagster.retention.retention_sensor import retention_job
from prediction_contract.naming.s3_layout import delta_table_prefix, json_batch_prefix
from prediction_contract.registry.load_rules import verify_load
from prediction_contract.registry.publication_rules import publish
from prediction_contract.registry.records import ChangeRequest, LoadState
from prediction_contract.text.utc_time import format_utc
from tests.glue.batch_builder import PARTITION
from tests.stack_runs import wait_until

if TYPE_CHECKING:
    from collections.abc import Callable

    from prediction_contract.jobs.job_arguments import LoadArguments
    from prediction_contract.manifests.load_report import LoadReport
    from tests.glue.batch_builder import WrittenBatch
    from tests.glue.load_platform import LoadPlatform

pytestmark = pytest.mark.stack
BATCHES = [f"20130201T0{hour}0000Z-0123abcd" for hour in (6, 7, 8)]
DAY = timedelta(days=1)
# The local DynamoDB deletes expired items once a minute.
REAPED_SECONDS = 150


def load_and_verify(
    platform: LoadPlatform,
    load: Callable[[LoadArguments], LoadReport],
    written: WrittenBatch,
    expire_at: datetime,
) -> None:
    """Load a batch with the real job, and verify it in the registry."""
    report = load(platform.claim(written, items_expire_at=int(expire_at.timestamp())))
    evidence = report.evidence()
    assert evidence is not None
    platform.registry.carry_out(
        lambda: verify_load(platform.record(written.batch_id), evidence, now=datetime.now(UTC), retention=DAY)
    )


def release(
    platform: LoadPlatform,
    load: Callable[[LoadArguments], LoadReport],
    batch_id: str,
    life: timedelta = 90 * DAY,
) -> WrittenBatch:
    """Load a batch whose items live for the given time, and make it live."""
    now = datetime.now(UTC)
    rows = [{"flight": f"F-{number}", "seats": number} for number in range(5)]
    written = platform.builder.write(rows, batch_id=batch_id)
    load_and_verify(platform, load, written, now + life)
    registry, home = platform.registry, platform.deployment.home
    registry.carry_out(
        lambda: publish(
            platform.record(batch_id),
            registry.live_pointers(platform.model, home_region=home),
            ChangeRequest(request_id=uuid.uuid4().hex, actor="a person"),
            now=now,
            minimum_life=DAY,
            retention=DAY,
        )
    )
    return written


def let_time_pass(platform: LoadPlatform, batch_id: str) -> None:
    """Set the batch's retention and its items' expiry to the past."""
    dynamodb = platform.aws("dynamodb")
    dynamodb.update_item(
        TableName=platform.deployment.registry_table,
        Key=platform.record(batch_id).key.item(),
        UpdateExpression="SET retain_until = :past",
        ExpressionAttributeValues={":past": {"S": "2013-02-02T00:00:00Z"}},
    )
    for item in platform.online(batch_id).values():
        dynamodb.update_item(
            TableName=platform.deployment.online_table(platform.model),
            Key={name: item[name] for name in ("entity_id", "batch_id")},
            UpdateExpression="SET expires_at = :past",
            ExpressionAttributeValues={":past": {"N": "1359763200"}},
        )


@pytest.mark.slow
def test_retired_batch_leaves_every_store(
    platform: LoadPlatform, load: Callable[[LoadArguments], LoadReport], monkeypatch: pytest.MonkeyPatch
) -> None:
    """A retired batch leaves Snowflake, DynamoDB, S3 and Delta, and the two later batches stay unchanged."""
    for name, value in platform.environment.items():
        monkeypatch.setenv(name, value)
    ensure_table(
        platform.aws("dynamodb"), resource_definitions.online_table(platform.deployment, platform.model)
    )
    for batch_id in BATCHES:
        release(platform, load, batch_id)
    retired, *kept = BATCHES
    before = {batch_id: platform.stores(batch_id) for batch_id in kept}
    dagster = Platform()
    warehouse = Warehouse(platform=dagster)
    with warehouse.quick_session() as session:
        session.project(platform.model, session.missing_publications(platform.model, platform.registry))
    let_time_pass(platform, retired)
    result = retention_job.execute_in_process(
        run_config={"ops": {"retire_batches": {"config": {"model": platform.model}}}},
        resources={"platform": dagster, "warehouse": warehouse},
    )
    observed: list[Any] = [
        event.asset_observation_data.asset_observation
        for event in result.all_events
        if event.event_type_value == "ASSET_OBSERVATION"
    ]
    assert observed[0].metadata["snowflake_rows_deleted"].value == 5
    assert platform.record(retired).load_state == LoadState.RETIRED
    assert platform.warehouse(retired) == []
    assert list(dagster.bucket.below(json_batch_prefix(platform.model, PARTITION, retired))) == []
    table = DeltaTable(
        f"s3://{dagster.settings.data_bucket}/{delta_table_prefix(platform.model)}",
        storage_options=delta_storage_options(dagster.client("s3")),
    )
    assert set(table.to_pyarrow_table(columns=["batch_id"])["batch_id"].to_pylist()) == set(kept)
    wait_until(lambda: platform.online(retired) == {}, seconds=REAPED_SECONDS, what="the items have expired")
    assert {batch_id: platform.stores(batch_id) for batch_id in kept} == before


def test_live_batch_near_expiry_is_loaded_again(
    platform: LoadPlatform, load: Callable[[LoadArguments], LoadReport], monkeypatch: pytest.MonkeyPatch
) -> None:
    """The sensor requests a further load once; afterwards the same rows live as long as new ones."""
    for name, value in platform.environment.items():
        monkeypatch.setenv(name, value)
    batch_id, dagster, now = BATCHES[0], Platform(), datetime.now(UTC)
    partitions = dg.DailyPartitionsDefinition(start_date="2013-01-01", end_date="2014-01-01")
    model = ServedModel(name=platform.model, partitions=partitions, items_life=90 * DAY)
    written = release(platform, load, batch_id, life=20 * DAY)
    before = platform.stores(batch_id)
    with dg.DagsterInstance.ephemeral() as instance:
        context = dg.build_sensor_context(instance=instance)
        (wanted,) = list(live_batches_tick(context, dagster, [model], now).run_requests or ())
    assert wanted.run_config["ops"][f"{platform.model}__load"]["config"] == {
        "batch_id": batch_id,
        "above_attempt": 1,
    }
    load_and_verify(platform, load, written, now + 90 * DAY)
    items, rows = platform.stores(batch_id)
    expire_at = {int(item.pop("expires_at")["N"]) for item in items.values()}
    assert expire_at == {int((now + 90 * DAY).timestamp())}
    for item in before[0].values():
        del item["expires_at"]
    assert (items, rows) == before
    record = platform.record(batch_id)
    assert (record.release_state, record.load_state) == ("live", "verified")
    assert record.items_expire_at == format_utc(now + 90 * DAY)
    with dg.DagsterInstance.ephemeral() as instance:
        context = dg.build_sensor_context(instance=instance)
        assert not live_batches_tick(context, dagster, [model], now).run_requests
