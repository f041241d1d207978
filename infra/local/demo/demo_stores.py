"""The rows of a batch in every store, counted in the stores themselves without trusting any job's report."""

from __future__ import annotations

import gzip
from dataclasses import dataclass
from datetime import datetime
from typing import TYPE_CHECKING, Any

from infra.local.provisioning.clients import Clients
from infra.local.supervision.stack_state import StackError
from prediction_contract.errors import ContractError
from prediction_contract.manifests.manifest import parse_manifest, validate
from prediction_contract.naming.resource_names import Deployment
from prediction_contract.naming.s3_layout import quarantine_prefix
from prediction_contract.registry.table import RegistryTable
from prediction_contract.rows.row_contract import row_contract
from prediction_contract.stores.online_item import BATCH_ATTRIBUTE, OnlineItems
from prediction_contract.stores.warehouse_table import SESSION_PARAMETERS, WarehouseTable

if TYPE_CHECKING:
    from collections.abc import Mapping

    from prediction_contract.manifests.manifest import Manifest
    from prediction_contract.registry.records import BatchRecord

_SNOWFLAKE_SECONDS = 60


@dataclass(frozen=True, kw_only=True)
class BatchRows:
    """The row counts of one batch in each store.

    Attributes:
        promised: The row count in the manifest.
        json: Lines of the JSON parts.
        delta: Rows of the batch in the version of the Delta table that the manifest names.
        dynamodb: Items in DynamoDB.
        snowflake: Rows of the Snowflake table.
        quarantine: Rows that the load refused.
    """

    promised: int
    json: int
    delta: int
    dynamodb: int
    snowflake: int
    quarantine: int

    @property
    def disagreements(self) -> list[str]:
        """The differences between counts that should be equal, as text; an empty batch is one, too."""
        statements = {
            f"JSON has {self.json} of the manifest's {self.promised} rows": self.json == self.promised,
            f"Delta has {self.delta} of the manifest's {self.promised} rows": self.delta == self.promised,
            f"DynamoDB {self.dynamodb} + quarantine {self.quarantine} != JSON {self.json}": (
                self.dynamodb + self.quarantine == self.json
            ),
            f"Snowflake {self.snowflake} + quarantine {self.quarantine} != JSON {self.json}": (
                self.snowflake + self.quarantine == self.json
            ),
            "the batch is empty": self.promised > 0,
        }
        return [what for what, holds in statements.items() if not holds]


