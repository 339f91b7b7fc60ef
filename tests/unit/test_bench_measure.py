"""The loop on the clock: what it counts, when it stops, and what it leaves as it was."""

from __future__ import annotations

import gc
import itertools
import time

import numpy as np
import pytest

from pglab.bench import measure
from pglab.bench.measure import calibrate, own_cost_ns, quiet, timed_round, warm_up
from pglab.errors import BenchError


def a_round(once, count=5, **more):
    return timed_round(once, 10, count, number=3, place=2, **more)


def test_a_round_does_each_operation_once_in_order():
    done: list[int] = []
    found = a_round(lambda i: done.append(i) or i)
    assert done == [10, 11, 12, 13, 14]
    assert found.rows == sum(done)
    assert found.operations == found.latencies.count == 5
    assert (found.number, found.place) == (3, 2)


def test_times_are_each_operations_own(monkeypatch):
    clock = itertools.count()
    # Each look at the clock is a microsecond after the last: one for the start and two for each.
    monkeypatch.setattr(measure.time, "perf_counter_ns", lambda: next(clock) * 1_000)
    found = a_round(lambda i: 1)
    assert found.median_us == 1.0
    assert found.seconds == 11e-6
    assert found.latencies.percentile(50) == pytest.approx(1_000, rel=0.01)


def test_a_slow_operation_is_in_the_latencies_and_not_in_the_median(monkeypatch):
    readings = iter(np.cumsum([0, 5, 10, 5, 10, 5, 900, 5]) * 1_000)
    monkeypatch.setattr(measure.time, "perf_counter_ns", lambda: int(next(readings)))
    found = a_round(lambda i: 1, count=3)
    assert found.median_us == 10.0
    assert found.latencies.percentile(100) == pytest.approx(900_000, rel=0.01)


def test_operations_that_find_nothing_are_refused():
    with pytest.raises(BenchError, match="2 of 5 operations found no rows, and 0 were drawn to"):
        a_round(lambda i: 0 if i in {11, 13} else 1)
    with pytest.raises(BenchError, match="0 of 5 operations found no rows, and 2 were drawn to"):
        a_round(lambda i: 1, misses=2)
    assert a_round(lambda i: i % 2, misses=3).rows == 2
    assert a_round(lambda i: 0, misses=None).rows == 0


@pytest.mark.parametrize(
    ("median_s", "round_s", "count"),
    [(0.001, 0.1, 100), (0.003, 0.1, 34), (0.1, 0.1, 1), (5.0, 0.1, 1), (1e-9, 0.1, 200_000),
     (0.0, 0.1, 200_000)],
)  # fmt: skip
def test_a_round_has_as_many_operations_as_its_time_takes(median_s, round_s, count):
    assert calibrate(median_s, round_s) == count


def ticking(monkeypatch, durations):
    """Let time stand still but for operations, which take these seconds in turn."""
    now = [0.0]
    take = itertools.chain(durations, itertools.repeat(list(durations)[-1]))
    monkeypatch.setattr(measure.time, "perf_counter", lambda: now[0])

    def once(i):
        seen.append(i)
        now[0] += next(take)
        return 1

    seen: list[int] = []
    return once, seen


def test_a_warm_up_ends_when_times_have_settled(monkeypatch):
    once, seen = ticking(monkeypatch, [9.0, 5.0, 3.0, 1.0])
    found = warm_up(once, 100, batch_s=0.5, limit_s=1_000)
    assert found.stable
    assert found.operations == 7, "three while it became faster, and four alike"
    assert found.median_s == 1.0
    assert seen == list(range(100, 107))


def test_a_warm_up_that_does_not_settle_ends_at_its_limit(monkeypatch):
    once, _ = ticking(monkeypatch, [1.0, 2.0] * 50)
    found = warm_up(once, 0, batch_s=0.5, limit_s=20)
    assert not found.stable
    assert 12 <= found.operations <= 16


def test_a_warm_up_has_the_operations_that_the_server_needs(monkeypatch):
    once, _ = ticking(monkeypatch, [1.0])
    assert warm_up(once, 0, batch_s=0.5, limit_s=1_000).operations == 4
    once, _ = ticking(monkeypatch, [1.0])
    assert warm_up(once, 0, batch_s=0.5, limit_s=1_000, fewest=12).operations == 12
    once, _ = ticking(monkeypatch, [1.0])
    assert warm_up(once, 0, batch_s=0.0, limit_s=0.0, fewest=1).operations == 1


def test_an_operation_that_raises_ends_the_warm_up():
    with pytest.raises(ZeroDivisionError):
        warm_up(lambda i: 1 // 0, 0, batch_s=0.1, limit_s=1)


@pytest.mark.parametrize("enabled", [True, False])
def test_the_garbage_collector_is_put_back(enabled):
    was = gc.isenabled()
    try:
        (gc.enable if enabled else gc.disable)()
        inside = []

        def fail():
            inside.append(gc.isenabled())
            raise KeyError

        with pytest.raises(KeyError), quiet():
            fail()
        assert inside == [False]
        assert gc.isenabled() == enabled
    finally:
        (gc.enable if was else gc.disable)()


def test_the_loops_own_cost_is_a_small_time():
    found = own_cost_ns(1_000)
    assert 0 < found < 1e6  # a nanosecond to a millisecond: any machine, however busy
    assert time.perf_counter_ns() > 0
