"""Clients that work side by side: opened, started at one moment, ended in bounded time."""

from __future__ import annotations

import math
import os
import select
import threading
import time
from dataclasses import dataclass, field
from typing import Any, Final, Generic, Literal, TypeVar

from pglab.bench.crew import Crew, Factory, Mode, Plan, Said, Threads, no_collection
from pglab.bench.crew_processes import Processes
from pglab.errors import BenchError

__all__ = [
    "Load",
    "Part",
    "check_count",
    "check_seconds",
    "harness_limit",
    "run_clients",
    "wait_until",
]

T = TypeVar("T")

_READY_SECONDS: Final = 60.0  # a new process imports everything anew
_PATIENCE: Final = 2.0  # seconds, for clients to close what they opened
_LEAD_NS: Final = 20_000_000  # from the signal to the start: every client must have heard it
_ENOUGH: Final = 0.9  # of a core: a client that uses so much has no time left to wait
_ALL_BUSY: Final = 0.05  # of all cores' time is idle, or less
_MOST_OF_IT: Final = 0.5
# A sleep ends 100 µs late, 1 in 100 of them 200 µs: a timer's slack of 50 µs, and the waking.
_SPIN_NS: Final = 200_000

_clock = time.perf_counter_ns


@dataclass(frozen=True)
class Part(Generic[T]):
    """What one client brought.

    Attributes:
        finished: False if an operation had not ended when the load was over.
    """

    result: T
    finished: bool


@dataclass(frozen=True)
class Load(Generic[T]):
    """What all clients brought.

    Attributes:
        parts: one for each client, by its number.
        idle_share: of all cores' time while it was measured, 0 to 1; None if nobody can tell.
        start_ns, end_ns: the common start, and when all was over.
    """

    parts: tuple[Part[T], ...]
    idle_share: float | None
    start_ns: int
    end_ns: int


def check_seconds(name: str, value: float, *, zero: bool = False) -> None:
    """Refuse what is no length of time, and no rate.

    Raises:
        BenchError: it is NaN, infinite, negative, or 0 where that has no sense.
    """
    if not math.isfinite(value) or value < 0 or (value == 0 and not zero):
        raise BenchError(f"{name}={value}; give {'0 or more' if zero else 'a number above 0'}")


def check_count(name: str, value: int) -> None:
    """Refuse what is no number of clients.

    Raises:
        BenchError: it is no whole number, or below 1.
    """
    if type(value) is not int or value < 1:
        raise BenchError(f"{name}={value!r}; give a whole number, at least 1")


def wait_until(when_ns: int, stop: threading.Event) -> bool:
    """Wait for a moment of ``perf_counter_ns``; return False if stop was set before.

    Sleeps, and for the last 200 µs looks at the clock again and again: a sleep ends so late that
    a quick operation would seem to take twice as long. At 1,000 a second that is a fifth of a core.
    """
    if (ahead := when_ns - _clock() - _SPIN_NS) > 0 and stop.wait(ahead / 1e9):
        return False
    while _clock() < when_ns:
        _let_others_compute()
    return not stop.is_set()


def run_clients(
    factory: Factory,
    plan: Plan[T],
    *,
    clients: int,
    mode: Mode,
    seconds: float,
    grace_seconds: float,
    warm_up_seconds: float = 0.0,
) -> Load[T]:
    """Open all clients, start them at one moment, and end them in bounded time.

    Args:
        factory: opens a client.
        plan: makes its share of the load.
        clients: how many.
        mode: what a client is.
        seconds: from the common start until the last operation should have ended.
        grace_seconds: how much longer operations are waited for. A process is killed then. A
            thread cannot be: it is left alone, and ends with its operation.
        warm_up_seconds: from the start until what is measured begins.

    Raises:
        BenchError: a client could not be opened, or an operation raised; the first such error is
            the cause.
    """
    crew: Crew = (Threads if mode == "threads" else Processes)(factory, plan, clients)
    board = _Board(crew, clients)
    patience = _PATIENCE
    try:
        with no_collection():
            _begin(crew, clients)
            if not board.hear("ready", until_ns=_clock() + _ns(_READY_SECONDS)):
                late = min(set(range(clients)) - board.ready)
                raise BenchError(
                    f"client {late} was not open after {_READY_SECONDS:.0f} s; use fewer clients, "
                    "or find out what opening it waits for"
                )
            start_ns = _clock() + _LEAD_NS
            crew.go(start_ns)
            board.hear("over", until_ns=start_ns + _ns(warm_up_seconds))
            before = _cpu_times()
            board.hear("over", until_ns=start_ns + _ns(seconds + grace_seconds))
            idle_share = _idle_share(before, _cpu_times())
        if len(board.done) < clients:
            patience = 0.0  # these were waited for, and are at their operations still
        return Load(board.parts(), idle_share, start_ns, _clock())
    except _FailureError:
        crew.stop()
        board.hear("over", until_ns=_clock() + _ns(grace_seconds), despite_failure=True)
        first = min(board.failed, key=lambda said: said.at_ns)
        doing, error = first.value
        raise BenchError(
            f"client {first.number} {doing}: {type(error).__name__}: {error}; the load was stopped"
        ) from error
    finally:
        crew.end(patience)


