"""More clients than connections: who waits, how long, and who gives up.

The same function drives every kind of pool, since each hands out its connections as a context
manager. A client holds its connection while it does something else, as a request does that talks
to a language model in the middle of a transaction.
"""

from __future__ import annotations

import threading
import time
from collections.abc import Callable
from contextlib import AbstractContextManager
from dataclasses import dataclass
from typing import Any, Final

__all__ = ["SERVED", "Wait", "many_clients"]

SERVED: Final = "served"

_PATIENCE_S: Final = 60.0


@dataclass(frozen=True, slots=True)
class Wait:
    """What became of one client.

    Attributes:
        client: its number, from 1, in the order of starting.
        waited_s: seconds until it had a connection, or was refused.
        outcome: ``served``, or the name of the error that it got.
        words: of the error; empty if it was served.
    """

    client: int
    waited_s: float
    outcome: str
    words: str = ""


def many_clients(
    acquire: Callable[[], AbstractContextManager[Any]], *, clients: int, hold_s: float
) -> list[Wait]:
    """Let clients ask for a connection at the same moment, each on a thread of its own.

    Args:
        acquire: ``pool.connection`` of psycopg_pool, ``engine.connect`` of SQLAlchemy, or a
            function that connects. Its own time-out bounds the waiting.
        clients: how many, at least 1.
        hold_s: seconds that each keeps what it gets.

    Returns:
        One for each client, in the order of their numbers.

    Raises:
        ValueError: clients or hold_s is out of range.
        RuntimeError: clients still wait after a minute; give the pool a time-out.
    """
    if clients < 1 or not 0 <= hold_s < _PATIENCE_S:
        raise ValueError(f"{clients} clients that hold for {hold_s} s make no sense here")
    found: list[Wait | None] = [None] * clients
    together = threading.Barrier(clients)

    def client(index: int) -> None:
        together.wait()
        began = time.perf_counter()
        try:
            with acquire():
                waited = time.perf_counter() - began
                time.sleep(hold_s)
        except Exception as error:  # noqa: BLE001 - what it gets is the point
            waited = time.perf_counter() - began
            words = " ".join(str(error).split())
            found[index] = Wait(index + 1, waited, type(error).__name__, words)
        else:
            found[index] = Wait(index + 1, waited, SERVED)

    threads = [threading.Thread(target=client, args=(i,), daemon=True) for i in range(clients)]
    for thread in threads:
        thread.start()
    deadline = time.monotonic() + _PATIENCE_S
    for thread in threads:
        thread.join(max(0.0, deadline - time.monotonic()))
    waiting = found.count(None)
    if waiting:
        raise RuntimeError(
            f"{waiting} of {clients} clients still wait after {_PATIENCE_S:.0f} s; "
            "give the pool a time-out"
        )
    return [each for each in found if each is not None]
