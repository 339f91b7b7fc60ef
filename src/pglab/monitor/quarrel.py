"""Sessions that stand in each other's way, one deliberate step after another."""

from __future__ import annotations

import threading
import time
from collections.abc import Callable
from typing import Any, Final

import psycopg

from pglab.closeable import Closeable
from pglab.errors import PglabError

__all__ = ["Quarrel"]

Connect = Callable[..., psycopg.Connection[Any]]

_STEP_S: Final = 10.0
_JOIN_S: Final = 15.0

_WAITS: Final = """\
SELECT a.wait_event_type = 'Lock' FROM pg_catalog.pg_stat_activity AS a WHERE a.pid = %s"""


class Quarrel(Closeable):
    """Holds sessions that hold locks, and others that wait for them.

    Each step returns when the server shows what it was to bring about, so that the outcome is the
    same every time. Whoever forgets to ``end`` it is helped by the server: transactions that do
    nothing end after two minutes, statements after one.

    Args:
        connect: opens a connection; takes ``autocommit`` and ``application_name``, as
            ``lab.connection`` does.
    """

    def __init__(self, connect: Connect) -> None:
        self._connect = connect
        self._watcher = connect(autocommit=True, application_name="quarrel's watcher")
        self._connections: list[psycopg.Connection[Any]] = [self._watcher]
        self._threads: dict[str, threading.Thread] = {}
        self._outcomes: dict[str, str] = {}
        self.pids: dict[str, int] = {}

    def hold(self, name: str, *statements: str) -> int:
        """Run statements in a transaction of a new session, and leave it open; return its pid.

        Args:
            name: its application_name.
            statements: such as ``UPDATE … WHERE id = 1``.

        Raises:
            psycopg.Error: the server refuses one.
        """
        connection = self._open(name)
        for statement in statements:
            connection.execute(statement.encode())
        return self.pids[name]

    def wait(self, name: str, statement: str) -> int:
        """Start a statement in a new session, and return its pid once it waits for a lock.

        Raises:
            PglabError: it did not have to wait.
        """
        connection = self._open(name)
        thread = threading.Thread(
            target=self._run, args=(name, connection, statement), name=f"pglab {name}", daemon=True
        )
        self._threads[name] = thread
        thread.start()
        end = time.monotonic() + _STEP_S
        while time.monotonic() < end and thread.is_alive():
            row = self._watcher.execute(_WAITS, [self.pids[name]]).fetchone()
            if row and row[0]:
                return self.pids[name]
            time.sleep(0.005)
        raise PglabError(
            f"{name} did not have to wait for anybody: {self._outcomes.get(name, 'it still runs')}"
        )

    def outcomes(self) -> dict[str, str]:
        """Wait until nobody waits any more; return what came of each statement."""
        for thread in self._threads.values():
            thread.join(_JOIN_S)
        return dict(self._outcomes)

    def end(self) -> None:
        """Give everything up: roll back, end the sessions. Doing so twice is harmless."""
        for connection in self._connections:
            if connection is not self._watcher and not connection.closed:
                connection.cancel_safe(timeout=5)
        # Who holds comes first: the others then go on, or end by what was cancelled.
        holders = [c for c in self._connections if c.info.backend_pid not in self._waiting()]
        for connection in holders:
            connection.close()
        for thread in self._threads.values():
            thread.join(_JOIN_S)
        for connection in self._connections:
            connection.close()

    def _waiting(self) -> set[int]:
        return {self.pids[name] for name, thread in self._threads.items() if thread.is_alive()}

    def _open(self, name: str) -> psycopg.Connection[Any]:
        connection = self._connect(autocommit=False, application_name=name)
        self._connections.append(connection)
        self.pids[name] = connection.info.backend_pid
        connection.execute("SET idle_in_transaction_session_timeout = '2min'")
        connection.execute("SET statement_timeout = '1min'")
        connection.commit()
        return connection

    def _run(self, name: str, connection: psycopg.Connection[Any], statement: str) -> None:
        try:
            cursor = connection.execute(statement.encode())
            self._outcomes[name] = cursor.statusmessage or "done"
            connection.commit()
        except psycopg.Error as error:
            self._outcomes[name] = error.diag.message_primary or str(error).partition("\n")[0]
            if not connection.closed:
                connection.rollback()

    def close(self) -> None:
        """End it, as :meth:`end` does."""
        self.end()
