"""Open loop: operations at a fixed rate, whether or not the server keeps up, as users come.

Coordinated omission. A client that waits for each answer before it asks again sends nothing while
the server stalls, so that it and the server agree to leave out the worst moments: of a stall of
one second at 1,000 operations a second it notes one slow operation, and a thousand users waited.
So the moments at which operations should begin are drawn beforehand, and each is timed twice:

- response time, from the intended start to the end: what a user waits;
- service time, from the actual start to the end: what a client of a closed loop would have noted.

Source: Gil Tene, "How NOT to Measure Latency" (Strange Loop 2015), and his wrk2
(https://github.com/giltene/wrk2), which measures from the intended start as well. pgbench does the
same with ``--rate`` and calls the difference between the two starts its schedule lag.
"""

from __future__ import annotations

import threading
import time
from array import array
from collections.abc import Iterator
from dataclasses import dataclass
from functools import cached_property
from typing import Final, Literal, get_args

import numpy as np
import numpy.typing as npt

from pglab.bench.clients import (
    Load,
    check_count,
    check_seconds,
    harness_limit,
    run_clients,
    wait_until,
)
from pglab.bench.crew import Factory, Once
from pglab.bench.histogram import Histogram
from pglab.bench.statistics import percentiles
from pglab.bench.words import digits, duration
from pglab.errors import BenchError

__all__ = ["Arrivals", "OpenLoop", "intended_starts", "open_loop"]

Arrivals = Literal["poisson", "constant"]

_MOST: Final = 10_000_000  # operations in a schedule, which is held in memory
_LATE_NS: Final = 1_000_000  # more than any timer is off
_FEW: Final = 0.01  # of the operations, as many as p99 leaves out

_Integers = npt.NDArray[np.int64]


@dataclass(frozen=True)
class OpenLoop:
    """What an open loop measured; all arrays are in the order of the intended starts.

    Attributes:
        rate: operations a second that were asked for.
        seconds: over which their starts were spread.
        arrivals: how.
        clients: connections that shared the work.
        response_ns: from the intended start to the end, of every scheduled operation. One that
            did not end has here what it had waited when the run was ended, a lower bound.
        service_ns: from the actual start to the end, of those that ended.
        lag_ns: from the intended start to the actual one, of those that ended.
        rows: that came.
        elapsed_seconds: until the last end, at least ``seconds``; twice that if some were missed.
        overslept: how many began more than 1 ms late although a client was waiting for them.
        missed: how many were never started.
        unfinished: how many were started and had not ended when the run was.
        limit: in words how the harness itself was the limit; None if it was not.
    """

    rate: float
    seconds: float
    arrivals: Arrivals
    clients: int
    response_ns: _Integers
    service_ns: _Integers
    lag_ns: _Integers
    rows: int
    elapsed_seconds: float
    overslept: int
    missed: int
    unfinished: int
    limit: str | None

    @property
    def scheduled(self) -> int:
        """How many operations there should have been."""
        return len(self.response_ns)

    @property
    def finished(self) -> int:
        """How many ended."""
        return len(self.service_ns)

    @property
    def achieved_rate(self) -> float:
        """Operations a second that ended."""
        return self.finished / self.elapsed_seconds

    @cached_property
    def response(self) -> Histogram:
        """What users waited: of every scheduled operation."""
        return Histogram.of(self.response_ns)

    @cached_property
    def service(self) -> Histogram:
        """What the server took, as a client of a closed loop would have noted it."""
        return Histogram.of(self.service_ns)

    @property
    def behind(self) -> str | None:
        """In words how the system fell behind the schedule; None if it kept up."""
        if self.missed or self.unfinished:
            return (
                f"The system did not keep up: of {self.scheduled:,} operations at "
                f"{digits(self.rate)} a second {self.missed:,} were never started and "
                f"{self.unfinished:,} had not ended when the run was; it did "
                f"{digits(self.achieved_rate)} a second. Their response times are counted as what "
                "they had waited by then: the true ones are longer."
            )
        late = int(np.count_nonzero(self.lag_ns > _LATE_NS)) - self.overslept
        if late <= _FEW * self.scheduled:
            return None
        return (
            f"{late:,} of {self.scheduled:,} operations began more than 1 ms late, at worst "
            f"{duration(int(self.lag_ns.max()) / 1_000)}, because all clients ({self.clients}) "
            "were busy; the response times have it, the service times hide it."
        )

    @property
    def latency_summary(self) -> str:
        """Response and service time in one line: percentiles that the count allows, the worst."""
        return "; ".join(
            f"{kind} time {_summary(times)}"
            for kind, times in {"response": self.response, "service": self.service}.items()
        )


