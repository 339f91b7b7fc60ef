"""Closed loop: N clients, each of which begins its next operation when the last one has ended.

So many users with no time to think: it finds how much a server can do. It says little about how
long users wait, because clients that wait for a stalled server send nothing meanwhile: of the many
who would have come, each client notes one slow operation. ``pglab.bench.open_loop`` is for that.
"""

from __future__ import annotations

import threading
import time
from array import array
from dataclasses import dataclass
from functools import cached_property
from typing import Final, Literal, get_args

import numpy as np
import numpy.typing as npt

from pglab.bench.clients import (
    check_count,
    check_seconds,
    harness_limit,
    run_clients,
    wait_until,
)
from pglab.bench.crew import Factory, Mode, Once
from pglab.bench.crew_processes import pickled
from pglab.bench.histogram import Histogram
from pglab.errors import BenchError

__all__ = ["ClientLoad", "ClosedLoop", "closed_loop"]

Wanted = Literal["auto", "threads", "processes"]

_CALIBRATION_SECONDS: Final = 0.1
_CALIBRATION_WARM_UP: Final = 0.05
_HALF: Final = 0.5  # of one interpreter's time; above it threads begin to wait for one another


@dataclass(frozen=True)
class ClientLoad:
    """What one client measured.

    Attributes:
        latencies_ns: of each operation, in the order they were done.
        rows: that came.
        seconds: from its first operation's start to its last one's end.
        cpu_share: of one core that it used, CPU time by time on the clock; None if it had to be
            left in the middle of an operation.
        finished: False if it had to be left so.
    """

    latencies_ns: npt.NDArray[np.int64]
    rows: int
    seconds: float
    cpu_share: float | None
    finished: bool = True

    @property
    def operations(self) -> int:
        """How many operations ended."""
        return len(self.latencies_ns)


@dataclass(frozen=True)
class ClosedLoop:
    """What a closed loop measured.

    Attributes:
        mode: what the clients were.
        reason: why, in words.
        seconds: that were asked for, after the warm-up.
        clients: what each of them measured.
        idle_share: of all cores' time, 0 to 1; None without psutil.
        limit: in words how the harness itself was the limit; None if it was not.
    """

    mode: Mode
    reason: str
    seconds: float
    clients: tuple[ClientLoad, ...]
    idle_share: float | None
    limit: str | None

    @cached_property
    def latencies_ns(self) -> npt.NDArray[np.int64]:
        """Of all operations, one client's after the other's."""
        return np.concatenate([client.latencies_ns for client in self.clients])

    @cached_property
    def latencies(self) -> Histogram:
        """Of all operations together."""
        return Histogram.of(self.latencies_ns)

    @property
    def operations(self) -> int:
        """How many operations ended."""
        return sum(client.operations for client in self.clients)

    @property
    def rows(self) -> int:
        """How many rows came."""
        return sum(client.rows for client in self.clients)

    @property
    def unfinished(self) -> int:
        """How many operations had not ended when the load was over, at most one of a client."""
        return sum(not client.finished for client in self.clients)

    @property
    def operations_per_second(self) -> float:
        """Throughput of all clients: the sum of theirs, each over its own time."""
        return sum(each.operations / each.seconds for each in self.clients if each.seconds)

    @property
    def notes(self) -> tuple[str, ...]:
        """Sentences that whoever reads the numbers should know."""
        left = (
            f"{self.unfinished} operations had not ended when the load was over, and are not among "
            "the latencies: the slowest are missing."
        )
        return tuple(
            note for note in (self.limit, left if self.unfinished else None) if note is not None
        )


