"""What the cache's suites share: a loader that counts, threads that begin together, waiting."""

from __future__ import annotations

import threading
import time
from typing import Any

PATIENCE_S = 30


class Loader:
    """A source of truth that counts how often it is asked, and how many ask at a time.

    Attributes:
        rows: what there is.
        takes_s: each load, seconds.
        meanwhile: called in a load after the row was read.
        error: what a load raises then.
        calls: keys that were asked for.
        most: loads of one key that were in flight at a time, at most.
    """

    def __init__(self, rows: dict[Any, Any] | None = None, takes_s: float = 0.0) -> None:
        self.rows = {"a": {"n": 1}} if rows is None else rows
        self.takes_s = takes_s
        self.meanwhile: Any = None
        self.error: Exception | None = None
        self.calls: list[Any] = []
        self.most = 0
        self._in_flight: dict[Any, int] = {}
        self._lock = threading.Lock()

    def __call__(self, key: Any) -> Any:
        with self._lock:
            self.calls.append(key)
            self._in_flight[key] = self._in_flight.get(key, 0) + 1
            self.most = max(self.most, self._in_flight[key])
        try:
            value = self.rows.get(key)
            if self.meanwhile is not None:
                self.meanwhile()
            time.sleep(self.takes_s)
            if self.error is not None:
                raise self.error
            return value
        finally:
            with self._lock:
                self._in_flight[key] -= 1

    def many(self, keys: list[Any]) -> dict[Any, Any]:
        """Answer several in one question; absent ones are left out."""
        self.calls.append(tuple(keys))
        if self.meanwhile is not None:
            self.meanwhile()
        return {key: self.rows[key] for key in keys if key in self.rows}


def together(number: int, function: Any) -> tuple[list[Any], list[float]]:
    """Run a function in threads that begin together; return what each gave, and its seconds."""
    barrier = threading.Barrier(number)
    given: list[Any] = []
    took: list[float] = []

    def run() -> None:
        barrier.wait()
        began = time.perf_counter()
        try:
            value = function()
        except Exception as error:  # noqa: BLE001 - that is what was asked for
            value = error
        took.append(time.perf_counter() - began)
        given.append(value)

    threads = [threading.Thread(target=run) for _ in range(number)]
    for thread in threads:
        thread.start()
    for thread in threads:
        thread.join()
    return given, took


def wait_until(what: str, true: Any) -> None:
    """Wait until something is true; fail if it does not become so."""
    deadline = time.monotonic() + PATIENCE_S
    while not true():
        assert time.monotonic() < deadline, f"it never came about: {what}"
        time.sleep(0.005)