def _summary(times: Histogram) -> str:
    known = {q: us for q, us in percentiles(times).items() if us is not None}
    if times.count:
        known["at most"] = times.max / 1_000
    return ", ".join(f"{q} {duration(us)}" for q, us in known.items()) or "of no operation"


def intended_starts(
    rate: float, seconds: float, arrivals: Arrivals = "poisson", seed: int = 0
) -> _Integers:
    """Return when operations should begin, in ns from the start, rising.

    There are rate × seconds of them. Constant: at equal distances. Poisson: given how many arrivals
    of a Poisson process fall into a time, they are independent and uniform in it (Kingman, Poisson
    Processes, 1993, section 2.4); their distances are exponential, as those of users who know
    nothing of one another.

    Raises:
        BenchError: an argument makes no sense, or the schedule would not fit into memory.
    """
    check_seconds("rate", rate)
    check_seconds("seconds", seconds)
    if arrivals not in get_args(Arrivals):
        raise BenchError(f"arrivals={arrivals!r}; use {' or '.join(get_args(Arrivals))}")
    count = max(round(rate * seconds), 1)
    if count > _MOST:
        raise BenchError(
            f"rate × seconds is {count:,} operations; {_MOST:,} at most can be scheduled: use "
            "fewer seconds or a lower rate"
        )
    moments = np.arange(count) / rate
    if arrivals == "poisson":
        moments = np.sort(np.random.default_rng(seed).random(count)) * seconds
    starts: _Integers = (moments * 1e9).astype(np.int64)
    return starts


def open_loop(
    factory: Factory,
    *,
    rate: float,
    seconds: float,
    clients: int,
    arrivals: Arrivals = "poisson",
    seed: int = 0,
    grace_seconds: float = 1.0,
) -> OpenLoop:
    """Begin operations at a fixed rate, and time them from when they should have begun.

    The clients are threads that take the next operation by turns. They should be so many that one
    of them is always free; where none is, operations wait, and their response time says how long.

    Args:
        factory: given a client's number (from 0), a context manager that yields ``once``;
            ``once(i)`` does operation i of the schedule and returns how many rows came.
        rate: operations a second.
        seconds: over which their starts are spread. What is late is still begun until twice this
            time has passed.
        clients: how many, each with a connection of its own.
        arrivals: ``poisson``, as independent users come, or ``constant``.
        seed: of the schedule.
        grace_seconds: after twice the time, how long operations that have begun are waited for.

    Raises:
        BenchError: an argument makes no sense, a client could not be opened, or an operation
            raised (the message names both, the cause is the operation's error).
    """
    starts = intended_starts(rate, seconds, arrivals, seed)
    check_count("clients", clients)
    check_seconds("grace_seconds", grace_seconds, zero=True)
    last_ns = round(2 * seconds * 1e9)
    numbers = iter(range(len(starts)))
    load = run_clients(
        factory,
        lambda _: _Run(starts, numbers, last_ns),
        clients=clients,
        mode="threads",
        seconds=2 * seconds,
        grace_seconds=grace_seconds,
    )
    return _gathered(load, starts, rate=rate, seconds=seconds, arrivals=arrivals)


