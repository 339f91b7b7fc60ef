"""A cache under load, on a real Redis: what is counted, not how long it takes."""

from __future__ import annotations

import threading
from contextlib import ExitStack

import pytest

from pglab.cache.experiments import measure_lru, measure_ttl, stampede_of_processes
from pglab.cache.experiments.readers import most_at_once, run_together
from pglab.servers.scratch import ScratchRedis

pytestmark = pytest.mark.server


@pytest.fixture(scope="module")
def server():
    with ScratchRedis() as redis:
        yield redis


@pytest.fixture
def redis(server):
    with server.client() as client:
        client.flushall()
        yield client


def by(rows, name):
    return {row[name]: row for row in rows}


def test_a_stampede_of_processes(redis):
    rows = by(stampede_of_processes(redis, processes=4, threads=3, load_s=0.3), "protection")
    assert rows["lock"]["loads"] == 1
    assert rows["lock"]["readers"] == 12
    assert rows["none"]["loads"] > 4
    assert rows["none"]["at once"] > 1


def test_the_hit_ratio_over_the_ttl(redis):
    rows = measure_ttl(redis, ttls_s=(0.05, 0.5), objects=200, rate=1_000, seconds=1.0)
    assert rows[0]["measured"] < rows[1]["measured"]
    for row in rows:
        assert row["requests"] > 500
        # A machine that stops for a moment lets entries expire while nobody asks.
        assert row["measured"] == pytest.approx(row["theory"], abs=0.15)
    assert redis.keys() == []


def test_the_hit_ratio_of_a_redis_that_is_too_small(redis):
    redis.config_set("maxmemory-policy", "volatile-ttl")
    rows = measure_lru(redis, objects=2_000, requests=3_000, rooms_bytes=(200_000, 400_000))
    assert redis.config_get("maxmemory*")["maxmemory-policy"] == "volatile-ttl"
    assert redis.config_get("maxmemory")["maxmemory"] == "0"
    assert redis.dbsize() == 0
    assert rows[0]["objects held"] < rows[1]["objects held"] < 2_000
    for row in rows:
        assert row["evicted"] > 0
        assert row["theory, random"] < row["theory, LRU"]
        assert row["theory, random"] - 0.05 < row["measured"] < row["theory, LRU"] + 0.05


def test_the_buffers_of_clients_that_leave_are_no_room(server, redis):
    with ExitStack() as stack:
        for _ in range(40):
            client = stack.enter_context(server.client())
            client.set("large", "x" * 200_000)
            client.get("large")
        leaving = threading.Timer(0.05, stack.pop_all().close)
        leaving.start()
        (row,) = measure_lru(redis, objects=3_000, requests=3_000, rooms_bytes=(100_000,))
        leaving.join()
    assert row["evicted"] > 0
    assert row["objects held"] < 600


def test_spans_that_overlap():
    assert most_at_once([]) == 0
    assert most_at_once([(0, 2), (1, 3), (2, 4)]) == 2  # the third begins as the first ends
    assert most_at_once([(0, 9), (1, 9), (2, 9)]) == 3


def test_what_a_reader_raises_gets_out():
    def fail():
        raise LookupError("gone")

    with pytest.raises(LookupError, match="gone"):
        run_together([fail, lambda: None])
