"""The check before publication counts the rows in both stores instead of trusting the load report."""

from __future__ import annotations

import gzip
import hashlib
from datetime import timedelta
from decimal import Decimal
from typing import Any

import dagster as dg
import pytest

from infra.definitions import resource_definitions
from infra.local.provisioning.provisioned_storage import ensure_table
from mlpipe_dagster.loading.online_count import count_online
from mlpipe_dagster.loading.reconciliation_check import reconciliation_check
from mlpipe_dagster.loading.tables_asset import tables_asset
from mlpipe_dagster.pipeline.asset_names import selected_batch_tag
from mlpipe_dagster.resources.job_resources import GlueJobs
from mlpipe_dagster.resources.warehouse import Warehouse
from prediction_contract.manifests.load_report import LOADED, LoadReport, QuarantineReport, StoreReport
from prediction_contract.manifests.manifest import JsonPart, Manifest
from prediction_contract.naming.s3_layout import json_part_key, report_key
from prediction_contract.registry.load_rules import claim_load, complete_load
from prediction_contract.registry.records import LoadState
from prediction_contract.rows.checksums import RowTally
from prediction_contract.rows.prediction_line import PredictionLine, prediction_line
from prediction_contract.rows.row_contract import row_contract
from prediction_contract.stores.online_item import OnlineItems
from prediction_contract.stores.warehouse_table import WarehouseTable
from tests.dagster.small_model import DAYS, PARTITION, TOKEN, SmallModel, now

pytestmark = pytest.mark.stack
ROWS: list[dict[str, Any]] = [
    {"entity_id": f"E{number}", "score": Decimal(f"{number}.50")} for number in range(250)
]
BAD_ROW = {"entity_id": "E-bad", "score": float("nan")}


def tally(lines: list[PredictionLine]) -> RowTally:
    """Return the number and the checksum of lines."""
    return RowTally(rows=len(lines), checksum=sum(line.checksum for line in lines))


class LoadedBatch:
    """A batch in both stores with a complete load and its report."""

    def __init__(self, small: SmallModel) -> None:
        self.small = small
        self.deployment = small.platform.settings.deployment
        self.table = self.deployment.online_table(small.name)
        self.dynamodb = small.platform.client("dynamodb")
        ensure_table(self.dynamodb, resource_definitions.online_table(self.deployment, small.name))
        contract = row_contract(small.declaration.prediction_schema)
        self.lines = [prediction_line(contract, row) for row in [*ROWS, BAD_ROW]]
        self.good = [line for line in self.lines if line.row is not None]
        self.manifest = self._delivered()
        self.batch_id = str(self.manifest.batch_id)
        self._load()

    def _delivered(self) -> Manifest:
        small, batch_id = self.small, self.small.batch_id()
        content = gzip.compress(b"".join(line.content for line in self.lines))
        key = json_part_key(small.name, PARTITION, batch_id, 1, share="part", number=0)
        small.platform.bucket.put(key, content)
        part = JsonPart(key, len(self.lines), len(content), hashlib.sha256(content).hexdigest())
        checksum = str(tally(self.lines).checksum % 2**64)
        small.registered_batch(batch_id=batch_id, json_parts=[part], checksum=checksum)
        return small.manifest(batch_id, json_parts=[part], checksum=checksum)

    def _load(self) -> None:
        small, expire_at = self.small, now() + DAYS
        items = OnlineItems(small.declaration.prediction_schema)
        for line in self.good:
            assert line.row is not None
            item = items.build(line.row, self.batch_id, int(expire_at.timestamp()))
            self.dynamodb.put_item(TableName=self.table, Item=item)
        with Warehouse(platform=small.platform).session() as session:
            session.ensure_table(small.name, small.declaration.prediction_schema)
            table = WarehouseTable(small.name, small.declaration.prediction_schema)
            values = ", ".join(
                f"('{line.row.key}', '{self.batch_id}', {line.checksum})" for line in self.good if line.row
            )
            session._query(
                f'INSERT INTO {table.name} ("ENTITY_ID", "BATCH_ID", "ROW_CHECKSUM") VALUES {values}'
            )
        self.report()
        claim = claim_load(
            small.record(self.batch_id), token=TOKEN, confirm_by=now() + timedelta(minutes=5), now=now()
        )
        small.platform.registry.carry_out(lambda: claim)
        small.platform.registry.carry_out(
            lambda: complete_load(
                small.record(self.batch_id), token=TOKEN, expire_at=expire_at, now=now(), retention=DAYS
            )
        )

    def report(self, *, unread: int = 0) -> None:
        """Write the load report, with `unread` rows of each store not read back."""
        stored, refused = tally(self.good), [line for line in self.lines if line.row is None]
        report = LoadReport(
            status=LOADED,
            model=self.small.name,
            batch_id=self.batch_id,
            attempt=1,
            job_run_id="jr",
            manifest_digest=self.manifest.digest,
            started_at="2026-11-23T01:02:03Z",
            ended_at="2026-11-23T01:02:09Z",
            items_expire_at=int((now() + DAYS).timestamp()),
            dynamodb=StoreReport(table=self.table, rows=stored, verified_rows=stored.rows - unread),
            snowflake=StoreReport(table="T", rows=stored, verified_rows=stored.rows - unread),
            quarantine=QuarantineReport(rows=tally(refused)),
        )
        self.small.platform.bucket.put(report_key(self.small.name, self.batch_id, 1), report.to_bytes())

    def key(self, entity_id: str) -> dict[str, Any]:
        """Return an item's key."""
        return {"entity_id": {"S": entity_id}, "batch_id": {"S": self.batch_id}}

    def verdicts(self) -> dict[str, tuple[bool, str]]:
        """Run the check, and return its verdict and description for each table."""
        small, platform = self.small, self.small.platform
        definitions = dg.Definitions(
            assets=[tables_asset(small.declaration, small.partitions)],
            asset_checks=[reconciliation_check(small.declaration)],
            jobs=[dg.define_asset_job("check", selection=dg.AssetSelection.all_asset_checks())],
            resources={
                "platform": platform,
                "warehouse": Warehouse(platform=platform),
                "glue_jobs": GlueJobs(platform=platform),
            },
        )
        result = definitions.resolve_job_def("check").execute_in_process(
            tags={selected_batch_tag(small.name): self.batch_id}, raise_on_error=False
        )
        return {
            evaluation.asset_key.path[-1]: (evaluation.passed, str(evaluation.description))
            for evaluation in result.get_asset_check_evaluations()
        }


