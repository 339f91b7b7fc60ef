"""A gateway at work, for as long as somebody looks: load on the lessons' tables, with an end."""

from __future__ import annotations

import random
import secrets
import threading
import time
from collections.abc import Callable
from types import TracebackType
from typing import Any, Final, Self

import psycopg

__all__ = ["Gateway"]

Connect = Callable[..., psycopg.Connection[Any]]

_JOIN_S: Final = 15.0

_PAGE: Final = """\
SELECT body, sent_at FROM messages WHERE chat_id = %s ORDER BY sent_at DESC, id DESC LIMIT 20"""
_UNREAD: Final = """\
SELECT count(*) FROM messages WHERE instance_id = %s AND status = 'delivery_ack' AND NOT from_me"""
_RECEIVE: Final = """\
INSERT INTO messages (instance_id, chat_id, whatsapp_id, from_me, message_type, body, status,
                      key, message, sent_at)
SELECT instance_id, id, %s, false, 'text', %s, 'delivery_ack', '{}', '{}', now()
FROM chats WHERE id = %s"""
_READ: Final = """\
UPDATE messages SET status = 'read'
WHERE chat_id = %s AND status = 'delivery_ack' AND NOT from_me"""
# The chat of the whole family: everybody writes to it, and each must wait for the one before.
_TOUCH: Final = "UPDATE chats SET updated_at = clock_timestamp() WHERE id = %s"


class Gateway:
    """Clients in threads that read pages of chats, count what is unread, and store messages.

    As a context manager it ends with the block, however that ends; and in any case after
    ``seconds``.

    Args:
        connect: opens a connection to a lesson's database; takes ``autocommit`` and
            ``application_name``, as ``lab.connection`` does.
        clients: how many.
        seconds: after which they end by themselves.
        pause_s: seconds that a client rests after each operation.
        seed: of what they do.
    """

    def __init__(
        self,
        connect: Connect,
        *,
        clients: int = 4,
        seconds: float = 30.0,
        pause_s: float = 0.001,
        seed: int = 1,
    ) -> None:
        self._stop = threading.Event()
        self._until = time.monotonic() + seconds
        self._pause_s = pause_s
        self._counts = [0] * clients
        self._failures: list[BaseException] = []
        # Opened here, so that a failure is the caller's, and closed in the thread.
        self._connections: list[psycopg.Connection[Any]] = []
        try:
            for number in range(clients):
                self._connections.append(
                    connect(autocommit=True, application_name=f"gateway {number + 1}")
                )
            chats, instances = _places(self._connections[0])
        except BaseException:
            for connection in self._connections:
                connection.close()
            raise
        self._threads = [
            threading.Thread(
                target=self._work,
                args=(number, connection, random.Random(seed + number), chats, instances),  # noqa: S311
                name=f"pglab gateway {number + 1}",
                daemon=True,
            )
            for number, connection in enumerate(self._connections)
        ]
        for thread in self._threads:
            thread.start()

    @property
    def operations(self) -> int:
        """Return how many operations are done."""
        return sum(self._counts)

    @property
    def running(self) -> bool:
        """Tell whether any client is still at work."""
        return any(thread.is_alive() for thread in self._threads)

    def stop(self) -> int:
        """End the clients, wait for them, and return how many operations they did.

        Raises:
            psycopg.Error: what stopped a client before its time.
        """
        self._stop.set()
        for thread in self._threads:
            thread.join(_JOIN_S)
        for connection in self._connections:
            connection.close()
        if self._failures:
            raise self._failures[0]
        return self.operations

    def _work(
        self,
        number: int,
        connection: psycopg.Connection[Any],
        lot: random.Random,
        chats: list[int],
        instances: list[Any],
    ) -> None:
        try:
            connection.execute("SET statement_timeout = '10s'")
            while not self._stop.is_set() and time.monotonic() < self._until:
                self._operate(connection, lot, chats, instances)
                self._counts[number] += 1
                self._stop.wait(self._pause_s)
        except psycopg.Error as error:
            if not self._stop.is_set():
                self._failures.append(error)
        finally:
            connection.close()

    def _operate(
        self,
        connection: psycopg.Connection[Any],
        lot: random.Random,
        chats: list[int],
        instances: list[Any],
    ) -> None:
        # A few chats get most of it, as in life.
        chat = chats[int(len(chats) * lot.random() ** 3)]
        kind = lot.random()
        if kind < 0.55:
            connection.execute(_PAGE, [chat]).fetchall()
        elif kind < 0.60:
            connection.execute(_UNREAD, [lot.choice(instances)]).fetchall()
        elif kind < 0.90:
            with connection.transaction():
                # Not by the seed: who looks twice must not store the same messages again.
                word = secrets.token_hex(10).upper()
                connection.execute(_TOUCH, [chats[0]])
                connection.execute(_RECEIVE, [word, f"message {word[:4]}", chat])
        else:
            connection.execute(_READ, [chat])

    def __enter__(self) -> Self:
        return self

    def __exit__(
        self,
        kind: type[BaseException] | None,
        error: BaseException | None,
        traceback: TracebackType | None,
    ) -> None:
        if kind is None:
            self.stop()
            return
        self._stop.set()  # the first error is the one to tell
        for thread in self._threads:
            thread.join(_JOIN_S)


def _places(connection: psycopg.Connection[Any]) -> tuple[list[int], list[Any]]:
    chats = connection.execute("SELECT id FROM chats ORDER BY id").fetchall()
    instances = connection.execute("SELECT id FROM instances ORDER BY id").fetchall()
    return [row[0] for row in chats], [row[0] for row in instances]
