"""An in-memory registry and projection that count the requests of their clients.

The registry applies changes without checking their conditions; the tests of the registry check those.
"""

from __future__ import annotations

import json
import re
import sqlite3
from bisect import bisect_left, insort
from collections import Counter
from collections.abc import Iterable, Iterator, Mapping, Sequence
from dataclasses import dataclass, field
from typing import Any, Self

from prediction_contract.registry.stored_record import Attributes, encode_value

# DynamoDB ends a page at this size.
_PAGE_BYTES = 1_000_000
_CLAUSES = re.compile("(SET|REMOVE|ADD) (.*?)(?= (?:SET|REMOVE|ADD) |$)")

_TYPES = re.compile(r"::[A-Z_]+(?:\([0-9, ]+\))?")


@dataclass
class CannedRegistry:
    """The records of one table behind the methods of boto3's DynamoDB client, with counts of requests.

    Attributes:
        requests: The number of requests by operation; each page of a query is one.
        items: The number of items read.
        bytes: The size of these items as JSON.
    """

    requests: Counter[str] = field(default_factory=Counter)
    items: int = 0
    bytes: int = 0
    _items: dict[tuple[str, str], dict[str, Any]] = field(default_factory=dict)
    _sorted: dict[str, list[str]] = field(default_factory=dict)

    def put(self, attributes: Attributes) -> None:
        """Put a record, replacing an existing one; not counted as a request."""
        self._keep({name: encode_value(value) for name, value in attributes.items()})

    def reset(self) -> None:
        """Set the counts to zero."""
        self.requests, self.items, self.bytes = Counter(), 0, 0

    def get_item(self, *, Key: Mapping[str, Any], **_: Any) -> dict[str, Any]:  # noqa: N803  # boto3's name
        """Answer like boto3."""
        self.requests["GetItem"] += 1
        return self._answer(Key)

    def transact_get_items(self, *, TransactItems: Iterable[Mapping[str, Any]]) -> dict[str, Any]:  # noqa: N803
        """Answer like boto3."""
        self.requests["TransactGetItems"] += 1
        return {"Responses": [self._answer(item["Get"]["Key"]) for item in TransactItems]}

    def transact_write_items(self, *, TransactItems: Iterable[Mapping[str, Any]]) -> dict[str, Any]:  # noqa: N803
        """Apply the updates of a transaction; its condition checks are ignored."""
        self.requests["TransactWriteItems"] += 1
        for item in TransactItems:
            if "Update" in item:
                self._update(item["Update"])
        return {}

    def describe_table(self, **_: Any) -> dict[str, Any]:
        """Answer like boto3 for an existing table."""
        self.requests["DescribeTable"] += 1
        return {"Table": {"TableStatus": "ACTIVE"}}

    def describe_time_to_live(self, **_: Any) -> dict[str, Any]:
        """Answer like boto3 for a table whose items expire."""
        self.requests["DescribeTimeToLive"] += 1
        return {"TimeToLiveDescription": {"TimeToLiveStatus": "ENABLED"}}

    def get_paginator(self, operation: str) -> CannedRegistry:
        """Return itself as the paginator of queries; scans are not supported."""
        if operation != "query":
            raise NotImplementedError(operation)
        return self

    def paginate(
        self,
        *,
        ExpressionAttributeValues: Mapping[str, Mapping[str, str]],  # noqa: N803
        ScanIndexForward: bool,  # noqa: N803
        PaginationConfig: Mapping[str, int | None],  # noqa: N803
        **_: Any,
    ) -> Iterator[dict[str, Any]]:
        """Yield the pages of a range of one model's records; each is counted when it is requested."""
        asked = {name: value["S"] for name, value in ExpressionAttributeValues.items()}
        model = asked[":model"]
        names = self._sorted.get(model, [])
        found = names[bisect_left(names, asked[":first"]) : bisect_left(names, asked[":last"] + "\0")]
        left = list(found if ScanIndexForward else reversed(found))
        limit = PaginationConfig.get("PageSize") or len(left) + 1
        while True:
            page, size = [], 0
            while left and len(page) < limit and size < _PAGE_BYTES:
                item = self._items[model, left.pop(0)]
                page.append(item)
                size += len(json.dumps(item))
            self.requests["Query"] += 1
            self.items += len(page)
            self.bytes += size
            yield {"Items": page}
            if not left:
                return

    def _answer(self, key: Mapping[str, Any]) -> dict[str, Any]:
        item = self._items.get((key["model"]["S"], key["record"]["S"]))
        if item is None:
            return {}
        self.items += 1
        self.bytes += len(json.dumps(item))
        return {"Item": item}

    def _update(self, update: Mapping[str, Any]) -> None:
        names, values = update["ExpressionAttributeNames"], update.get("ExpressionAttributeValues", {})
        key = update["Key"]
        item: dict[str, Any] = {**key, **self._items.get((key["model"]["S"], key["record"]["S"]), {})}
        for clause, text in _CLAUSES.findall(update["UpdateExpression"]):
            for part in text.split(", "):
                name, *rest = part.replace(" = ", " ").split()
                if clause == "REMOVE":
                    item.pop(names[name], None)
                elif clause == "SET":
                    item[names[name]] = values[rest[0]]
                else:
                    members = {*item.get(names[name], {"SS": []})["SS"], *values[rest[0]]["SS"]}
                    item[names[name]] = {"SS": sorted(members)}
        self._keep(item)

    def _keep(self, item: dict[str, Any]) -> None:
        model, record = item["model"]["S"], item["record"]["S"]
        if (model, record) not in self._items:
            insort(self._sorted.setdefault(model, []), record)
        self._items[model, record] = item


class CannedProjection:
    """Snowflake's projection of publications in SQLite; serves as connection and cursor.

    Attributes:
        statements: The number of statements.
        rows: The number of returned rows.
    """

    def __init__(self) -> None:
        self._connection = sqlite3.connect(":memory:", isolation_level=None)
        self._answer: list[tuple[Any, ...]] = []
        self.statements = 0
        self.rows = 0

    def cursor(self) -> Self:
        """Return itself."""
        return self

    def __enter__(self) -> Self:
        return self

    def __exit__(self, *_: object) -> None:
        """Leave the connection open."""

    def insert(self, table: str, values: Sequence[Any]) -> None:
        """Insert a row into a table; not counted as a statement."""
        places = ", ".join("?" * len(values))
        self._connection.execute(f"INSERT INTO {table} VALUES ({places})", values)  # noqa: S608  # ours

    def execute(self, statement: str, parameters: Sequence[Any] | None = None) -> None:
        """Execute a statement."""
        self.statements += 1
        made = self._connection.execute(_TYPES.sub("", statement).replace("%s", "?"), parameters or ())
        self._answer = made.fetchall()
        if statement.startswith(("INSERT", "DELETE")):
            self._answer = [(made.rowcount,)]
        self.rows += len(self._answer)

    def fetchall(self) -> list[tuple[Any, ...]]:
        """Return the rows of the last statement."""
        return self._answer
