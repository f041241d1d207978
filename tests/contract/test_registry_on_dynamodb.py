"""The rendered transactions mean to DynamoDB what their conditions mean to the rules' tests."""

from __future__ import annotations

import uuid
from collections.abc import Callable, Iterator
from typing import Any

import pytest
from hypothesis.stateful import run_state_machine_as_test

from infra.resource_definitions import registry_table as registry_definition
from prediction_contract.registry.attribute_values import decode_item
from prediction_contract.registry.transaction import Transaction
from prediction_contract.resource_names import Deployment
from tests.contract.registry_machine import RegistryMachine, independent_histories
from tests.fakes.registry_table import FakeRegistryTable

pytestmark = pytest.mark.stack


@pytest.fixture
def registry_table(aws_client: Callable[[str], Any]) -> Iterator[tuple[Any, str]]:
    """A registry table of the test's own, and a client for it."""
    client, name = aws_client("dynamodb"), f"registry-{uuid.uuid4().hex[:8]}"
    definition = registry_definition(Deployment(stage="test", account_id="000000000000", region="us-east-1"))
    keys = {definition.partition_key: "HASH", definition.sort_key: "RANGE"}
    client.create_table(
        TableName=name,
        KeySchema=[{"AttributeName": key, "KeyType": kind} for key, kind in keys.items()],
        AttributeDefinitions=[{"AttributeName": key, "AttributeType": "S"} for key in keys],
        BillingMode=definition.billing_mode,
    )
    client.get_waiter("table_exists").wait(TableName=name, WaiterConfig={"Delay": 1, "MaxAttempts": 30})
    yield client, name
    client.delete_table(TableName=name)


def test_dynamodb_judges_every_transaction_as_the_rules_do(registry_table: tuple[Any, str]) -> None:
    """Random histories give the same verdicts and records in memory and through DynamoDB's own API."""
    client, name = registry_table
    compared = {"applied": 0, "refused": 0}

    class ComparedTable(FakeRegistryTable):
        """Applies to both, and compares what they say and what the written records then hold."""

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

    class ComparedMachine(RegistryMachine):
        """The same histories on both tables."""

        table_class = ComparedTable

    run_state_machine_as_test(
        ComparedMachine,
        settings=independent_histories(20),
    )
    assert min(compared.values()) > 30, compared
