"""One variant on the clock: warming up, finding how many operations a round needs, the round.

The loop costs something for each operation: two readings of the clock and a call. ``own_cost_ns``
measures that with an operation that does nothing; it is kept with the results.
"""

from __future__ import annotations

import gc
import math
import statistics
import time
from array import array
from collections.abc import Callable, Iterator
from contextlib import contextmanager
from dataclasses import dataclass
from typing import Final

import numpy as np

from pglab.bench.histogram import Histogram
from pglab.bench.results import Round
from pglab.errors import BenchError

__all__ = ["WarmUp", "calibrate", "own_cost_ns", "quiet", "timed_round", "warm_up"]

_STABLE: Final = 0.05
_WINDOW: Final = 4
_MOST_OPERATIONS: Final = 200_000

Once = Callable[[int], int]


@dataclass(frozen=True)
class WarmUp:
    """What came before the counting.

    Attributes:
        operations: how many were done.
        median_s: of the last batch's operations.
        stable: the medians had stopped moving.
    """

    operations: int
    median_s: float
    stable: bool


@contextmanager
def quiet() -> Iterator[None]:
    """Keep Python's garbage collector out of the way, as ``timeit`` does; and put it back."""
    enabled = gc.isenabled()
    gc.collect()
    gc.disable()
    try:
        yield
    finally:
        if enabled:
            gc.enable()


def warm_up(once: Once, first: int, *, batch_s: float, limit_s: float, fewest: int = 0) -> WarmUp:
    """Run until the medians of four batches on end lie within 5 %, or the limit is reached.

    Args:
        once: the operation.
        first: its first number.
        batch_s: seconds of a batch; each has one operation at least.
        limit_s: seconds after which it is given up, and noted.
        fewest: operations that there must be in any case. PostgreSQL plans a prepared statement
            for each of the first five executions, and only then may settle for a general plan.
    """
    began = time.perf_counter()
    medians: list[float] = []
    done = 0
    while True:
        taken: list[float] = []
        batch_began = now = time.perf_counter()
        while not taken or now - batch_began < batch_s:
            once(first + done)
            done += 1
            before, now = now, time.perf_counter()
            taken.append(now - before)
        medians.append(statistics.median(taken))
        recent = medians[-_WINDOW:]
        stable = len(recent) == _WINDOW and max(recent) <= min(recent) * (1 + _STABLE)
        if done >= fewest and (stable or now - began >= limit_s):
            return WarmUp(done, medians[-1], stable)


def calibrate(median_s: float, round_s: float) -> int:
    """Return how many operations a round needs to last ``round_s`` seconds, one at least."""
    return min(_MOST_OPERATIONS, max(1, math.ceil(round_s / max(median_s, 1e-9))))


def timed_round(
    once: Once,
    first: int,
    count: int,
    *,
    number: int,
    place: int,
    misses: int | None = 0,
) -> Round:
    """Do ``count`` operations and return what they took, each of them timed.

    Args:
        once: the operation; how many rows it returns is checked afterwards.
        first: number of the first operation.
        count: how many.
        number: of the round.
        place: of this variant within the round.
        misses: how many of them were drawn to find nothing; None: any number may.

    Raises:
        BenchError: another number of them found nothing.
    """
    clock = time.perf_counter_ns
    taken = array("q")
    keep = taken.append
    rows = empty = 0
    began = clock()
    for i in range(first, first + count):
        start = clock()
        found = once(i)
        keep(clock() - start)
        rows += found
        empty += not found
    ended = clock()
    if misses is not None and empty != misses:
        raise BenchError(
            f"{empty} of {count} operations found no rows, and {misses} were drawn to; "
            "what is looked up must be there: correct the statement or Draw.query"
        )
    latencies = np.frombuffer(taken, dtype=np.int64)
    return Round(
        number=number,
        place=place,
        seconds=(ended - began) / 1e9,
        median_us=float(np.median(latencies)) / 1e3,
        rows=rows,
        latencies=Histogram.of(latencies),
    )


def own_cost_ns(operations: int = 20_000) -> float:
    """Return what the loop itself takes for an operation, in ns: the median of nothing at all."""
    with quiet():
        found = timed_round(lambda _: 1, 0, operations, number=1, place=1)
    return found.seconds / operations * 1e9