def closed_loop(
    factory: Factory,
    *,
    clients: int,
    seconds: float,
    mode: Wanted = "auto",
    warm_up_seconds: float = 0.5,
    grace_seconds: float = 5.0,
) -> ClosedLoop:
    """Let clients work without a pause for a bounded time.

    Args:
        factory: given a client's number (from 0), a context manager that yields ``once``;
            ``once(i)`` does operation i and returns how many rows came. For processes it must be
            picklable: a function at the top of a module.
        clients: how many.
        seconds: that are measured. An operation that has begun is waited for, and each client
            does at least one.
        mode: what a client is: a thread, a process, or whichever is not itself the limit.
        warm_up_seconds: of the same load before.
        grace_seconds: how long an operation may last beyond the end until its client is left.

    Raises:
        BenchError: an argument makes no sense, a client could not be opened, an operation raised
            (the message names both, the cause is the operation's error), or none ended.
    """
    check_count("clients", clients)
    check_seconds("seconds", seconds)
    check_seconds("warm_up_seconds", warm_up_seconds, zero=True)
    check_seconds("grace_seconds", grace_seconds, zero=True)
    if mode not in get_args(Wanted):
        raise BenchError(f"mode={mode!r}; use {', '.join(get_args(Wanted))}")
    chosen, reason = (
        _choose(factory, clients, grace_seconds) if mode == "auto" else (mode, "asked for")
    )
    plan = _Plan(round(warm_up_seconds * 1e9), round(seconds * 1e9))
    load = run_clients(
        factory,
        plan,
        clients=clients,
        mode=chosen,
        seconds=warm_up_seconds + seconds,
        grace_seconds=grace_seconds,
        warm_up_seconds=warm_up_seconds,
    )
    found = tuple(_client_load(part.result, finished=part.finished) for part in load.parts)
    if not any(client.operations for client in found):
        within = warm_up_seconds + seconds + grace_seconds
        raise BenchError(
            f"no operation ended within {within:.3g} s (warm-up, time and grace together); give "
            "more seconds, or find out what it waits for"
        )
    shares = [client.cpu_share or 0.0 for client in found]
    limit = harness_limit(chosen, shares, load.idle_share)
    return ClosedLoop(chosen, reason, seconds, found, load.idle_share, limit)


def _choose(factory: Factory, clients: int, grace_seconds: float) -> tuple[Mode, str]:
    """Return what clients should be, and why."""
    if clients == 1:
        return "threads", "one client needs no other process"
    alone = closed_loop(
        factory,
        clients=1,
        seconds=_CALIBRATION_SECONDS,
        mode="threads",
        warm_up_seconds=_CALIBRATION_WARM_UP,
        grace_seconds=grace_seconds,
    ).clients[0]
    share = alone.cpu_share or 0.0
    seen = f"a client alone computes for {share:.0%} of an operation, {clients} for "
    seen += f"{share * clients:.0%} of one interpreter's time"
    if share * clients <= _HALF:
        return "threads", f"{seen}: they mostly wait, and threads do"
    try:
        pickled(factory, _Plan(0, 0))
    except BenchError as error:
        return "threads", f"{seen}, and processes would be better, but {error}"
    return "processes", f"{seen}: as threads they would wait for one another"


@dataclass(frozen=True)
class _Measured:
    latencies_ns: npt.NDArray[np.int64]
    rows: int
    elapsed_ns: int
    cpu_ns: int | None


def _client_load(measured: _Measured, *, finished: bool) -> ClientLoad:
    cpu, elapsed = measured.cpu_ns, measured.elapsed_ns
    return ClientLoad(
        measured.latencies_ns,
        measured.rows,
        elapsed / 1e9,
        None if cpu is None or not elapsed else cpu / elapsed,
        finished,
    )


@dataclass(frozen=True)
class _Plan:
    warm_up_ns: int
    seconds_ns: int

    def __call__(self, number: int) -> _Run:
        del number  # all clients do the same
        return _Run(self)


class _Run:
    """One client's work."""

    def __init__(self, plan: _Plan) -> None:
        self._plan = plan
        self._latencies = array("q")
        self._began_ns = self._ended_ns = 0
        self._cpu_ns: int | None = None
        self.rows = 0
        self.operation = 0

    def __call__(self, once: Once, start_ns: int, stop: threading.Event) -> None:
        clock, record, stopped = time.perf_counter_ns, self._latencies.append, stop.is_set
        if not wait_until(start_ns, stop):
            return
        timed_ns = start_ns + self._plan.warm_up_ns
        end_ns = timed_ns + self._plan.seconds_ns
        while clock() < timed_ns and not stopped():
            once(self.operation)
            self.operation += 1
        cpu_ns = time.thread_time_ns()
        self._began_ns = clock()
        while not stopped():
            began = clock()
            rows = once(self.operation)
            ended = clock()
            record(ended - began)
            self.rows += rows
            self.operation += 1
            self._ended_ns = ended
            if ended >= end_ns:
                break
        self._cpu_ns = time.thread_time_ns() - cpu_ns

    def result(self) -> _Measured:
        # The copy is one step of the interpreter: nothing is appended meanwhile.
        latencies = np.frombuffer(self._latencies[:], dtype=np.int64)
        elapsed = max(self._ended_ns - self._began_ns, 0)
        return _Measured(latencies, self.rows, elapsed, self._cpu_ns)
