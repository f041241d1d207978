"""A model with cleaning is followed from its declaration to both stores, the checks and serving."""

from __future__ import annotations

import uuid
from dataclasses import replace
from datetime import timedelta
from decimal import Decimal
from typing import TYPE_CHECKING, Any

import dagster as dg
import pytest

from glue_scripts import aws_clients, settings
from glue_scripts.load_predictions import main
from infra.definitions import resource_definitions
from infra.local.provisioning.provisioned_storage import ensure_table
from mlpipe_dagster.done_files.registration import register_done_file
from mlpipe_dagster.loading.load_coordinator import LoadCoordinator
from mlpipe_dagster.loading.online_count import count_online, first_stored_key
from mlpipe_dagster.loading.reconciliation_check import reconciliation_check
from mlpipe_dagster.loading.tables_asset import tables_asset
from mlpipe_dagster.pipeline.asset_names import selected_batch_tag
from mlpipe_dagster.publication.publication_asset import publication_asset
from mlpipe_dagster.quality.quality_checks import quality_checks
from mlpipe_dagster.resources.job_resources import GlueJobs
from mlpipe_dagster.resources.platform import Platform
from mlpipe_dagster.resources.warehouse import Warehouse
from prediction_contract.cleaning.cleaning_rules import recorded_cleaning
from prediction_contract.registry.load_rules import claim_load
from prediction_contract.registry.records import LoadState
from prediction_contract.stores.serving_record import ServingRecord
from prediction_contract.stores.warehouse_stage import allowed_location
from prediction_contract.stores.warehouse_table import WarehouseTable
from tests.contract.prediction_rows import FULL_SCHEMA
from tests.dagster.small_model import TOKEN, SmallModel, declaration, now
from tests.glue.batch_builder import BATCH, PARTITION, BatchBuilder

if TYPE_CHECKING:
    from collections.abc import Iterator

pytestmark = pytest.mark.stack

COLUMNS = [
    {**column.to_document(), "key": column.name == "flight", "sensitive": column.name == "serial"}
    for column in FULL_SCHEMA.columns
]
CLEANING = [
    {"column": "flight", "trim": True, "rename": "number"},
    {"column": "seats", "default": 0, "clamp": {"maximum": 400}},
    {"column": "serial", "rename": "customer"},
    {"column": "reasons", "drop": True},
]
ROWS: list[dict[str, Any]] = [
    {"flight": " A-1", "seats": 1000, "serial": 77, "reasons": ["x"]},
    {"flight": "A-2", "fare": Decimal("12.5"), "serial": 78},
    {"flight": "\t"},
]


@pytest.fixture
def cleaned_model(platform: Platform, monkeypatch: pytest.MonkeyPatch) -> Iterator[SmallModel]:
    """Yield a model with cleaning whose batch the real script loads in this process."""
    monkeypatch.setattr(settings, "_has_spark", lambda _environment: False)
    schema = f"CLEANED_{uuid.uuid4().hex[:8].upper()}"
    deployment = platform.settings.deployment
    location = allowed_location(deployment.data_bucket)
    with Warehouse(platform=platform).session() as session:
        session.rows(f"CREATE SCHEMA {schema}")
        session.rows(
            f"CREATE STORAGE INTEGRATION {deployment.snowflake_integration} "
            f"STORAGE_ALLOWED_LOCATIONS = ('{location}')"
        )
    # The stage's name is unique per schema, so this test needs its own schema.
    monkeypatch.setenv("SNOWFLAKE_SCHEMA", schema)
    platform = Platform()
    secrets = platform.client("secretsmanager")
    stage_of_the_stack = replace(deployment, stage="local")
    of_the_stack = secrets.get_secret_value(SecretId=stage_of_the_stack.snowflake_secret)["SecretString"]
    secrets.create_secret(Name=deployment.snowflake_secret, SecretString=of_the_stack)
    name = f"m{uuid.uuid4().hex[:12]}"
    quality = {"columns": [{"column": "customer", "minimum": 1}], "rows": {}, "quarantine_rows": 1}
    small = SmallModel(platform, declaration(name, columns=COLUMNS, cleaning=CLEANING, quality=quality))
    ensure_table(platform.client("dynamodb"), resource_definitions.online_table(deployment, name))
    _forget_clients()
    yield small
    _forget_clients()


def _forget_clients() -> None:
    aws_clients.client.cache_clear()
    aws_clients.bulk_dynamodb.cache_clear()


