"""Batches published by the product's own rules, with items as the contract defines them."""

from __future__ import annotations

import uuid
from dataclasses import dataclass
from datetime import UTC, datetime, timedelta
from typing import TYPE_CHECKING, Any

from infra.definitions.resource_definitions import online_table
from infra.local.provisioning.provisioned_storage import ensure_table
from prediction_contract.manifests.load_report import LoadEvidence
from prediction_contract.naming.batch import mint_batch_id
from prediction_contract.registry import load_rules, manifest_rules, publication_rules
from prediction_contract.registry.manifest_rules import ManifestFacts
from prediction_contract.registry.records import BatchRecord, ChangeRequest
from prediction_contract.registry.table import RegistryTable
from prediction_contract.rows.checksums import RowTally, batch_checksum
from prediction_contract.rows.row_contract import row_contract
from prediction_contract.rows.schema import PredictionSchema
from prediction_contract.stores.online_item import OnlineItems
from prediction_contract.stores.serving_record import Enrichment, ServingRecord

if TYPE_CHECKING:
    from collections.abc import Callable

    from prediction_contract.naming.resource_names import Deployment
    from prediction_contract.registry.transaction import Transaction

DAY = timedelta(days=1)
SCHEMA = PredictionSchema.from_document(
    {
        "key": "flight",
        "columns": [
            {"name": "flight", "type": "string", "nullable": False},
            {"name": "origin", "type": "string", "nullable": True},
            {"name": "hour", "type": "timestamp", "nullable": True},
            {"name": "probability", "type": "double", "nullable": True},
            {"name": "exact", "type": "decimal(38,10)", "nullable": True},
            {"name": "serial", "type": "long", "nullable": True},
            {"name": "reasons", "type": "json", "nullable": True},
        ],
    }
)
FLIGHT = (
    '{"flight":"AA-1141-JFK","origin":"JFK","hour":"2013-02-01T10:00:00.000000Z","probability":0.1,'
    '"exact":1234567890123456789012345678.0123456789,"serial":9007199254740993,'
    '"reasons":{"carrier":[12345678901234567890.5,null],"größe":"ü"}}'
)


@dataclass(frozen=True, slots=True)
class PublishedModel:
    """A new model whose batches are published one after another."""

    client: Any
    deployment: Deployment
    name: str

    @property
    def registry(self) -> RegistryTable:
        """The deployment's registry."""
        return RegistryTable(self.client, self.deployment.registry_table)

    @property
    def table(self) -> str:
        """The model's online table."""
        return self.deployment.online_table(self.name)

    def publish(
        self,
        *lines: str,
        partition: str = "2013-02-01",
        enrichments: tuple[Enrichment, ...] = (),
        expires_at: datetime | None = None,
        serving: str | None = None,
    ) -> str:
        """Load, verify and publish a batch of these JSON lines; return its batch id."""
        batch_id, checksum = self._load(lines, partition, expires_at)
        told = serving or ServingRecord(SCHEMA, "v7", len(lines), checksum, enrichments).to_json()
        self._release(publication_rules.publish, batch_id, told)
        return batch_id

    def roll_back(self, batch_id: str) -> None:
        """Make a batch live again that was live before."""
        self._release(publication_rules.rollback, batch_id, ServingRecord(SCHEMA, "v7", 1, "0").to_json())

    def load(self, *lines: str, partition: str = "2013-02-01") -> str:
        """Load and verify a batch without publishing it; return its batch id."""
        return self._load(lines, partition, None)[0]

    def hold(self) -> None:
        """Stop automatic publication, which only increments the pointer's sequence."""
        request = ChangeRequest(request_id=uuid.uuid4().hex, actor="test")
        self.registry.carry_out(
            lambda: publication_rules.hold(
                self.registry.live_pointers(self.name, home_region=self.deployment.home),
                request,
                model=self.name,
                held=True,
                now=datetime.now(UTC),
            )
        )

    def _release(self, rule: Callable[..., Transaction], batch_id: str, serving: str) -> None:
        request = ChangeRequest(request_id=uuid.uuid4().hex, actor="test")
        self.registry.carry_out(
            lambda: rule(
                self._batch(batch_id),
                self.registry.live_pointers(self.name, home_region=self.deployment.home),
                request,
                now=datetime.now(UTC),
                minimum_life=DAY,
                retention=DAY,
                serving=serving,
            )
        )

    def _load(self, lines: tuple[str, ...], partition: str, expires_at: datetime | None) -> tuple[str, str]:
        """Load and verify a batch; return its batch id and checksum."""
        now = datetime.now(UTC)
        rows = [row_contract(SCHEMA).accept(line.encode()) for line in lines]
        batch_id = mint_batch_id(self.name, partition, uuid.uuid4().hex, now)
        expire = expires_at or now + 30 * DAY
        for row in rows:
            item = OnlineItems(SCHEMA).build(row, batch_id, int(expire.timestamp()))
            self.client.put_item(TableName=self.table, Item=item)
        checksum = batch_checksum(row.checksum for row in rows)
        self._verify(
            ManifestFacts(
                model=self.name,
                batch_id=batch_id,
                partition=partition,
                manifest_key=f"done/{batch_id.date}/{self.name}/{batch_id}.json",
                manifest_digest="0" * 64,
                row_count=len(rows),
                checksum=checksum,
            ),
            now,
        )
        return batch_id, checksum

    def _batch(self, batch_id: str) -> BatchRecord:
        found = self.registry.batch(self.name, batch_id)
        assert found is not None
        return found

    def _verify(self, facts: ManifestFacts, now: datetime) -> None:
        """Take a batch from its done file to verified by the registry's rules."""
        carry_out, batch_id, token = self.registry.carry_out, facts.batch_id, uuid.uuid4().hex
        carry_out(lambda: manifest_rules.register_batch(facts, self.registry.batch(self.name, batch_id)))
        soon = now + timedelta(minutes=10)
        carry_out(lambda: load_rules.claim_load(self._batch(batch_id), token=token, confirm_by=soon, now=now))
        carry_out(lambda: load_rules.confirm_claim(self._batch(batch_id), token=token, job_run_id="jr_1"))
        carry_out(
            lambda: load_rules.begin_writing(
                self._batch(batch_id),
                token=token,
                manifest_digest=facts.manifest_digest,
                cleaning="{}",
                now=now,
            )
        )
        # The expiry that the registry records; a test may have written items with another one.
        carry_out(
            lambda: load_rules.complete_load(
                self._batch(batch_id), token=token, expire_at=now + 30 * DAY, now=now, retention=DAY
            )
        )
        loaded = RowTally(rows=facts.row_count, checksum=int(facts.checksum))
        evidence = LoadEvidence(
            attempt=1, dynamodb=loaded, snowflake=loaded, quarantined=RowTally(rows=0, checksum=0)
        )
        carry_out(lambda: load_rules.verify_load(self._batch(batch_id), evidence, now=now, retention=DAY))


def new_model(client: Any, deployment: Deployment) -> PublishedModel:
    """Return a new model with its table."""
    model = PublishedModel(client, deployment, f"m{uuid.uuid4().hex[:12]}")
    ensure_table(client, online_table(deployment, model.name))
    return model
