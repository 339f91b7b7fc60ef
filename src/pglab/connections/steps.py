"""Where the time goes until the first answer: the steps of connecting, each on the clock.

libpq connects step by step if asked to (``PQconnectStart`` and ``PQconnectPoll``), and says
at each what it waits for. A pool saves all of these; a faster network only some.
"""

from __future__ import annotations

import select
import time
from collections.abc import Mapping
from dataclasses import dataclass
from typing import TYPE_CHECKING, Final

from pglab.errors import ServerUnreachableError

if TYPE_CHECKING:
    from psycopg.pq.abc import PGconn

__all__ = ["STEPS", "Step", "connect_steps"]

STEPS: Final = (
    "name and socket",
    "network connection",
    "TLS",
    "process and password",
    "first query",
    "second query",
)
"""In the order in which they happen. Over TCP, TLS is asked for unless sslmode says not to; where
the server has none, that step is the time until it said so. The password's step has the start of
the server's process and of the session in it: the server does them on end."""

_TIMEOUT_S: Final = 10.0


@dataclass(frozen=True, slots=True)
class Step:
    """One step of connecting.

    Attributes:
        name: one of ``STEPS``.
        seconds: how long it took.
    """

    name: str
    seconds: float


def connect_steps(
    parameters: Mapping[str, str], query: str = "SELECT 1", *, timeout_s: float = _TIMEOUT_S
) -> list[Step]:
    """Connect once, ask twice, close; and return what each step took.

    Args:
        parameters: libpq's, such as ``endpoint.parameters(tcp=True)``.
        query: what is asked, without parameters.
        timeout_s: seconds for the whole of it.

    Raises:
        ServerUnreachableError: there is no connection; the message has libpq's words.
    """
    from psycopg import pq
    from psycopg.conninfo import make_conninfo

    deadline = time.perf_counter() + timeout_s
    spent = dict.fromkeys(STEPS, 0.0)
    began = time.perf_counter()
    connection = pq.PGconn.connect_start(make_conninfo("", **parameters).encode())
    try:
        spent["name and socket"] = time.perf_counter() - began
        _connect(connection, spent, deadline)
        for name in ("first query", "second query"):
            began = time.perf_counter()
            result = connection.exec_(query.encode())
            spent[name] = time.perf_counter() - began
            if result.status not in {pq.ExecStatus.TUPLES_OK, pq.ExecStatus.COMMAND_OK}:
                raise ServerUnreachableError(f"the query failed: {_last_words(connection)}")
    finally:
        connection.finish()
    return [Step(name, seconds) for name, seconds in spent.items()]


def _connect(connection: PGconn, spent: dict[str, float], deadline: float) -> None:
    from psycopg.pq import ConnStatus, PollingStatus

    # Which step a state of libpq belongs to: what it waits for while it is in that state.
    step_of = {
        ConnStatus.STARTED: "network connection",
        ConnStatus.SSL_STARTUP: "TLS",
    }

    def step() -> str:
        return step_of.get(ConnStatus(connection.status), "process and password")

    while connection.status != ConnStatus.BAD:
        name, began = step(), time.perf_counter()
        polled = connection.connect_poll()
        now = time.perf_counter()
        spent[name] += now - began
        if polled == PollingStatus.OK:
            return
        if polled == PollingStatus.FAILED:
            break
        # The poll may have gone on to the next state: the waiting is that state's time.
        name, place = step(), [connection.socket]
        reads, writes = (place, []) if polled == PollingStatus.READING else ([], place)
        ready = select.select(reads, writes, [], max(0.0, deadline - now))
        spent[name] += time.perf_counter() - now
        if not any(ready):
            raise ServerUnreachableError(
                "no connection in time; is this the right host, and does a firewall drop packets?"
            )
    raise ServerUnreachableError(f"no connection: {_last_words(connection)}")


def _last_words(connection: PGconn) -> str:
    return " ".join(connection.error_message.decode(errors="replace").split())
