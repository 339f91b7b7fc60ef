"""Counting what a kill takes away: for the lesson's question what ``synchronous_commit`` risks."""

from __future__ import annotations

import threading
import time
from dataclasses import dataclass
from typing import TYPE_CHECKING

from pglab.errors import ServerError

if TYPE_CHECKING:
    from pglab.servers.scratch import ScratchPostgres

__all__ = ["Kill", "kill_while_writing"]

_STARTS_WITHIN_S = 30.0


@dataclass(frozen=True, slots=True)
class Kill:
    """One kill and its count.

    Attributes:
        synchronous_commit: the setting.
        confirmed: commits that the client had been told of when the kill came.
        found: of those, rows that are there after the recovery.
        per_second: commits in a second, before the kill.
        only_the_last: none is missing between those that are there.
    """

    synchronous_commit: str
    confirmed: int
    found: int
    per_second: float
    only_the_last: bool

    @property
    def lost(self) -> int:
        """Return how many confirmed commits are gone."""
        return self.confirmed - self.found


def kill_while_writing(
    server: ScratchPostgres, synchronous_commit: str, *, seconds: float = 0.5
) -> Kill:
    """Let a client commit one row after the other, end the server with SIGKILL, recover, count.

    Args:
        server: that is there to be broken; its database postgres gets a table ``confirmed``.
        synchronous_commit: the client's setting, such as ``"off"``.
        seconds: how long it writes; longer than three times wal_writer_delay (200 ms), within
            which PostgreSQL promises to write even what nobody waits for.

    Raises:
        ServerError: the client could store nothing.
    """
    with server.connect(autocommit=True) as connection:
        connection.execute("DROP TABLE IF EXISTS confirmed")
        connection.execute("CREATE TABLE confirmed (n integer PRIMARY KEY)")
        connection.execute("CHECKPOINT")
    told: list[int] = []
    started = threading.Event()
    writer = threading.Thread(
        target=_write, args=(server, synchronous_commit, told, started), daemon=True
    )
    writer.start()
    if not started.wait(_STARTS_WITHIN_S):
        raise ServerError("the writer stored nothing in 30 s; run it again on a quieter machine")
    time.sleep(seconds)
    server.kill()
    writer.join(30)
    server.start()
    with server.connect(autocommit=True) as connection:
        row = connection.execute(
            "SELECT count(*), coalesce(max(n), -1) + 1 FROM confirmed WHERE n <= %s", [told[-1]]
        ).fetchone()
    found, up_to = row or (0, 0)  # they are numbered from 0
    return Kill(synchronous_commit, len(told), found, round(len(told) / seconds, 1), found == up_to)


def _write(
    server: ScratchPostgres, synchronous_commit: str, told: list[int], started: threading.Event
) -> None:
    import psycopg

    with server.connect(autocommit=True) as connection:
        connection.execute(
            "SELECT set_config('synchronous_commit', %s, false)", [synchronous_commit]
        )
        number = 0
        try:
            while True:
                connection.execute("INSERT INTO confirmed VALUES (%s)", [number])
                told.append(number)  # the server said so: this is what a promise is
                started.set()
                number += 1
        except psycopg.OperationalError:  # the kill
            return
