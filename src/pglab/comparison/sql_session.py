"""What the three relational engines have in common, whatever their placeholders look like."""

from __future__ import annotations

import json
from abc import ABC, abstractmethod
from collections.abc import Sequence
from datetime import datetime
from typing import Any, ClassVar

from pglab.comparison.contract import Row

__all__ = ["SqlSession", "as_json"]

_INBOX = """
    SELECT chat, whatsapp_id
    FROM (SELECT chat, whatsapp_id,
                 row_number() OVER (PARTITION BY chat ORDER BY sent_at DESC, id DESC) AS place
          FROM messages WHERE instance = {mark}) AS ranked
    WHERE place = 1 ORDER BY chat"""
_JOINED = """
    SELECT instances.name, chats.jid, count(*)
    FROM instances
    JOIN chats ON chats.instance = instances.name
    JOIN messages ON messages.chat = chats.id
    GROUP BY instances.name, chats.id, chats.jid"""


def as_json(value: object) -> str:
    """Return a value as JSON text."""
    return json.dumps(value, ensure_ascii=False, separators=(",", ":"))


class SqlSession(ABC):
    """A session that speaks SQL; ``run`` is the engine's own."""

    mark: ClassVar[str] = "%s"

    @abstractmethod
    def run(self, sql: str, values: Sequence[Any] = ()) -> list[tuple[Any, ...]]:
        """Run one statement and return its rows, none where it has none.

        Raises:
            Refused: the database said no.
        """

    @abstractmethod
    def run_many(self, sql: str, rows: Sequence[Sequence[Any]]) -> None:
        """Run one statement for each of the rows."""

    @abstractmethod
    def begin(self) -> None:
        """Begin a transaction."""

    @abstractmethod
    def rollback(self) -> None:
        """Undo it."""

    @abstractmethod
    def tables(self) -> set[str]:
        """Return the names of all tables."""

    def bound(self, value: Any) -> Any:
        """Return a value as this engine's driver takes it."""
        return as_json(value) if isinstance(value, dict) else value

    def commit(self) -> None:
        """End the transaction; the work is kept."""
        self.run("COMMIT")

    def insert(self, table: str, row: Row) -> None:
        """Store one row."""
        self.run(self._insert(table, row), [self.bound(value) for value in row.values()])

    def insert_many(self, table: str, rows: Sequence[Row]) -> None:
        """Store rows in one transaction."""
        bound = [[self.bound(value) for value in row.values()] for row in rows]
        self.begin()
        self.run_many(self._insert(table, rows[0]), bound)
        self.commit()

    def _insert(self, table: str, row: Row) -> str:
        marks = ", ".join([self.mark] * len(row))
        return f"INSERT INTO {table} ({', '.join(row)}) VALUES ({marks})"  # noqa: S608

    def update(self, table: str, where: Row, change: Row) -> None:
        """Set columns of the rows that have these values."""
        changes = ", ".join(f"{name} = {self.mark}" for name in change)
        values = [self.bound(value) for value in (*change.values(), *where.values())]
        self.run(f"UPDATE {table} SET {changes}{self._where(where)}", values)  # noqa: S608

    def add(self, instance: str, n: int = 1) -> None:
        """Count ``n`` more messages of an instance."""
        self.run(
            f"UPDATE instances SET received = received + {self.mark} "  # noqa: S608
            f"WHERE name = {self.mark}",
            [n, instance],
        )

    def delete(self, table: str, where: Row) -> None:
        """Remove the rows that have these values."""
        self.run(
            f"DELETE FROM {table}{self._where(where)}",  # noqa: S608
            [self.bound(value) for value in where.values()],
        )

    def count(self, table: str, where: Row | None = None) -> int:
        """Return how many rows have these values."""
        asked = where or {}
        found = self.run(
            f"SELECT count(*) FROM {table}{self._where(asked)}",  # noqa: S608
            [self.bound(value) for value in asked.values()],
        )
        return int(found[0][0])

    def values(self, table: str, column: str, where: Row) -> list[Any]:
        """Return a column of the rows that have these values."""
        found = self.run(
            f"SELECT {column} FROM {table}{self._where(where)}",  # noqa: S608
            [self.bound(value) for value in where.values()],
        )
        return [value for (value,) in found]

    def _where(self, where: Row) -> str:
        if not where:
            return ""
        return " WHERE " + " AND ".join(f"{name} = {self.mark}" for name in where)

    def make_table(self, name: str) -> None:
        """Make one more table."""
        self.run(f"CREATE TABLE {name} (id varchar(40) PRIMARY KEY, n integer)")

    def inbox(self, instance: str) -> list[tuple[int, str]]:
        """Return the newest message of each chat."""
        found = self.run(_INBOX.format(mark=self.mark), [instance])
        return [(int(chat), str(identifier)) for chat, identifier in found]

    def joined(self) -> list[tuple[str, str, int]]:
        """Return instance, chat and number of messages of each chat that has any."""
        return sorted((str(name), str(jid), int(n)) for name, jid, n in self.run(_JOINED))


def naive_utc(value: datetime) -> datetime:
    """Return a time without its zone, in UTC, for engines that know no zones."""
    from datetime import UTC

    return value.astimezone(UTC).replace(tzinfo=None)
