"""From a transaction in PostgreSQL to a queue in Redis, with no message lost on the way.

What has arrived is as safe as Redis is.
"""

from __future__ import annotations

import zlib
from collections.abc import Callable, Mapping, Sequence
from typing import TYPE_CHECKING, Any, Final

from psycopg.pq import TransactionStatus
from psycopg.rows import tuple_row

from pglab.errors import ConfigError
from pglab.queues.message import as_json

if TYPE_CHECKING:
    import psycopg

    from pglab.queues.stream import StreamQueue

__all__ = ["Outbox", "Relay"]

# Ids are given when a row is inserted, not when it is committed. Transactions that write messages
# of one key therefore go one after another, or the later id could be published first.
_LOCK_KEY: Final = "SELECT pg_advisory_xact_lock(hashtext('pglab outbox key'), hashtext(%s))"
_ADD: Final = "INSERT INTO outbox (key, body) VALUES (%s, %s) RETURNING id"
_LOCK_RELAY: Final = "SELECT pg_try_advisory_xact_lock(hashtext('pglab outbox relay'), 0)"
# Not "id > the last one": a transaction with a lower id may commit after one with a higher.
_NEXT: Final = """
SELECT id, key, body FROM outbox WHERE published_at IS NULL ORDER BY id LIMIT %s
"""
_MARK: Final = "UPDATE outbox SET published_at = now() WHERE id = ANY (%s)"
_COUNT: Final = "SELECT count(*) FROM outbox WHERE published_at IS NULL"
_PURGE: Final = "DELETE FROM outbox WHERE published_at < now() - %s * interval '1 second'"


class Outbox:
    """Messages that are committed with the rows that they speak of, and published later.

    Writing to PostgreSQL and to Redis one after the other loses the second when the process dies
    between them. A row in the same transaction cannot be lost, and a relay takes it from there.

    Args:
        connection: the one with the transaction of the rows.
    """

    def __init__(self, connection: psycopg.Connection[Any]) -> None:
        self._connection = connection

    def add(self, key: str, body: Mapping[str, Any]) -> int:
        """Add a message to the transaction that is open; return its number.

        Transactions that add to one key wait for each other. One that adds to several should do so
        in the keys' order, lest two wait for each other (:func:`pglab.retry.in_transaction`).

        Args:
            key: messages of one key are published in their order, such as a chat's id.
            body: what JSON can hold.

        Raises:
            ConfigError: no transaction is open, or the body is no JSON.
        """
        info = self._connection.info
        if self._connection.autocommit and info.transaction_status == TransactionStatus.IDLE:
            raise ConfigError(
                "no transaction is open: the message would stand alone; add it within "
                "connection.transaction(), where the rows are written"
            )
        text = as_json(body)
        self._connection.execute(_LOCK_KEY, (key,))
        with self._connection.cursor(row_factory=tuple_row) as cursor:
            row = cursor.execute(_ADD, (key, text)).fetchone()
        assert row is not None  # noqa: S101 - RETURNING of one inserted row
        return int(row[0])


class Relay:
    """Publishes what is in the outbox, at least once, each key's messages in their order.

    A relay that is killed after publishing and before its marks are committed publishes those
    messages again. Each carries the idempotency key ``outbox:<number>``, by which the queue drops
    it, as long as it remembers (``remember_s``) and Redis did not forget; and by which consumers
    can tell (:func:`pglab.queues.first_time`).

    The order holds in the queue, and for a queue with one consumer. Several consumers of one queue
    work on messages of one key at a time: give several queues, and each a consumer of its own; all
    messages of a key go into the same one.

    Args:
        connection: its own, with no transaction open.
        queues: one or more, with ``when_full="refuse"``, or a full one trims what counts as
            delivered here; with more, the key decides. Their number must not change while there
            are messages, or the order breaks.
        between: called with the numbers after they were published and before they are marked: for
            tests and lessons that kill the relay there.

    Raises:
        ConfigError: there is no queue.
    """

    def __init__(
        self,
        connection: psycopg.Connection[Any],
        queues: Sequence[StreamQueue],
        *,
        between: Callable[[list[int]], object] | None = None,
    ) -> None:
        if not queues:
            raise ConfigError("there is no queue to publish into; give one or more")
        self._connection = connection
        self._queues = list(queues)
        self._between = between

    def run_once(self, limit: int = 100) -> int:
        """Publish the next messages, and mark them; return how many.

        Args:
            limit: at most. The transaction stays open while they are published, so keep it small.

        Returns:
            0: there was nothing to do, or another relay is at it.

        Raises:
            redis.exceptions.RedisError: Redis did not answer. Nothing is marked, and the next call
                publishes the same again.
            QueueFullError: a queue has no room; the same.
        """
        with (
            self._connection.transaction(),
            self._connection.cursor(row_factory=tuple_row) as cursor,
        ):
            alone = cursor.execute(_LOCK_RELAY).fetchone()
            if alone is None or not alone[0]:
                return 0
            rows = cursor.execute(_NEXT, (limit,)).fetchall()
            for number, key, body in rows:
                queue = self._queues[zlib.crc32(key.encode()) % len(self._queues)]
                queue.publish({"key": key, "body": body}, key=f"outbox:{number}")
            numbers = [row[0] for row in rows]
            if self._between is not None and numbers:
                self._between(numbers)
            cursor.execute(_MARK, (numbers,))
        return len(rows)

    def waiting(self) -> int:
        """Return how many messages are still to be published."""
        with (
            self._connection.transaction(),
            self._connection.cursor(row_factory=tuple_row) as cursor,
        ):
            row = cursor.execute(_COUNT).fetchone()
        return int(row[0]) if row is not None else 0

    def purge(self, older_than_s: float = 86_400.0) -> int:
        """Remove what was published so long ago; return how many."""
        with self._connection.transaction():
            return self._connection.execute(_PURGE, (older_than_s,)).rowcount
