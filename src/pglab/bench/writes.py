"""What each further index costs an INSERT: pages touched, bytes of WAL, pages on disk.

For lesson 05. Unlike the cases of the harness it counts, and needs no
clock: EXPLAIN (ANALYZE, BUFFERS, WAL) of the same INSERT into an empty twin of ``messages``.
"""

from __future__ import annotations

from collections.abc import Sequence
from dataclasses import dataclass
from typing import Any

import psycopg

__all__ = ["Cost", "insert_costs"]


@dataclass(frozen=True)
class Cost:
    """One INSERT.

    Attributes:
        indexes: how many the table had.
        last: the newest of them, as it was asked for; empty if there was none.
        buffers: pages of 8 kB touched, each time it was; reading the source included.
        wal_bytes: written to the log.
        index_pages: pages of 8 kB that all indexes have afterwards.
    """

    indexes: int
    last: str
    buffers: int
    wal_bytes: int
    index_pages: int


def insert_costs(
    connection: psycopg.Connection[Any], indexes: Sequence[str], rows: int = 5_000
) -> list[Cost]:
    """Store the same rows without an index, and again after each index that is added.

    Args:
        connection: in autocommit mode, on a lesson's database. Makes the table ``costs``, and
            drops it at the end.
        indexes: what follows ``CREATE INDEX ON table``, such as ``"(chat_id, sent_at)"``; SQL of
            the lesson's own, not of a stranger's.
        rows: how many messages to store, the oldest first.

    Returns:
        One cost more than there are indexes; the first is without any.

    Raises:
        psycopg.Error: an index cannot be made.
    """
    costs = []
    try:
        connection.execute("DROP TABLE IF EXISTS costs")
        connection.execute("CREATE TABLE costs (LIKE messages) WITH (autovacuum_enabled = off)")
        for number, last in enumerate(["", *indexes]):
            connection.execute("TRUNCATE costs")
            if last:
                connection.execute(f"CREATE INDEX ON costs {last}".encode())
            costs.append(_insert(connection, rows, number, last))
    finally:
        connection.execute("DROP TABLE IF EXISTS costs")
    return costs


def _insert(connection: psycopg.Connection[Any], rows: int, number: int, last: str) -> Cost:
    plan = _one(
        connection,
        "EXPLAIN (ANALYZE, BUFFERS, WAL, TIMING OFF, FORMAT JSON) "
        "INSERT INTO costs SELECT * FROM messages ORDER BY id LIMIT %s",
        rows,
    )[0]["Plan"]
    pages = _one(connection, "SELECT pg_indexes_size('costs') / 8192")
    return Cost(
        number,
        last,
        plan["Shared Hit Blocks"] + plan["Shared Read Blocks"],
        plan["WAL Bytes"],
        pages,
    )


def _one(connection: psycopg.Connection[Any], query: str, *parameters: object) -> Any:
    row = connection.execute(query.encode(), parameters or None).fetchone()
    return row[0] if row else None