def load(small: SmallModel) -> None:
    """Deliver a batch, and load it with the arguments of a Dagster run."""
    platform, environment = small.platform, aws_clients.delta_storage_options()
    builder = BatchBuilder(
        platform.client("s3"), platform.settings.data_bucket, small.name, dict(environment)
    )
    written = builder.write(ROWS)
    assert register_done_file(platform.bucket, platform.registry, written.manifest.key).refusal is None
    claim = claim_load(small.record(BATCH), token=TOKEN, confirm_by=now() + timedelta(minutes=5), now=now())
    platform.registry.carry_out(lambda: claim)
    loading = LoadCoordinator(
        declaration=small.declaration,
        settings=platform.settings,
        registry=platform.registry,
        glue=GlueJobs(platform=platform).client(),
    )
    arguments = loading._arguments(small.record(BATCH), "run-7")
    assert arguments.dagster_run_id == "run-7"
    pairs = [text for pair in arguments.glue_arguments().items() for text in pair]
    main([*pairs, "--JOB_RUN_ID", "jr_1"])


def run_of(small: SmallModel, selection: Any, partition: str | None = None) -> dg.ExecuteInProcessResult:
    """Run checks or the publication of the loaded batch."""
    platform = small.platform
    definitions = dg.Definitions(
        assets=[
            tables_asset(small.declaration, small.partitions),
            publication_asset(small.declaration, small.partitions),
        ],
        asset_checks=[reconciliation_check(small.declaration), quality_checks(small.declaration)],
        jobs=[dg.define_asset_job("job", selection=selection)],
        resources={
            "platform": platform,
            "warehouse": Warehouse(platform=platform),
            "glue_jobs": GlueJobs(platform=platform),
        },
    )
    tags = {selected_batch_tag(small.name): BATCH}
    return definitions.resolve_job_def("job").execute_in_process(tags=tags, partition_key=partition)


def test_cleaned_batch_is_loaded_checked_and_served(cleaned_model: SmallModel) -> None:
    """The stores hold cleaned values; checks, samples and serving use the stored columns."""
    small, platform = cleaned_model, cleaned_model.platform
    load(small)
    record, stored = small.record(BATCH), small.declaration.stored_schema
    assert record.cleaning == small.declaration.cleaning_rules.to_text()
    checked = run_of(small, dg.AssetSelection.all_asset_checks())
    verdicts = {each.check_name: each for each in checked.get_asset_check_evaluations()}
    assert all(each.passed for each in verdicts.values()), verdicts
    assert "distribution_seats" in verdicts["drift"].metadata
    # A renamed column is still sensitive.
    assert "distribution_customer" not in verdicts["drift"].metadata
    assert small.record(BATCH).load_state == LoadState.VERIFIED

    published = run_of(small, dg.AssetSelection.assets([small.name, "publication"]), PARTITION)
    (event,) = published.asset_materializations_for_node(f"{small.name}__publication")
    shown = {name: value.value for name, value in event.metadata.items()}
    assert (shown["outcome"], shown["live_batch_id"]) == ("live", BATCH)
    assert "A-1" in str(shown["sample_rows"])
    assert "customer" not in str(shown["sample_rows"])
    (entry,) = platform.registry.publications(small.name)
    assert entry.serving is not None
    assert ServingRecord.from_json(entry.serving).schema == stored
    table = WarehouseTable(small.name, stored)
    with Warehouse(platform=platform).session() as session:
        rows = session.rows(f'SELECT "NUMBER", "SEATS", "CUSTOMER" FROM {table.view} ORDER BY 1')
    assert rows == [("A-1", 400, 77), ("A-2", 0, 78)]


def test_count_in_dynamodb_cleans_rows_like_the_load(cleaned_model: SmallModel) -> None:
    """The stored rows are found, and an altered item changes the checksum."""
    small, platform = cleaned_model, cleaned_model.platform
    load(small)
    record = small.record(BATCH)
    cleaning = recorded_cleaning(record.cleaning)
    manifest = register_done_file(platform.bucket, platform.registry, record.manifest_key).manifest
    assert manifest is not None
    dynamodb, table = platform.client("dynamodb"), platform.settings.deployment.online_table(small.name)
    count = count_online(platform.bucket, dynamodb, table, manifest, cleaning=cleaning)
    lines = [line for line in platform.bucket.lines(manifest.json_parts[0].key) if b"A-" in line]
    assert (count.asked, count.found.rows, len(lines)) == (2, 2, 2)
    key = first_stored_key(platform.bucket, dynamodb, table, manifest, refused_rows=1, cleaning=cleaning)
    assert key == "A-1"
    dynamodb.update_item(
        TableName=table,
        Key={"entity_id": {"S": "A-1"}, "batch_id": {"S": BATCH}},
        UpdateExpression="SET seats = :other",
        ExpressionAttributeValues={":other": {"N": "399"}},
    )
    altered = count_online(platform.bucket, dynamodb, table, manifest, cleaning=cleaning)
    assert altered.found.checksum != count.found.checksum
