"""SQLite, as Python brings it."""

from __future__ import annotations

import contextlib
import sqlite3
from collections.abc import Mapping, Sequence
from datetime import datetime
from pathlib import Path
from typing import Any, Final

from pglab.comparison.contract import AS_INSTALLED, Refused, Setup
from pglab.comparison.sql_session import SqlSession, as_json, naive_utc

__all__ = ["CAREFUL", "FOREIGN_KEYS", "SqliteEngine"]

FOREIGN_KEYS: Final = "foreign keys on"
CAREFUL: Final = "with care"

_WAIT_S = 0.3
_PATIENT_S = 5.0  # what sqlite3.connect waits when nobody says otherwise
_TABLES = """
CREATE TABLE instances (
    name {text100} PRIMARY KEY, state {text20} NOT NULL, received INTEGER NOT NULL){strict};
CREATE TABLE chats (
    id INTEGER PRIMARY KEY, instance {text100} NOT NULL REFERENCES instances,
    jid {text100} NOT NULL, name {text200}){strict};
CREATE TABLE messages (
    id INTEGER PRIMARY KEY, instance {text100} NOT NULL REFERENCES instances,
    chat INTEGER NOT NULL REFERENCES chats, whatsapp_id {text40} NOT NULL,
    from_me {boolean} NOT NULL,
    status {text20} NOT NULL
        CHECK (status IN ('error', 'pending', 'server_ack', 'delivery_ack', 'read', 'played')),
    body TEXT, event {json} NOT NULL, sent_at {time} NOT NULL{checks},
    UNIQUE (instance, whatsapp_id)){strict};
CREATE INDEX messages_inbox ON messages (instance, chat, sent_at);
"""
_LENGTHS = (20, 40, 100, 200)
_TYPES = {
    **{f"text{length}": f"VARCHAR({length})" for length in _LENGTHS},
    "boolean": "BOOLEAN", "json": "JSON", "time": "TIMESTAMP", "strict": "", "checks": "",
}  # fmt: skip
# STRICT tables know neither lengths, nor times, nor JSON: what the types do not say, checks must.
_STRICT_TYPES = {
    **{f"text{length}": "TEXT" for length in _LENGTHS},
    "boolean": "INTEGER", "json": "TEXT", "time": "TEXT", "strict": " STRICT",
    "checks": """,
    CHECK (json_valid(event)), CHECK (length(whatsapp_id) <= 40),
    CHECK (datetime(sent_at) IS NOT NULL)""",
}  # fmt: skip
_PATH_INDEX = "CREATE INDEX messages_event ON messages (json_extract(event, '$.id'))"


