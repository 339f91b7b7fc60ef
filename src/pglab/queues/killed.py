"""Consumers and relays that die by SIGKILL in the middle of a message: for lessons and tests.

Each is a process of its own, which is told on its input what to do, does it, and kills itself; what
it did until then is returned, when PostgreSQL has noticed the death, too, and given its locks back.
Addresses and passwords go through a pipe, never through argv.
"""

from __future__ import annotations

import json
import os
import secrets
import signal
import subprocess
import sys
import time
from typing import TYPE_CHECKING, Any, Literal

from psycopg.conninfo import make_conninfo
from psycopg.rows import tuple_row

from pglab.cache.experiments.readers import address_of
from pglab.errors import LabError

if TYPE_CHECKING:
    import psycopg
    from redis import Redis

__all__ = ["killed_relay", "killed_stream_consumer", "killed_table_consumer"]

_PATIENCE_S = 60.0


def killed_stream_consumer(
    redis: Redis, name: str, *, after: int = 0, worked: bool = True, **settings: Any
) -> list[str]:
    """Let a process receive from a :class:`~pglab.queues.StreamQueue` until it is killed.

    Args:
        redis: where the queue is; the process makes a client of its own.
        name: of the queue.
        after: messages that it deals with and acknowledges before.
        worked: whether it has done the work of the last one, and only not said so.
        settings: of ``StreamQueue``.

    Returns:
        The ids of the messages whose work was done, in this order.

    Raises:
        LabError: it ended in another way: most likely there were too few messages.
    """
    return _run_and_die(
        {"how": "stream", "redis": address_of(redis), "name": name, "settings": settings}
        | {"after": after, "worked": worked}
    )


def killed_table_consumer(
    connection: psycopg.Connection[Any],
    name: str,
    *,
    after: int = 0,
    worked: bool = True,
    how: Literal["receive", "working"] = "receive",
    effect: str = "",
    **settings: Any,
) -> list[str]:
    """Let a process take from a :class:`~pglab.queues.TableQueue` until it is killed.

    Args:
        connection: to the database; the process makes one of its own.
        name: of the queue.
        after: messages that it deals with and acknowledges before.
        worked: whether it has done the work of the last one, and only not said so.
        how: the way to claim.
        effect: a statement that is the work, with ``%s`` for the message's id; run in the
            transaction of the claim with ``working``, and in one of its own with ``receive``.
        settings: of ``TableQueue``.

    Returns:
        The ids of the messages whose work was done, in this order; with ``working``, that of the
        last one was rolled back afterwards.

    Raises:
        LabError: as :func:`killed_stream_consumer`.
    """
    return _connected_and_die(
        connection,
        {"how": how, "name": name, "settings": settings}
        | {"after": after, "worked": worked, "effect": effect},
    )


def killed_relay(
    connection: psycopg.Connection[Any],
    redis: Redis,
    names: list[str],
    *,
    limit: int = 100,
    **settings: Any,
) -> list[str]:
    """Let a process relay the outbox, and be killed after it has published and before it marks.

    Args:
        connection: to the database with the outbox; the process makes one of its own.
        redis: where the queues are; the same.
        names: of the queues.
        limit: messages that it takes at most.
        settings: of the queues.

    Returns:
        The numbers of the messages that it published.

    Raises:
        LabError: as :func:`killed_stream_consumer`.
    """
    return _connected_and_die(
        connection,
        {"how": "relay", "redis": address_of(redis)}
        | {"names": names, "limit": limit, "settings": settings},
    )


def _connected_and_die(connection: psycopg.Connection[Any], order: dict[str, Any]) -> list[str]:
    name = f"pglab doomed {secrets.token_hex(6)}"
    order["conninfo"] = make_conninfo(
        connection.info.dsn, password=connection.info.password or None, application_name=name
    )
    done = _run_and_die(order)
    deadline = time.monotonic() + _PATIENCE_S
    while _connections(connection, name):
        if time.monotonic() > deadline:
            raise LabError(
                f"PostgreSQL did not notice the {order['how']} process's death within "
                f"{_PATIENCE_S:g} s; look at pg_stat_activity"
            )
        time.sleep(0.005)
    return done


