"""Fixtures of contract tests that run on the local stack."""

from __future__ import annotations

import uuid
from collections.abc import Callable, Iterator
from typing import Any

import pytest

from infra.definitions.resource_definitions import registry_table
from prediction_contract.naming.resource_names import Deployment


@pytest.fixture
def registry_on_dynamodb(aws_client: Callable[[str], Any]) -> Iterator[tuple[Any, str]]:
    """A DynamoDB client and the name of an empty registry table."""
    client, name = aws_client("dynamodb"), f"registry-{uuid.uuid4().hex[:8]}"
    definition = registry_table(Deployment(stage="test", account_id="000000000000", region="us-east-1"))
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
