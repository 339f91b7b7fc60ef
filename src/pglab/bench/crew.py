"""What a client does, how it is spoken to, and clients that are threads.

Threads share one interpreter, which computes for one of them at a time (the global interpreter
lock): enough where clients mostly wait for a server. ``pglab.bench.crew_processes`` has the others.
"""

from __future__ import annotations

import gc
import queue
import threading
import time
from collections.abc import Callable, Iterator
from contextlib import AbstractContextManager, contextmanager, suppress
from typing import Any, Literal, NamedTuple, Protocol, TypeVar

__all__ = [
    "Crew",
    "Factory",
    "Gate",
    "Mode",
    "Once",
    "Plan",
    "Run",
    "Said",
    "Threads",
    "be_client",
    "no_collection",
]

Once = Callable[[int], int]
"""Does operation number i and returns how many rows came."""
Factory = Callable[[int], AbstractContextManager[Once]]
"""Given a client's number, opens what it works with."""
Mode = Literal["threads", "processes"]
T_co = TypeVar("T_co", covariant=True)

_clock = time.perf_counter_ns  # of the machine, not of a process: one start fits all


class Run(Protocol[T_co]):
    """One client's share of a load.

    Attributes:
        operation: number of the one that is being done.
    """

    operation: int

    def __call__(self, once: Once, start_ns: int, stop: threading.Event) -> None:
        """Work from a moment of ``perf_counter_ns`` on, until the time is over or stop is set."""

    def result(self) -> T_co:
        """Return what was measured, from another thread and in the middle of work if need be."""
        ...


Plan = Callable[[int], Run[T_co]]
"""Given a client's number, returns its share of the load."""


class Said(NamedTuple):
    """What a client said, and when; a failure's value is what it was doing, and the error."""

    number: int
    what: Literal["ready", "done", "cut", "failed", "closed"]
    value: Any
    at_ns: int


class Crew(Protocol):
    """All clients of a load; they speak in the order ready, done, and closed or failed."""

    def begin(self) -> None:
        """Let them open what they work with."""

    def go(self, start_ns: int) -> None:
        """Tell them all when to start."""

    def hear(self, seconds: float) -> list[Said]:
        """Return what was said, waiting for it no longer than this."""
        ...

    def stop(self) -> None:
        """Tell them to end with the operation that each is at."""

    def cut(self, number: int) -> Any:
        """Return what a client has measured that is still at work."""

    def end(self, patience_seconds: float) -> None:
        """End them, having waited so long for them to end by themselves."""


class Threads:
    """Clients in this process; one that hangs in an operation cannot be ended, only left alone."""

    def __init__(self, factory: Factory, plan: Plan[Any], clients: int) -> None:
        self._gate = Gate()
        self._said: queue.SimpleQueue[Said] = queue.SimpleQueue()
        self._runs = [plan(number) for number in range(clients)]
        self._threads = [
            threading.Thread(
                target=be_client,
                args=(number, factory, run, self._gate, self._said.put),
                name=f"pglab-client-{number}",
                daemon=True,
            )
            for number, run in enumerate(self._runs)
        ]

    def begin(self) -> None:
        """Start the threads."""
        for thread in self._threads:
            thread.start()

    def go(self, start_ns: int) -> None:
        """Tell them all when to start."""
        self._gate.go(start_ns)

    def hear(self, seconds: float) -> list[Said]:
        """Return what was said, waiting for it no longer than this."""
        with suppress(queue.Empty):
            return [self._said.get(timeout=seconds)]
        return []

    def stop(self) -> None:
        """Tell them to end with the operation that each is at."""
        self._gate.end()

    def cut(self, number: int) -> Any:
        """Return what a client has measured that is still at work."""
        return self._runs[number].result()

    def end(self, patience_seconds: float) -> None:
        """Wait a moment for them; they end by themselves, now or with their operation."""
        self.stop()
        until = time.monotonic() + patience_seconds
        for thread in self._threads:
            if thread.ident is not None:
                thread.join(max(0.0, until - time.monotonic()))


@contextmanager
def no_collection() -> Iterator[None]:
    """Keep Python's garbage collector from pausing what is timed."""
    was_on = gc.isenabled()
    gc.collect()
    gc.disable()
    try:
        yield
    finally:
        if was_on:
            gc.enable()


class Gate:
    """Where a client waits for the start, and learns that it should stop.

    Attributes:
        stop: set when it should.
    """

    def __init__(self) -> None:
        self.stop = threading.Event()
        self._going = threading.Event()
        self._start_ns = 0

    def go(self, start_ns: int) -> None:
        """Say when to start."""
        self._start_ns = start_ns
        self._going.set()

    def end(self) -> None:
        """Say that it should stop, before the start too."""
        self.stop.set()
        self._going.set()

    def wait(self) -> int | None:
        """Return when to start; None if there will be no start."""
        self._going.wait()
        return None if self.stop.is_set() else self._start_ns


def be_client(
    number: int, factory: Factory, run: Run[Any], gate: Gate, tell: Callable[[Said], object]
) -> None:
    """Be a client: open what is needed, wait for the start, work, close; tell how it went."""
    doing, first = "could not be opened", None
    try:
        with factory(number) as once:
            tell(Said(number, "ready", None, _clock()))
            start_ns = gate.wait()
            if start_ns is not None:
                try:
                    run(once, start_ns, gate.stop)
                except BaseException as error:
                    first = error  # closing a broken connection may raise another one
                    doing = f"failed at operation {run.operation:,}"
                    raise
                tell(Said(number, "done", run.result(), _clock()))
            doing = "could not be closed"
    except BaseException as error:  # noqa: BLE001 (whoever started the load raises it)
        tell(Said(number, "failed", (doing, first or error), _clock()))
    else:
        tell(Said(number, "closed", None, _clock()))
