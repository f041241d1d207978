"""Durable records of the executor: every change is on disk before it becomes visible."""

from __future__ import annotations

import contextlib
import fcntl
import json
import sqlite3
import threading
from typing import TYPE_CHECKING, Any

if TYPE_CHECKING:
    from collections.abc import Callable
    from pathlib import Path

Record = dict[str, Any]

_SCHEMA = """
CREATE TABLE records (
    sequence INTEGER PRIMARY KEY AUTOINCREMENT,
    kind TEXT NOT NULL,
    name TEXT NOT NULL,
    body TEXT NOT NULL,
    UNIQUE (kind, name)
)
"""


class StateCorruptError(Exception):
    """The durable state cannot be read. It is kept; a person must decide what to do with it."""


def _check(database: sqlite3.Connection) -> None:
    verdict = database.execute("PRAGMA quick_check").fetchone()[0]
    if verdict != "ok":
        raise sqlite3.DatabaseError(verdict)
    # SQLite opens an emptied file as a new database, so read the table.
    database.execute("SELECT 1 FROM records LIMIT 1")


class RecordStore:
    """JSON records by kind and name in one SQLite file, used by one executor at a time.

    Args:
        state_dir: The folder of the file; created with access for the current user only.

    Raises:
        StateCorruptError: The file is damaged, or another executor uses it.
    """

    def __init__(self, state_dir: Path) -> None:
        state_dir.mkdir(parents=True, exist_ok=True, mode=0o700)
        self._path = state_dir / "executor.sqlite3"
        self._lock = threading.RLock()
        self._owner = (state_dir / "executor.lock").open("w")
        try:
            fcntl.flock(self._owner, fcntl.LOCK_EX | fcntl.LOCK_NB)
        except BlockingIOError as error:
            raise StateCorruptError(
                f"{state_dir} is in use by another job executor. Stop it first, or use another --state-dir."
            ) from error
        self._database = self._open()

    def _open(self) -> sqlite3.Connection:
        try:
            if not self._path.exists():
                self._create()
            database = sqlite3.connect(self._path, check_same_thread=False, isolation_level=None, timeout=30)
            _check(database)
            database.execute("PRAGMA journal_mode=WAL")
            database.execute("PRAGMA synchronous=FULL")
            for (body,) in database.execute("SELECT body FROM records"):
                json.loads(body)
        except (sqlite3.DatabaseError, ValueError) as error:
            raise StateCorruptError(
                f"The job executor's state {self._path} is damaged ({error}). It was left as it is. Restore "
                f"it from a copy, or move it and its -wal and -shm files away to start without any job "
                f"definition or history."
            ) from error
        return database

    def _create(self) -> None:
        """Create the file atomically, so that an existing file without the table is known to be damaged."""
        if self._path.with_name(f"{self._path.name}-wal").exists():
            # SQLite would apply the -wal file's records, perhaps half of a change, to the new file.
            raise sqlite3.DatabaseError("the file is missing, but its -wal file exists")
        draft = self._path.with_suffix(".draft")
        draft.unlink(missing_ok=True)
        with contextlib.closing(sqlite3.connect(draft)) as database:
            database.execute(_SCHEMA)
            database.commit()
        draft.replace(self._path)

    def insert(self, kind: str, name: str, record: Record) -> bool:
        """Add a record; return False if the name exists."""
        with self._lock:
            cursor = self._database.execute(
                "INSERT OR IGNORE INTO records (kind, name, body) VALUES (?, ?, ?)",
                (kind, name, json.dumps(record)),
            )
            return cursor.rowcount == 1

    def get(self, kind: str, name: str) -> Record | None:
        """Return one record, or None."""
        with self._lock:
            row = self._database.execute(
                "SELECT body FROM records WHERE kind = ? AND name = ?", (kind, name)
            ).fetchone()
        return None if row is None else json.loads(row[0])

    def all(self, kind: str) -> list[Record]:
        """Return all records of a kind, oldest first."""
        with self._lock:
            rows = self._database.execute(
                "SELECT body FROM records WHERE kind = ? ORDER BY sequence", (kind,)
            ).fetchall()
        return [json.loads(body) for (body,) in rows]

    def update(self, kind: str, name: str, change: Callable[[Record], None]) -> Record:
        """Apply a change to one record atomically; if the change raises, the record stays as it was."""
        with self._lock:
            record = self.get(kind, name)
            if record is None:
                raise KeyError(f"{kind} {name}")
            change(record)
            self._database.execute(
                "UPDATE records SET body = ? WHERE kind = ? AND name = ?", (json.dumps(record), kind, name)
            )
            return record

    def delete(self, kind: str, name: str) -> None:
        """Remove a record if it exists."""
        with self._lock:
            self._database.execute("DELETE FROM records WHERE kind = ? AND name = ?", (kind, name))

    def exclusively(self) -> threading.RLock:
        """Return the lock to hold from a check until the write that depends on it."""
        return self._lock

    def close(self) -> None:
        """Flush the database and release the state directory."""
        with self._lock:
            self._database.close()
            self._owner.close()