def _connections(connection: psycopg.Connection[Any], name: str) -> int:
    with connection.transaction(), connection.cursor(row_factory=tuple_row) as cursor:
        cursor.execute("SELECT pg_stat_clear_snapshot()")  # seen once in a transaction, it stays
        row = cursor.execute(
            "SELECT count(*) FROM pg_stat_activity WHERE application_name = %s", (name,)
        ).fetchone()
    return int(row[0]) if row is not None else 0


def _run_and_die(order: dict[str, Any]) -> list[str]:
    with subprocess.Popen(
        [sys.executable, "-m", __name__],
        stdin=subprocess.PIPE,
        stdout=subprocess.PIPE,
        text=True,
    ) as child:
        try:
            said, _ = child.communicate(json.dumps(order), timeout=_PATIENCE_S)
        finally:
            child.kill()
    if child.returncode != -signal.SIGKILL:
        raise LabError(
            f"the {order['how']} process ended with {child.returncode} instead of being killed, "
            f"after {said.split()}; were there enough messages to be in the middle of one?"
        )
    return said.split()


# In the process


def _die() -> None:
    os.kill(os.getpid(), signal.SIGKILL)


def _say(done: str) -> None:
    print(done, flush=True)


def main() -> None:
    """Do what the order says."""
    order: dict[str, Any] = json.loads(sys.stdin.read())
    work = {"stream": _stream, "receive": _receive, "working": _working, "relay": _relay}
    work[order["how"]](order)


def _stream(order: dict[str, Any]) -> None:
    from redis import Redis

    from pglab.queues.stream import StreamQueue

    with Redis(**order["redis"]) as redis:
        queue = StreamQueue(redis, order["name"], **order["settings"])
        for number in range(order["after"] + 1):
            (message,) = queue.receive()
            last = number == order["after"]
            if not last or order["worked"]:
                _say(message.id)
            if last:
                _die()
            queue.acknowledge(message)


def _receive(order: dict[str, Any]) -> None:
    import psycopg

    from pglab.queues.table import TableQueue

    with psycopg.connect(order["conninfo"], autocommit=True) as connection:
        queue = TableQueue(connection, order["name"], **order["settings"])
        for number in range(order["after"] + 1):
            (message,) = queue.receive()
            last = number == order["after"]
            if not last or order["worked"]:
                if order["effect"]:
                    connection.execute(order["effect"], (message.id,))
                _say(message.id)
            if last:
                _die()
            queue.acknowledge(message)


def _working(order: dict[str, Any]) -> None:
    import psycopg

    from pglab.queues.table import TableQueue

    with psycopg.connect(order["conninfo"], autocommit=True) as connection:
        queue = TableQueue(connection, order["name"], **order["settings"])
        for number in range(order["after"] + 1):
            with queue.working() as message:
                if message is None:
                    return
                last = number == order["after"]
                if not last or order["worked"]:
                    if order["effect"]:
                        connection.execute(order["effect"], (message.id,))
                    _say(message.id)
                if last:
                    _die()


def _relay(order: dict[str, Any]) -> None:
    import psycopg
    from redis import Redis

    from pglab.queues.outbox import Relay
    from pglab.queues.stream import StreamQueue

    def between(numbers: list[int]) -> None:
        for number in numbers:
            _say(str(number))
        _die()

    with psycopg.connect(order["conninfo"]) as connection, Redis(**order["redis"]) as redis:
        queues = [StreamQueue(redis, name, **order["settings"]) for name in order["names"]]
        Relay(connection, queues, between=between).run_once(order["limit"])


if __name__ == "__main__":
    main()
