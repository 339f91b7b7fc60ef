"""One load for many readers, within a process: whoever comes later waits for the first one's."""

from __future__ import annotations

import threading
from collections.abc import Callable
from concurrent.futures import Future
from typing import Generic, TypeVar

__all__ = ["AbandonedError", "Flights"]

V = TypeVar("V")


class AbandonedError(Exception):
    """Whoever was loading was interrupted; who waited must load."""


class Flights(Generic[V]):
    """Loads under way, by whatever names them: a key, or the token of a lease."""

    def __init__(self) -> None:
        self._under_way: dict[str | bytes, Future[V]] = {}
        self._lock = threading.Lock()

    def join(self, name: str | bytes) -> tuple[Future[V], bool]:
        """Return the load under way, and whether this caller has just begun it.

        Who has begun it must :meth:`land` it, whatever happens.
        """
        with self._lock:
            flight = self._under_way.get(name)
            if flight is not None:
                return flight, False
            flight = self._under_way[name] = Future()
            return flight, True

    def detach(self, name: str | bytes) -> None:
        """Let readers who come from now on begin a new load; those who wait keep waiting."""
        with self._lock:
            self._under_way.pop(name, None)

    def land(
        self,
        name: str | bytes,
        flight: Future[V],
        *,
        value: V | None = None,
        error: BaseException | None = None,
    ) -> None:
        """Give those who wait the value, or the error."""
        with self._lock:
            if self._under_way.get(name) is flight:
                del self._under_way[name]
        if error is None:
            flight.set_result(value)  # type: ignore[arg-type]
        elif isinstance(error, Exception):
            flight.set_exception(error)
        else:  # Ctrl-C was meant for one thread
            flight.set_exception(AbandonedError())

    def share(self, name: str | bytes, load: Callable[[], V], *, wait_s: float) -> tuple[V, bool]:
        """Return what the load under way gives, and whether somebody else did it.

        Raises:
            TimeoutError: it lasted longer than ``wait_s``.
            AbandonedError: whoever did it was interrupted.
            Exception: what it raised, for all who wait.
        """
        flight, first = self.join(name)
        if not first:
            return flight.result(wait_s), True
        try:
            value = load()
        except BaseException as error:
            self.land(name, flight, error=error)
            raise
        self.land(name, flight, value=value)
        return value, False
