"""Tests that transactions behave on DynamoDB as on the in-memory table of other tests."""

from __future__ import annotations

from typing import Any

import pytest

from prediction_contract.registry.stored_record import decode_item
from prediction_contract.registry.transaction import Transaction
from tests.contract.registry_machine import RegistryMachine
from tests.contract.rules_machine import RulesMachine, search
from tests.contract.version_machine import VersionMachine
from tests.fakes.registry_table import FakeRegistryTable

pytestmark = pytest.mark.stack


@pytest.mark.parametrize("machine", [RegistryMachine, VersionMachine])
def test_dynamodb_agrees_with_in_memory_table(
    registry_on_dynamodb: tuple[Any, str], machine: type[RulesMachine]
) -> None:
    """Random histories give the same verdicts and records in memory and through DynamoDB's own API."""
    client, name = registry_on_dynamodb
    compared = {"applied": 0, "refused": 0}

    class ComparedTable(FakeRegistryTable):
        """Applies each transaction to both tables, and compares verdicts and written records."""

        def __init__(self, disabled: frozenset[str] = frozenset()) -> None:
            super().__init__(disabled)
            for item in client.scan(TableName=name, ConsistentRead=True)["Items"]:
                client.delete_item(TableName=name, Key={key: item[key] for key in ("model", "record")})

        def apply(self, rule: str, transaction: Transaction) -> str | None:
            verdict = super().apply(rule, transaction)
            if not transaction.writes:
                return verdict
            try:
                client.transact_write_items(TransactItems=transaction.items(name))
                refused = False
            except client.exceptions.TransactionCanceledException:
                refused = True
            assert refused == (verdict is not None), f"{rule}: {verdict}, DynamoDB refused: {refused}"
            compared["refused" if refused else "applied"] += 1
            for write in transaction.writes:
                answer = client.get_item(TableName=name, Key=write.key.item(), ConsistentRead=True)
                assert decode_item(answer.get("Item", {})) == dict(self.read(write.key)), (
                    f"{rule}: {write.key}"
                )
            return verdict

    class ComparedMachine(machine):
        """The machine on the compared table."""

        table_class = ComparedTable

    search(ComparedMachine, 20)
    assert min(compared.values()) > 30, compared