class SqliteEngine:
    """One file.

    Args:
        path: where; it is made when it is not there.
    """

    name = "sqlite"
    product = "SQLite"
    library = True
    version = sqlite3.sqlite_version
    setups: Mapping[str, Setup] = {
        AS_INSTALLED: Setup("nothing is changed"),
        FOREIGN_KEYS: Setup(
            "every connection says PRAGMA foreign_keys = ON", frozenset({"broken_rules"})
        ),
        CAREFUL: Setup(
            "every connection says PRAGMA foreign_keys = ON, and tables are STRICT with CHECKs",
            frozenset(
                {"finds_in_json", "wrong_values", "broken_rules", "two_writers", "four_writers"}
            ),
        ),
    }

    def __init__(self, path: Path | str) -> None:
        self.path = Path(path)

    def prepare(self, setup: str) -> None:
        """Make the file anew."""
        self.clear()
        with contextlib.closing(self._connection(setup)) as connection:
            types = _STRICT_TYPES if setup == CAREFUL else _TYPES
            if setup == CAREFUL:
                connection.execute("PRAGMA journal_mode = WAL")
            connection.executescript(_TABLES.format(**types))

    def index_json(self, setup: str) -> None:
        """Make an index on one path, where this set-up knows it beforehand."""
        if setup == CAREFUL:
            with contextlib.closing(self._connection(setup)) as connection:
                connection.execute(_PATH_INDEX)

    def _connection(self, setup: str, *, patient: bool = False) -> sqlite3.Connection:
        # Transactions are ours to begin and end: the module's own idea of them is switched off.
        wait_s = _PATIENT_S if patient else _WAIT_S
        connection = sqlite3.connect(self.path, timeout=wait_s, isolation_level=None)
        if setup in (FOREIGN_KEYS, CAREFUL):
            connection.execute("PRAGMA foreign_keys = ON")
        return connection

    def connect(self, setup: str, *, patient: bool = False) -> SqliteSession:
        """Open a connection."""
        return SqliteSession(self._connection(setup, patient=patient))

    def settings(self) -> int:
        """Return how many settings it knows."""
        with contextlib.closing(self._connection(AS_INSTALLED)) as connection:
            return len(connection.execute("PRAGMA pragma_list").fetchall())

    def json_kind(self) -> str:
        """Return how the JSON is stored, asked of a stored row."""
        with contextlib.closing(self._connection(AS_INSTALLED)) as connection:
            declared = {
                row[1]: row[2] for row in connection.execute("PRAGMA table_info(messages)")
            }["event"]
            row = connection.execute("SELECT typeof(event) FROM messages LIMIT 1").fetchone()
        return f"declared {declared}, stored as {row[0] if row else 'nothing'}"

    def clear(self) -> None:
        """Remove the file."""
        for ending in ("", "-journal", "-wal", "-shm"):
            Path(f"{self.path}{ending}").unlink(missing_ok=True)

    def address(self) -> dict[str, Any]:
        """Return the file's path."""
        return {"path": str(self.path)}


class SqliteSession(SqlSession):
    """One connection to the file."""

    mark = "?"

    def __init__(self, connection: sqlite3.Connection) -> None:
        self._connection = connection

    def bound(self, value: Any) -> Any:
        """Return a value as SQLite takes it: it has neither times nor JSON of its own."""
        if isinstance(value, dict):
            return as_json(value)
        if isinstance(value, datetime):
            return naive_utc(value).isoformat(sep=" ")
        return value

    def run(self, sql: str, values: Sequence[Any] = ()) -> list[tuple[Any, ...]]:
        """Run one statement."""
        try:
            return self._connection.execute(sql, values).fetchall()
        except sqlite3.IntegrityError as error:
            wrong = "cannot store" in str(error) or "datatype mismatch" in str(error)
            raise Refused(str(error), "value" if wrong else "rule") from error
        except sqlite3.OperationalError as error:
            locked = "locked" in str(error) or "busy" in str(error)
            raise Refused(str(error), "wait" if locked else "other") from error

    def run_many(self, sql: str, rows: Sequence[Sequence[Any]]) -> None:
        """Run one statement for each of the rows."""
        try:
            self._connection.executemany(sql, rows)
        except sqlite3.Error as error:
            raise Refused(str(error), "other") from error

    def begin(self) -> None:
        """Begin a transaction."""
        self.run("BEGIN")

    def rollback(self) -> None:
        """Undo the transaction."""
        if self._connection.in_transaction:
            self.run("ROLLBACK")

    def tables(self) -> set[str]:
        """Return the names of all tables."""
        return {name for (name,) in self.run("SELECT name FROM sqlite_master WHERE type = 'table'")}

    def by_id_in_json(self, identifier: str) -> tuple[int, int]:
        """Ask the JSON by its path: SQLite has no operator for containment."""
        asked = "SELECT count(*) FROM messages WHERE json_extract(event, '$.id') = ?"
        found = int(self.run(asked, [identifier])[0][0])
        plan = self.run(f"EXPLAIN QUERY PLAN {asked}", [identifier])[0][3]
        return found, self.count("messages") if "SCAN" in plan else found

    def close(self) -> None:
        """Close it."""
        self._connection.close()
