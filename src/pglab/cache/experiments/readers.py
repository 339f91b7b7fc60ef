"""What the experiments share: a loader that notes its loads, readers that begin together."""

from __future__ import annotations

import threading
import time
from collections.abc import Callable, Iterable
from typing import TYPE_CHECKING, Any

from pglab.errors import LabError

if TYPE_CHECKING:
    from redis import Redis

__all__ = ["Loads", "address_of", "most_at_once", "read_together", "run_together"]

_PATIENCE_S = 60.0


class Loads:
    """A loader that notes when each load began and ended; many threads may call it.

    Args:
        load: returns a key's value.

    Attributes:
        spans: of each load that returned, its beginning and end, ``time.monotonic`` seconds. On
            Linux and macOS all processes of a machine share that clock.
    """

    def __init__(self, load: Callable[[Any], Any]) -> None:
        self._load = load
        self.spans: list[tuple[float, float]] = []

    def __call__(self, key: Any) -> Any:
        """Load, and note it."""
        began = time.monotonic()
        value = self._load(key)
        self.spans.append((began, time.monotonic()))
        return value


def most_at_once(spans: Iterable[tuple[float, float]]) -> int:
    """Return how many of these spans overlapped at one moment, at most."""
    steps = sorted(step for began, ended in spans for step in ((began, 1), (ended, -1)))
    most = now = 0
    for _, step in steps:
        now += step
        most = max(most, now)
    return most


def run_together(works: Iterable[Callable[[], object]]) -> None:
    """Run functions in threads that begin at the same moment; return when all have ended.

    Raises:
        LabError: some did not end in time.
        Exception: the first that one of them raised.
    """
    given = list(works)
    gate = threading.Barrier(len(given))
    failures: list[BaseException] = []

    def run(work: Callable[[], object]) -> None:
        try:
            gate.wait(_PATIENCE_S)
            work()
        except BaseException as error:  # noqa: BLE001 - raised again where it is seen
            failures.append(error)

    threads = [threading.Thread(target=run, args=(work,), daemon=True) for work in given]
    for thread in threads:
        thread.start()
    deadline = time.monotonic() + _PATIENCE_S
    for thread in threads:
        thread.join(max(0.0, deadline - time.monotonic()))
    left = sum(thread.is_alive() for thread in threads)
    if left:
        raise LabError(
            f"{left} of {len(threads)} readers did not end within {_PATIENCE_S:g} s; restart the "
            "kernel and try fewer"
        )
    if failures:
        raise failures[0]


def read_together(readers: int, read: Callable[[], object]) -> list[float]:
    """Let many read once, at the same moment; return what each waited, seconds, ascending."""
    waits: list[float] = []

    def one() -> None:
        began = time.monotonic()
        read()
        waits.append(time.monotonic() - began)

    run_together([one] * readers)
    return sorted(waits)


def address_of(redis: Redis) -> dict[str, Any]:
    """Return what ``Redis(**…)`` needs in another process; may hold a password: never in argv."""
    known = redis.connection_pool.connection_kwargs
    names = ("host", "port", "db", "username", "password")
    address = {name: known[name] for name in names if known.get(name) is not None}
    if known.get("path") is not None:
        address["unix_socket_path"] = known["path"]
    return address
