"""Snowflake's projection of the publications, in SQLite behind the connector's cursor, with counts."""

from __future__ import annotations

import re
import sqlite3
from collections.abc import Sequence
from typing import Any, Self

_TYPES = re.compile(r"::[A-Z_]+(?:\([0-9, ]+\))?")


class CannedProjection:
    """A connection and its cursor in one.

    Attributes:
        statements: How many were sent.
        rows: How many rows came back.
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
        """Keep everything."""

    def insert(self, table: str, values: Sequence[Any]) -> None:
        """Put a row into a table; it counts as no statement."""
        places = ", ".join("?" * len(values))
        self._connection.execute(f"INSERT INTO {table} VALUES ({places})", values)  # noqa: S608  # ours

    def execute(self, statement: str, parameters: Sequence[Any] | None = None) -> None:
        """Carry a statement out."""
        self.statements += 1
        made = self._connection.execute(_TYPES.sub("", statement).replace("%s", "?"), parameters or ())
        self._answer = made.fetchall()
        if statement.startswith(("INSERT", "DELETE")):
            self._answer = [(made.rowcount,)]
        self.rows += len(self._answer)

    def fetchall(self) -> list[tuple[Any, ...]]:
        """Return the rows of the last statement."""
        return self._answer