@dataclass(frozen=True)
class _Measured:
    """Of the operations that ended; all arrays are of one length.

    Attributes:
        free_ns: when the client had ended the operation before.
        begun: how many it began, one more perhaps than ended.
    """

    numbers: _Integers
    free_ns: _Integers
    began_ns: _Integers
    ended_ns: _Integers
    begun: int
    rows: int
    cpu_ns: int | None


class _Run:
    """One client's work: it takes the next operation, waits for its moment, does it."""

    def __init__(self, starts: _Integers, numbers: Iterator[int], last_ns: int) -> None:
        self._starts = starts
        # Shared by all clients: next() is one step of the interpreter, so no number comes twice.
        self._numbers = numbers
        self._last_ns = last_ns
        self._taken, self._began, self._ended = array("q"), array("q"), array("q")
        self._cpu_ns: int | None = None
        self.rows = 0
        self.operation = 0

    def __call__(self, once: Once, start_ns: int, stop: threading.Event) -> None:
        clock, last_ns = time.perf_counter_ns, start_ns + self._last_ns
        cpu_ns = time.thread_time_ns()
        for number in self._numbers:
            if not wait_until(start_ns + int(self._starts[number]), stop):
                return
            began = clock()
            if began >= last_ns:
                break
            self.operation = number
            self._taken.append(number)
            self._began.append(began)
            rows = once(number)
            self._ended.append(clock())
            self.rows += rows
        self._cpu_ns = time.thread_time_ns() - cpu_ns

    def result(self) -> _Measured:
        # What is copied first is the shortest, as it is appended to last; a copy is one step.
        ended = _integers(self._ended)
        began, taken = _integers(self._began), _integers(self._taken)
        count = len(ended)
        free = np.concatenate([np.zeros(1, np.int64), ended])[:count]
        return _Measured(
            taken[:count], free, began[:count], ended, len(taken), self.rows, self._cpu_ns
        )


def _integers(values: array[int]) -> _Integers:
    return np.frombuffer(values[:], dtype=np.int64)


def _gathered(
    load: Load[_Measured], starts: _Integers, *, rate: float, seconds: float, arrivals: Arrivals
) -> OpenLoop:
    parts = [part.result for part in load.parts]
    numbers, free, began, ended = (
        np.concatenate([getattr(part, name) for part in parts])
        for name in ("numbers", "free_ns", "began_ns", "ended_ns")
    )
    order = np.argsort(numbers)
    numbers, free, began, ended = numbers[order], free[order], began[order], ended[order]
    intended = load.start_ns + starts
    response = load.end_ns - intended
    response[numbers] = ended - intended[numbers]
    lag = began - intended[numbers]
    late = lag > _LATE_NS
    overslept = int(np.count_nonzero(late & (free <= intended[numbers])))
    begun = sum(part.begun for part in parts)
    missed = len(starts) - begun
    # What was never started was given the whole time.
    last_end = (int(ended.max(initial=load.start_ns)) - load.start_ns) / 1e9
    elapsed = max(seconds, last_end, 2 * seconds if missed else 0.0)
    limit = None
    if overslept > _FEW * len(starts):
        limit = (
            f"The harness was the limit: {overslept:,} of {len(starts):,} operations began more "
            "than 1 ms late although a client was waiting for them: the machine, or Python, was "
            "too busy to wake it; use a lower rate, or a machine that does nothing else."
        )
    elif missed + np.count_nonzero(late) > _FEW * len(starts):
        # Clients that are in time may look at the clock all the time that is left: no limit.
        shares = [(part.cpu_ns or 0) / 1e9 / elapsed for part in parts]
        limit = harness_limit("threads", shares, load.idle_share, "use a lower rate")
    return OpenLoop(
        rate=rate,
        seconds=seconds,
        arrivals=arrivals,
        clients=len(parts),
        response_ns=response,
        service_ns=ended - began,
        lag_ns=lag,
        rows=sum(part.rows for part in parts),
        elapsed_seconds=elapsed,
        overslept=overslept,
        missed=missed,
        unfinished=begun - len(numbers),
        limit=limit,
    )
