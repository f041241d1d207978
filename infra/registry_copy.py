"""Copy a restored table's records back to the registry: `mlpipe registry-copy prod --from <table>`.

DynamoDB restores into a new table, but the registry's name is fixed. Without `--write` the command only lists
the differences. With `--write` it first copies entries and batches and then pointers, so that no pointer
refers to a missing batch. Then it deletes records that the restored table lacks. Nothing else may write to
the registry while the command runs.
"""

from __future__ import annotations

import argparse
import os
import sys
from dataclasses import dataclass
from pathlib import Path
from typing import TYPE_CHECKING, Any

import boto3
from botocore.exceptions import BotoCoreError, ClientError

from infra.definitions.resource_definitions import registry_table
from infra.stages import stage_in
from model_declaration.project import Project
from prediction_contract.errors import ContractError

if TYPE_CHECKING:
    from collections.abc import Iterator, Mapping

_POINTERS = "live#"
_KEY = ("model", "record")

Key = tuple[str, str]
Item = dict[str, Any]


@dataclass(frozen=True, slots=True)
class Difference:
    """A record that differs from the restored table.

    Attributes:
        key: The model and the record's name.
        present: The present item; None if there is none.
        restored: The item to write; None to delete the record.
    """

    key: Key
    present: Item | None
    restored: Item | None

    def __str__(self) -> str:
        """Return the difference as one line."""
        verb = "delete" if self.restored is None else "add" if self.present is None else "change"
        return f"{verb} {self.key[0]} {self.key[1]}"


def differences(dynamodb: Any, table: str, restored: str, model: str | None = None) -> list[Difference]:
    """Return the differences in the order in which they must be written.

    Args:
        dynamodb: A boto3 client of the home region.
        table: The registry.
        restored: The name of the restored table.
        model: The only model to compare; None for all.
    """
    present, wanted = _records(dynamodb, table, model), _records(dynamodb, restored, model)
    found = [
        Difference(key, present.get(key), wanted.get(key))
        for key in sorted(present.keys() | wanted.keys())
        if present.get(key) != wanted.get(key)
    ]
    return sorted(found, key=_write_order)


def write(dynamodb: Any, table: str, changes: list[Difference]) -> None:
    """Write differences, each on condition that its record has not changed since it was read.

    Raises:
        botocore.exceptions.ClientError: DynamoDB refused: `ConditionalCheckFailedException` if a record has
            changed since then. To continue, compare and write again.
    """
    for change in changes:
        condition = _is_unchanged_condition(change.present)
        if change.restored is not None:
            dynamodb.put_item(TableName=table, Item=change.restored, **condition)
        else:
            key = {name: {"S": value} for name, value in zip(_KEY, change.key, strict=True)}
            dynamodb.delete_item(TableName=table, Key=key, **condition)


def _write_order(change: Difference) -> int:
    if change.restored is None:
        return 2
    return int(change.key[1].startswith(_POINTERS))


def _is_unchanged_condition(present: Item | None) -> dict[str, Any]:
    if present is None:
        return {
            "ConditionExpression": "attribute_not_exists(#k)",
            "ExpressionAttributeNames": {"#k": _KEY[0]},
        }
    attributes = sorted(present.items())
    names = {f"#n{number}": name for number, (name, _) in enumerate(attributes)}
    values = {f":v{number}": value for number, (_, value) in enumerate(attributes)}
    equal = (f"{name} = {value}" for name, value in zip(names, values, strict=True))
    return {
        "ConditionExpression": " AND ".join(equal),
        "ExpressionAttributeNames": names,
        "ExpressionAttributeValues": values,
    }


def _records(dynamodb: Any, table: str, model: str | None) -> Mapping[Key, Item]:
    return {
        (item[_KEY[0]]["S"], item[_KEY[1]]["S"]): _with_sorted_sets(item)
        for item in _items(dynamodb, table, model)
    }


def _items(dynamodb: Any, table: str, model: str | None) -> Iterator[Item]:
    request: dict[str, Any] = {"TableName": table, "ConsistentRead": True}
    operation = "scan"
    if model is not None:
        operation = "query"
        request |= {
            "KeyConditionExpression": "#m = :m",
            "ExpressionAttributeNames": {"#m": _KEY[0]},
            "ExpressionAttributeValues": {":m": {"S": model}},
        }
    for page in dynamodb.get_paginator(operation).paginate(**request):
        yield from page["Items"]


def _with_sorted_sets(item: Item) -> Item:
    """Return an item with its sets sorted, because DynamoDB returns them in any order."""
    return {
        name: {kind: sorted(content) if kind in {"SS", "NS"} else content for kind, content in value.items()}
        for name, value in item.items()
    }


def main(arguments: list[str] | None = None) -> int:
    """Print the differences, or write them; return 1 if that fails."""
    parser = argparse.ArgumentParser(prog="python -m infra.registry_copy", description=__doc__)
    parser.add_argument("stage", help="a stage of stages.yaml")
    parser.add_argument("--from", dest="restored", required=True, metavar="TABLE", help="the restored table")
    parser.add_argument("--model", help="copy only this model's records; default: all models")
    parser.add_argument("--write", action="store_true", help="write the changes to the registry")
    options = parser.parse_args(arguments)
    try:
        project = Project.find(os.environ, Path.cwd())
        deployment = stage_in(project.stages_file, options.stage).deployment()
    except ContractError as error:
        sys.stderr.write(f"{error}\n")
        return 1
    dynamodb, table = boto3.client("dynamodb", region_name=deployment.home), registry_table(deployment).name
    try:
        changes = differences(dynamodb, table, options.restored, options.model)
        sys.stdout.writelines(f"{change}\n" for change in changes)
        if options.write:
            write(dynamodb, table, changes)
    except (ClientError, BotoCoreError) as error:
        sys.stderr.write(f"The records of {options.restored} were not all copied to {table}: {error}\n")
        return 1
    if not changes:
        sys.stderr.write(f"{table} has the same records as {options.restored}.\n")
        return 0
    if options.write:
        sys.stderr.write(f"Wrote {len(changes)} changes to {table}.\n")
    else:
        sys.stderr.write(f"{len(changes)} records of {table} differ. Run this with --write to copy them.\n")
    return 0


if __name__ == "__main__":
    sys.exit(main())