def _begin(crew: Crew, clients: int) -> None:
    try:
        crew.begin()
    except BenchError:
        raise
    except (OSError, RuntimeError) as error:  # no more threads, processes, open files, memory
        raise BenchError(
            f"not all of {clients} clients can be started ({error}); use fewer"
        ) from error


def harness_limit(
    mode: Mode, shares: list[float], idle_share: float | None, remedy: str = "use processes"
) -> str | None:
    """Return in words how the clients themselves were the limit; None if they were not.

    Args:
        mode: what the clients were.
        shares: of one core that each of them used, CPU time by time on the clock.
        idle_share: of all cores' time.
        remedy: for threads that are too slow.
    """
    together, most = sum(shares), max(shares, default=0.0)
    if mode == "threads" and len(shares) > 1 and together >= _ENOUGH:
        return (
            f"The harness was the limit: its {len(shares)} threads computed for {together:.0%} of "
            f"the time, and one interpreter computes for one of them at a time; {remedy}."
        )
    if most >= _ENOUGH:
        return (
            f"The harness was the limit: client {shares.index(most)} computed for {most:.0%} of "
            "the time and hardly waited for the server; use more clients, or a lighter meter."
        )
    if idle_share is not None and idle_share < _ALL_BUSY:
        # Of the machine's cores, as its idle time is, though we may not run on all of them.
        cores = os.cpu_count() or 1
        taken = together / (cores * (1 - idle_share))
        if taken >= _MOST_OF_IT:
            return (
                f"The harness was the limit: all {cores} cores were busy, for {taken:.0%} with the "
                "clients themselves; use fewer, or another machine for them."
            )
    return None


class _FailureError(Exception):
    """A client failed."""


@dataclass
class _Board:
    """What has been heard of each client."""

    crew: Crew
    clients: int
    ready: set[int] = field(default_factory=set)
    over: set[int] = field(default_factory=set)
    done: dict[int, Any] = field(default_factory=dict)
    failed: list[Said] = field(default_factory=list)

    def hear(
        self, what: Literal["ready", "over"], *, until_ns: int, despite_failure: bool = False
    ) -> bool:
        """Listen until all clients have come so far, or the time is over; return which."""
        arrived = self.ready if what == "ready" else self.over
        while len(arrived) < self.clients:
            if (left := until_ns - _clock()) <= 0:
                return False
            for said in self.crew.hear(left / 1e9):
                self._note(said)
            if self.failed and not despite_failure:
                raise _FailureError
        return True

    def _note(self, said: Said) -> None:
        if said.what == "ready":
            self.ready.add(said.number)
        elif said.what == "done":
            self.done[said.number] = said.value
        elif said.number not in self.over:  # a process that has closed ends without a word
            self.over.add(said.number)
            if said.what == "failed":
                self.failed.append(said)

    def parts(self) -> tuple[Part[Any], ...]:
        return tuple(
            Part(self.done[number], finished=True)
            if number in self.done
            else Part(self.crew.cut(number), finished=False)
            for number in range(self.clients)
        )


def _let_others_compute() -> None:
    # Another thread gets the interpreter meanwhile. Not sleep(0), which takes 80 µs on Linux.
    if os.name == "posix":
        select.select((), (), (), 0)


def _ns(seconds: float) -> int:
    return round(seconds * 1e9)


def _cpu_times() -> tuple[float, float] | None:
    """Return all cores' idle seconds, and all their seconds; None if psutil is not there."""
    try:
        import psutil
    except ImportError:
        return None
    times = psutil.cpu_times()._asdict()
    # A guest's time is part of the user's, too.
    every = sum(value for name, value in times.items() if not name.startswith("guest"))
    return times["idle"] + times.get("iowait", 0.0), every


def _idle_share(
    before: tuple[float, float] | None, after: tuple[float, float] | None
) -> float | None:
    if before is None or after is None or after[1] <= before[1]:
        return None
    return min(max((after[0] - before[0]) / (after[1] - before[1]), 0.0), 1.0)