@pytest.fixture
def batch(small_model: SmallModel) -> LoadedBatch:
    """Load a batch of 250 good rows and one bad row."""
    return LoadedBatch(small_model)


def test_batch_accounted_for_is_verified(batch: LoadedBatch) -> None:
    """Both stores pass when stored and quarantined rows add up to the manifest."""
    assert {store: passed for store, (passed, _) in batch.verdicts().items()} == {
        "dynamodb": True,
        "snowflake": True,
    }
    assert batch.small.record(batch.batch_id).load_state == LoadState.VERIFIED


@pytest.mark.parametrize(
    ("verify", "is_verified"), [(None, False), ("full", False), ("scan", False), ("sample", True)]
)
def test_unread_row_passes_only_with_verify_sample(
    batch: LoadedBatch, verify: str | None, *, is_verified: bool
) -> None:
    """A small batch must be read back completely unless its model declares `sample`."""
    batch.report(unread=1)
    declared = batch.small.declaration
    quality = declared.quality.model_copy(update={"verify": verify})
    batch.small.declaration = declared.model_copy(update={"quality": quality})
    assert [passed for passed, _ in batch.verdicts().values()] == [is_verified, is_verified]
    assert (batch.small.record(batch.batch_id).load_state == LoadState.VERIFIED) is is_verified


@pytest.mark.parametrize("spoil", ["missing", "altered"])
def test_missing_or_altered_item_is_found(batch: LoadedBatch, spoil: str) -> None:
    """The DynamoDB check fails although the load report says that every row was read back."""
    if spoil == "missing":
        batch.dynamodb.delete_item(TableName=batch.table, Key=batch.key("E7"))
    else:
        batch.dynamodb.update_item(
            TableName=batch.table,
            Key=batch.key("E7"),
            UpdateExpression="SET score = :other",
            ExpressionAttributeValues={":other": {"N": "99.5"}},
        )
    verdicts = batch.verdicts()
    assert not verdicts["dynamodb"][0]
    assert verdicts["snowflake"][0]
    assert batch.small.record(batch.batch_id).load_state == LoadState.LOADED


def test_row_missing_in_snowflake_is_found(batch: LoadedBatch) -> None:
    """The DynamoDB check passes, but the batch is not verified."""
    table = WarehouseTable(batch.small.name, batch.small.declaration.prediction_schema)
    with Warehouse(platform=batch.small.platform).session() as session:
        session._query(f"DELETE FROM {table.name} WHERE \"ENTITY_ID\" = 'E7'")
    verdicts = batch.verdicts()
    assert verdicts["dynamodb"][0]
    assert "holds 249 rows" in verdicts["snowflake"][1]
    assert batch.small.record(batch.batch_id).load_state == LoadState.LOADED


def test_missing_and_altered_items_in_a_sample_are_not_counted(batch: LoadedBatch) -> None:
    """Of 20 sampled rows, a deleted and a changed item are not counted as found."""
    platform = batch.small.platform
    batch.dynamodb.delete_item(TableName=batch.table, Key=batch.key("E7"))
    batch.dynamodb.update_item(
        TableName=batch.table,
        Key=batch.key("E8"),
        UpdateExpression="SET score = :other",
        ExpressionAttributeValues={":other": {"N": "99.5"}},
    )
    count = count_online(platform.bucket, batch.dynamodb, batch.table, batch.manifest, most_lines=20)
    assert (count.asked, count.found.rows, count.is_whole) == (20, 18, False)
