"""A queue in PostgreSQL: rows that are claimed with FOR UPDATE SKIP LOCKED."""

from __future__ import annotations

from collections.abc import Iterator, Mapping
from contextlib import contextmanager
from dataclasses import dataclass
from typing import TYPE_CHECKING, Any, Literal

import psycopg
from psycopg import sql
from psycopg.pq import TransactionStatus
from psycopg.rows import tuple_row

from pglab.errors import ConfigError
from pglab.queues import statements
from pglab.queues.message import DeadLetter, Message, as_json

if TYPE_CHECKING:
    from collections.abc import Sequence

__all__ = ["TableQueue", "TableState"]


@dataclass(frozen=True, slots=True)
class TableState:
    """How many messages are where; what another transaction has locked counts as waiting.

    Attributes:
        waiting: to be claimed.
        later: claimed, or put off, and not visible yet.
        dead: given up.
        done: dealt with, and kept for the sake of their keys.
    """

    waiting: int
    later: int
    dead: int
    done: int


class TableQueue:
    """A queue that delivers at least once, and loses nothing that PostgreSQL has committed.

    :meth:`publish` is a part of the caller's transaction: the message exists if the transaction
    does. There are two ways to claim one:

    - :meth:`working`, in the transaction: the row stays locked while the work is done. If the
      consumer dies, PostgreSQL notices and gives the row to another at once (if its machine or the
      network dies, when TCP gives up: set keepalives); effects in the same database happen exactly
      once. But a long transaction keeps vacuum from its work, holds a
      connection, and rolls the count of attempts back: a message that *kills* its consumers is
      tried for ever.
    - :meth:`receive`, by a time-out: the claim is committed at once, and counted. If the consumer
      dies, another gets the message when ``visible_s`` has passed, not before; a consumer that is
      merely slow has its message done twice, and :meth:`acknowledge` tells it so.

    Args:
        connection: a psycopg connection; each consumer needs its own. What is done outside a
            transaction is committed at once.
        name: of the queue; several share the table, see :func:`pglab.queues.create_tables`.
        visible_s: the time-out of a claim, seconds; longer than any work.
        max_attempts: deliveries of a message at most.
        retry_s: for how long a message that failed is put off, seconds.

    Raises:
        ConfigError: a setting cannot be used.
    """

    def __init__(
        self,
        connection: psycopg.Connection[Any],
        name: str,
        *,
        visible_s: float = 30.0,
        max_attempts: int = 5,
        retry_s: float = 0.0,
    ) -> None:
        if max_attempts < 1 or visible_s <= 0 or retry_s < 0:
            raise ConfigError(
                f"max_attempts={max_attempts}, visible_s={visible_s}, retry_s={retry_s}; give 1 or "
                "more, more than 0 s, 0 s or more"
            )
        self.name = name
        self.channel = f"queue:{name}"
        if len(self.channel.encode()) > 63:
            raise ConfigError(f"queue {name!r} has more than 57 bytes, too many to listen for")
        self._connection = connection
        self._visible_s, self._max_attempts, self._retry_s = visible_s, max_attempts, retry_s

    def publish(self, body: Mapping[str, Any], *, key: str = "", delay_s: float = 0.0) -> str:
        """Put a message into the queue, in the transaction that is open; return its id.

        Args:
            body: what JSON can hold.
            key: the idempotency key: the same key is one message, and its id is returned again,
                until :meth:`purge` removes what has been dealt with.
            delay_s: not before, seconds.

        Raises:
            ConfigError: the body is no JSON.
        """
        given = {"queue": self.name, "key": key, "body": as_json(body), "delay_s": delay_s}
        with self._connection.transaction():
            while True:
                if rows := self._all(statements.PUBLISH, given):
                    # Sent when the transaction commits, once for however many messages.
                    self._connection.execute(statements.NOTIFY, (self.channel,))
                    return str(rows[0][0])
                if rows := self._all(statements.PUBLISHED, given):
                    return str(rows[0][0])  # otherwise it was purged just now

    # Claiming by a time-out

    def receive(self, count: int = 1) -> list[Message]:
        """Claim messages for ``visible_s``; return them in the order of their publication.

        What has been handed out ``max_attempts`` times becomes a dead letter instead.

        Raises:
            ConfigError: a transaction is open: the claim would not be seen before its end.
        """
        self._refuse_transaction("receive")
        given = {
            "queue": self.name, "count": count, "most": self._max_attempts,
            "visible_s": self._visible_s,
        }  # fmt: skip
        while True:
            with self._connection.transaction():
                rows = self._all(statements.RECEIVE, given)
            messages = [Message(str(row[0]), *row[1:5]) for row in rows if row[5]]
            if messages or not rows:
                return messages

    def acknowledge(self, message: Message) -> bool:
        """Say that a message that was received has been dealt with.

        In a transaction it is a part of it: effects there are undone if this is False and the
        caller rolls back.

        Returns:
            False: the time was up, and another has it.
        """
        return self._execute(statements.DONE, (int(message.id), message.receipt or None)) == 1

    def reject(self, message: Message, reason: str) -> Literal["again", "dead", "lost"]:
        """Say that a message that was received could not be dealt with.

        Returns:
            ``again``: it is handed out again after ``retry_s``; ``dead``: that was its last
            attempt; ``lost``: the time was up, and another has it.
        """
        _check_receipt(message)
        given = {
            "id": int(message.id), "receipt": message.receipt, "reason": _storable(reason),
            "delay_s": self._retry_s, "most": self._max_attempts,
        }  # fmt: skip
        with self._connection.transaction():
            rows = self._all(statements.REJECT, given)
        return "lost" if not rows else "dead" if rows[0][0] else "again"

    def keep(self, message: Message) -> bool:
        """Say that we still work on a message, and need another ``visible_s``.

        Returns:
            False: the time was up, and another has it.
        """
        _check_receipt(message)
        return (
            self._execute(statements.KEEP, (self._visible_s, int(message.id), message.receipt)) == 1
        )

    # Claiming in the transaction

    @contextmanager
    def working(self) -> Iterator[Message | None]:
        """Hold a message's row while the block works on it, in one transaction with the block.

        The block gets None if there is nothing to do. If it raises, what it did is rolled back, the
        attempt is counted, and the error gets out; after ``max_attempts`` the message is a dead
        letter.

        Raises:
            ConfigError: a transaction is open already: it would not end with the block.
        """
        self._refuse_transaction("working")
        message = failure = None
        try:
            with self._connection.transaction():
                rows = self._all(statements.LOCK_ONE, {"queue": self.name, "count": 1})
                if rows:
                    number, body, key, attempts = rows[0]
                    message = Message(str(number), body, key, attempts + 1)
                try:
                    with self._connection.transaction():  # a savepoint: the row stays ours
                        yield message
                except Exception as error:
                    if message is None or self._connection.closed:
                        raise
                    failure = error
                    # Counted before another can take it, or it would not be put off.
                    self._count_failure(message, error)
                else:
                    if message is not None:
                        self._connection.execute(statements.DONE_IN_HAND, (int(message.id),))
        except Exception as error:
            # What a COMMIT refuses, a deferred constraint, say.
            if message is not None and failure is None and not self._connection.closed:
                self._count_failure(message, error)
            raise
        if failure is not None:
            raise failure

    def _count_failure(self, message: Message, error: Exception) -> None:
        reason = _storable(f"{type(error).__name__}: {error}")
        given = {
            "id": int(message.id), "reason": reason, "delay_s": self._retry_s,
            "most": self._max_attempts,
        }  # fmt: skip
        self._execute(statements.FAILED, given)

    # Waiting

    def wait(self, timeout_s: float) -> bool:
        """Wait until a message may have come; return whether one was announced.

        Nothing is announced to those who do not listen yet, and what is put off or given back is
        not announced at all: look into the queue afterwards in either case, and do not wait long.

        Args:
            timeout_s: at most, seconds.

        Raises:
            ConfigError: a transaction is open, or the connection is not in autocommit mode.
        """
        self._refuse_transaction("wait")
        if not self._connection.autocommit:
            raise ConfigError(
                "wait() needs a connection with autocommit=True: in a transaction nothing is heard"
            )
        # To listen twice is to listen once.
        self._connection.execute(sql.SQL("LISTEN {}").format(sql.Identifier(self.channel)))
        given = {"queue": self.name, "count": 1}
        with self._connection.transaction():
            # Published before anybody listened; one that somebody works on does not count.
            (free,) = self._one(statements.CLAIMABLE, given)
        if free:
            return True
        return bool(list(self._connection.notifies(timeout=timeout_s, stop_after=1)))

    # Looking on

    def dead_letters(self, count: int = 100) -> list[DeadLetter]:
        """Return what was given up, the oldest first."""
        with self._connection.transaction():
            return [
                DeadLetter(str(number), body, key, attempts, reason)
                for number, body, key, attempts, reason in self._all(
                    statements.DEAD, (self.name, count)
                )
            ]

    def revive(self, letter: DeadLetter) -> bool:
        """Put a dead letter back, with all its attempts before it.

        Returns:
            False: somebody else did.
        """
        return self._execute(statements.REVIVE, (int(letter.id),)) == 1

    def state(self) -> TableState:
        """Return how many messages are where."""
        with self._connection.transaction():
            return TableState(*self._one(statements.STATE, (self.name,)))

    def purge(self, older_than_s: float = 86_400.0) -> int:
        """Remove what was dealt with so long ago; return how many. Their keys are forgotten."""
        return self._execute(statements.PURGE, (self.name, older_than_s))

    def _refuse_transaction(self, verb: str) -> None:
        if self._connection.info.transaction_status != TransactionStatus.IDLE:
            raise ConfigError(
                f"a transaction is open on this connection, and {verb}() needs its own; commit "
                "first, or use another connection"
            )

    def _execute(self, statement: str, given: Any) -> int:
        with self._connection.transaction():
            return self._connection.execute(statement, given).rowcount

    def _all(self, statement: str, given: Any) -> Sequence[tuple[Any, ...]]:
        with self._connection.cursor(row_factory=tuple_row) as cursor:
            return cursor.execute(statement, given).fetchall()

    def _one(self, statement: str, given: Any) -> tuple[Any, ...]:
        return self._all(statement, given)[0]


def _check_receipt(message: Message) -> None:
    if not message.receipt:
        raise ConfigError(
            "this message is held by working() and needs no more time; raise an error in its block "
            "to give it back"
        )


def _storable(words: str) -> str:
    return words.replace("\0", "")