class Stores:
    """The stores of a running stack.

    Args:
        variables: The variables that `mlpipe up` wrote.
    """

    def __init__(self, variables: Mapping[str, str]) -> None:
        self._variables = variables
        clients = Clients.of(variables)
        self.bucket = variables["MLPIPE_DATA_BUCKET"]
        self.deployment = Deployment(
            variables["MLPIPE_STAGE"], variables["MLPIPE_ACCOUNT_ID"], clients.region
        )
        self.s3 = clients.client("s3")
        self._dynamodb = clients.client("dynamodb")
        self.registry = RegistryTable(self._dynamodb, self.deployment.registry_table)

    def manifest(self, record: BatchRecord) -> tuple[Manifest, datetime]:
        """Return a batch's validated manifest, and the time when it was written to S3.

        Raises:
            StackError: The manifest is invalid.
        """
        answer = self.s3.get_object(Bucket=self.bucket, Key=record.manifest_key)
        try:
            manifest = parse_manifest(answer["Body"].read())
            validate(manifest, bucket=self.bucket, key=record.manifest_key)
        except ContractError as error:
            raise StackError(
                f"The done file {record.manifest_key} is invalid: {error}", remedy="Fix its producer"
            ) from error
        return manifest, answer["LastModified"]

    def content(self, key: str) -> bytes:
        """Return an object of the data bucket."""
        return self.s3.get_object(Bucket=self.bucket, Key=key)["Body"].read()

    def lines(self, manifest: Manifest) -> list[bytes]:
        """Return the lines of a batch's JSON parts."""
        return [line for part in manifest.json_parts for line in self._unpacked(part.key).splitlines()]

    def served(self, manifest: Manifest, entity_id: str) -> str | None:
        """Return the answer that the API must give for an entity; None if the JSON parts lack the entity."""
        contract, items = row_contract(manifest.schema), OnlineItems(manifest.schema)
        for line in self.lines(manifest):
            # The key appears unchanged in the line. Lines of other entities are skipped without validation.
            if entity_id.encode() in line and (row := contract.accept(line)).key == entity_id:
                return items.render_json(row)
        return None

    def count(self, manifest: Manifest, record: BatchRecord) -> BatchRows:
        """Count a batch's rows in every store."""
        return BatchRows(
            promised=manifest.row_count,
            json=len(self.lines(manifest)),
            delta=self._in_delta(manifest),
            dynamodb=self._in_dynamodb(manifest),
            snowflake=self._in_snowflake(manifest),
            quarantine=self._in_quarantine(record),
        )

    def live_in_snowflake(self, manifest: Manifest) -> dict[str, int]:
        """Return the number of rows by batch in the live view of the manifest's model."""
        view = WarehouseTable(manifest.model, manifest.schema).view
        rows = self._query(f'SELECT "BATCH_ID", COUNT(*) FROM {view} GROUP BY 1')  # noqa: S608  # validated
        return {str(batch_id): int(count) for batch_id, count in rows}

    def _in_delta(self, manifest: Manifest) -> int:
        # Imported here because it is slow, and needed only after the waiting.
        from deltalake import DeltaTable, QueryBuilder  # noqa: PLC0415

        variables = self._variables
        table = DeltaTable(
            f"s3://{self.bucket}/{manifest.delta.table}",
            version=manifest.delta.version,
            storage_options={
                "AWS_ENDPOINT_URL": variables["AWS_ENDPOINT_URL"],
                "AWS_ALLOW_HTTP": "true",
                "AWS_REGION": variables["AWS_REGION"],
                "AWS_ACCESS_KEY_ID": variables["AWS_ACCESS_KEY_ID"],
                "AWS_SECRET_ACCESS_KEY": variables["AWS_SECRET_ACCESS_KEY"],
            },
        )
        query = f"SELECT COUNT(*) AS n FROM predictions WHERE batch_id = '{manifest.batch_id}'"  # noqa: S608  # safe in a literal by its form
        answer = QueryBuilder().register("predictions", table).execute(query).read_all()
        return int(answer["n"][0].as_py())

    def _in_dynamodb(self, manifest: Manifest) -> int:
        pages = self._dynamodb.get_paginator("scan").paginate(
            TableName=self.deployment.online_table(manifest.model),
            Select="COUNT",
            ConsistentRead=True,
            FilterExpression="#batch = :batch",
            ExpressionAttributeNames={"#batch": BATCH_ATTRIBUTE},
            ExpressionAttributeValues={":batch": {"S": str(manifest.batch_id)}},
        )
        return sum(page["Count"] for page in pages)

    def _in_snowflake(self, manifest: Manifest) -> int:
        table = WarehouseTable(manifest.model, manifest.schema)
        ((rows, keys, _),) = self._query(table.batch_totals(manifest.batch_id))
        if rows != keys:
            raise StackError(
                f"Snowflake has {rows} rows of batch {manifest.batch_id}, but only {keys} distinct keys",
                remedy="Load the batch again with `mlpipe load --again`",
            )
        return int(rows)

    def _in_quarantine(self, record: BatchRecord) -> int:
        prefix = quarantine_prefix(record.model, record.batch_id, record.verified_attempt or 1)
        pages = self.s3.get_paginator("list_objects_v2").paginate(Bucket=self.bucket, Prefix=prefix)
        keys = [item["Key"] for page in pages for item in page.get("Contents", ())]
        return sum(len(self._unpacked(key).splitlines()) for key in keys)

    def _query(self, statement: str) -> list[Any]:
        import snowflake.connector  # noqa: PLC0415  # slow to import, as above

        prefix = "SNOWFLAKE_"
        given = {
            name.removeprefix(prefix).lower(): value
            for name, value in self._variables.items()
            if name.startswith(prefix)
        }
        connection = snowflake.connector.connect(
            **{**given, "port": int(given["port"]), "network_timeout": _SNOWFLAKE_SECONDS},
            session_parameters=dict(SESSION_PARAMETERS),
        )
        with connection, connection.cursor() as cursor:
            cursor.execute(statement)
            return list(cursor.fetchall())

    def _unpacked(self, key: str) -> bytes:
        return gzip.decompress(self.content(key))
