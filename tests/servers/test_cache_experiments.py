"""The cache's failures, made to happen on a real Redis: what is counted, not how long it takes."""

from __future__ import annotations

import time

import pytest

from pglab.cache.experiments import (
    avalanche,
    has_set_lock,
    hot_key,
    measure_lru,
    measure_ttl,
    stampede,
    stampede_of_processes,
    token_lock,
)
from pglab.cache.experiments.readers import most_at_once, run_together
from pglab.errors import ConfigError
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


def load(key):
    time.sleep(0.2)
    return {"key": key}


def by(rows, name):
    return {row[name]: row for row in rows}


def test_a_stampede_of_threads(redis):
    rows = by(stampede(redis, load, readers=50), "protection")
    assert list(rows) == ["none", "early", "lock"]
    assert rows["lock"]["loads"] == 1
    # All begin together, and a load lasts long: who finds the entry already came very late.
    assert rows["none"]["loads"] > 25
    assert rows["none"]["at once"] > 10
    assert rows["early"]["loads"] > 25


def test_a_stampede_of_processes(redis):
    rows = by(stampede_of_processes(redis, processes=4, threads=3, load_s=0.3), "protection")
    assert rows["lock"]["loads"] == 1
    assert rows["lock"]["readers"] == 12
    assert rows["none"]["loads"] > 4
    assert rows["none"]["at once"] > 1


def test_a_hot_key_that_expires_again_and_again(redis):
    rows = by(hot_key(redis, readers=8, ttl_s=0.3, load_s=0.1, seconds=1.0), "policy")
    assert rows["lock"]["at once"] == rows["early"]["at once"] == rows["stale"]["at once"] == 1
    assert rows["none"]["at once"] > 1
    assert rows["none"]["loads"] > rows["lock"]["loads"]
    assert all(row["reads"] >= row["loads"] > 0 for row in rows.values())
    # Nobody waits for a refresh behind the scenes.
    assert rows["lock"]["waited"] > rows["stale"]["waited"]


def test_entries_of_one_ttl_expire_together(redis):
    rows = avalanche(redis, keys=100, ttl_s=1.0, seconds=1.6)
    assert [row["at_s"] for row in rows if not row["jitter"]] == [i / 10 for i in range(16)]
    equal = [row["loads"] for row in rows if row["jitter"] == 0.0]
    spread = [row["loads"] for row in rows if row["jitter"] == 0.5]
    assert sum(equal[:9]) == 0  # not one before its time
    assert sum(equal) == 100  # each once, after a TTL
    assert sum(spread[4:10]) > 80
    assert sum(spread) >= 100
    assert sum(count > 0 for count in spread[:10]) >= 4
    with pytest.raises(ConfigError, match="0 slots"):
        avalanche(redis, seconds=0.01, slot_s=1)


def test_two_clients_hold_the_lock_made_of_has_and_set(redis):
    assert [row["holders"] for row in has_set_lock(redis)] == [
        "nobody", "nobody", "A", "A and B", "B", "B", "B and C",
    ]  # fmt: skip
    assert redis.keys() == []


def test_one_holds_the_lock_with_a_token(redis):
    rows = token_lock(redis)
    assert [row["holders"] for row in rows] == ["A", "A", "A", "nobody", "B"]
    assert [row["answer"] for row in rows] == [True, None, 0, 1, True]
    assert redis.keys() == []


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


def test_spans_that_overlap():
    assert most_at_once([]) == 0
    assert most_at_once([(0, 2), (1, 3), (2, 4)]) == 2  # the third begins as the first ends
    assert most_at_once([(0, 9), (1, 9), (2, 9)]) == 3


def test_what_a_reader_raises_gets_out():
    def fail():
        raise LookupError("gone")

    with pytest.raises(LookupError, match="gone"):
        run_together([fail, lambda: None])
