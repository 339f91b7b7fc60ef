"""When Redis may be asked, and when what it says may be believed.

Two things speak against it: a circuit breaker that opened after failures in a row (M. Nygard,
Release It!, 2007), and invalidations that it has not received yet. While either does, readers fall
through to the loader at once; a thread of ours, and no reader, finds out whether Redis is back, and
delivers what is pending before anybody believes it again.
"""

from __future__ import annotations

import threading
import time
from collections.abc import Callable, Iterable
from contextlib import suppress
from itertools import count
from typing import Any, Final

import pybreaker

__all__ = ["Guard"]

_RETRY_S: Final = 0.05
_CHUNK: Final = 500


class Guard:
    """The breaker, and the keys that Redis must forget before it is believed.

    Args:
        remove: removes keys from Redis, or asks whether it is there if there are none; raises if it
            did not answer.
        failures: in a row, that open the breaker.
        reset_s: after which an open breaker lets one question through, seconds.
        horizon_s: after which an entry is gone in any case, seconds.
        most: pending keys to remember; beyond them nothing is believed for ``horizon_s``.
        told: is told of ``breaker`` and ``repaired``, with a number and words.

    Attributes:
        trusted: whether to ask Redis; cheap to read, for every hit does.
        shaken: whether the last answer was a failure.
    """

    def __init__(
        self,
        remove: Callable[[list[str]], object],
        *,
        failures: int,
        reset_s: float,
        horizon_s: float,
        most: int,
        told: Callable[[str, int, str], object],
    ) -> None:
        self.trusted = True
        self.shaken = False
        self._remove = remove
        self._horizon_s = horizon_s
        self._most = most
        self._told = told
        self._pending: dict[str, tuple[int, float]] = {}
        self._number = count()
        self._distrust_until = 0.0
        self._lock = threading.RLock()
        self._thread: threading.Thread | None = None
        self._closed = threading.Event()
        self.breaker = pybreaker.CircuitBreaker(
            fail_max=failures, reset_timeout=reset_s, listeners=[_Listener(self)]
        )

    @property
    def state(self) -> str:
        """``closed``, ``open`` or ``half-open``."""
        return self.breaker.current_state

    @property
    def pending(self) -> int:
        """How many keys Redis is still to forget."""
        return len(self._pending)

    def failed(self, error: BaseException) -> None:
        """Note that Redis did not answer."""
        self.shaken = True
        # pybreaker's call() would have one command at a time: it is told afterwards instead.
        if self.state == pybreaker.STATE_CLOSED:
            with suppress(Exception):
                self.breaker.call(_fail, error)

    def succeeded(self) -> None:
        """Note that it did, after failures."""
        self.shaken = False
        if self.state == pybreaker.STATE_CLOSED:
            with suppress(pybreaker.CircuitBreakerError):
                self.breaker.call(bool)

    def remember(self, names: Iterable[str]) -> None:
        """Keep keys to remove them later; nothing is believed until then."""
        now = time.monotonic()
        with self._lock:
            for name in names:
                # Removed and put at the end: the oldest come first.
                self._pending.pop(name, None)
                self._pending[name] = (next(self._number), now + self._horizon_s)
            if len(self._pending) > self._most:
                self._pending.clear()
                self._distrust_until = now + self._horizon_s
            self.distrust()

    def distrust(self) -> None:
        """Let readers fall through until a thread of ours has found Redis well."""
        with self._lock:
            self.trusted = False
            if not self._closed.is_set() and (self._thread is None or not self._thread.is_alive()):
                self._thread = threading.Thread(
                    target=self._recover, name="pglab cache recovery", daemon=True
                )
                self._thread.start()

    def keep_recovering(self) -> None:
        """See to it that the thread runs: a forked process has none."""
        thread = self._thread
        if thread is None or not thread.is_alive():
            with self._lock:
                if not self.trusted:
                    self.distrust()

    def recover_once(self) -> bool:
        """Try to deliver what is pending; return whether Redis is believed again."""
        with self._lock:
            now = time.monotonic()
            batch = dict(self._pending)
        due = [name for name, (_, until) in batch.items() if until > now]
        try:
            self.breaker.call(self._deliver, due)
        except Exception:  # noqa: BLE001 - whatever it was: not yet
            return False
        with self._lock:
            for name, entry in batch.items():
                if self._pending.get(name) == entry:  # and was not invalidated again meanwhile
                    del self._pending[name]
            closed = self.state == pybreaker.STATE_CLOSED
            if closed and not self._pending and now >= self._distrust_until:
                self.shaken = False
                self.trusted = True
        if due:
            self._told("repaired", len(due), "")
        return self.trusted

    def _deliver(self, names: list[str]) -> None:
        for start in range(0, max(1, len(names)), _CHUNK):
            self._remove(names[start : start + _CHUNK])

    def _recover(self) -> None:
        while not self._closed.wait(_RETRY_S):
            self.recover_once()
            with self._lock:
                if self.trusted:
                    self._thread = None
                    return

    def close(self) -> None:
        """End the thread."""
        self._closed.set()
        thread = self._thread
        if thread is not None and thread is not threading.current_thread():
            thread.join(5)


def _fail(error: BaseException) -> None:
    raise error


class _Listener(pybreaker.CircuitBreakerListener):
    def __init__(self, guard: Guard) -> None:
        self._guard = guard

    def state_change(self, cb: Any, old_state: Any, new_state: Any) -> None:  # noqa: ARG002
        """Pass on that the breaker opened or closed."""
        if new_state.name != pybreaker.STATE_CLOSED:
            self._guard.distrust()
        self._guard._told("breaker", 1, f"{old_state.name} → {new_state.name}")  # noqa: SLF001
