"""Cache-aside on a real Redis: each way that a read can be answered, and each that a write can."""

from __future__ import annotations

import logging
import threading
import time
from typing import Any

import psycopg
import pytest
from cache_support import Loader, wait_until

from pglab.cache import STEPS, CacheAside, KeySpace, invalidating
from pglab.errors import ConfigError
from pglab.servers.scratch import ScratchRedis

pytestmark = pytest.mark.server

NAME = "thing:v1:a"
ALL = pytest.mark.parametrize("protection", ["lock", "early", "none"])


@pytest.fixture(scope="module")
def server():
    with ScratchRedis() as redis:
        yield redis


@pytest.fixture
def redis(server):
    with server.client() as client:
        client.flushall()
        yield client


@pytest.fixture
def loader():
    return Loader()


@pytest.fixture
def make(redis, loader):
    made = []

    def open_cache(load=loader, **settings):
        given: dict[str, Any] = {"keys": KeySpace("thing"), "value_type": dict[str, int]}
        made.append(CacheAside(redis, load, **{**given, "timeout_s": 5, **settings}))
        return made[-1]

    yield open_cache
    for cache in made:
        cache.close()


# Reading


@ALL
@pytest.mark.parametrize("serialization", ["json", "msgpack"])
def test_a_miss_loads_and_a_hit_does_not(make, loader, redis, protection, serialization):
    cache = make(protection=protection, serialization=serialization)
    assert [cache.get("a") for _ in range(3)] == [{"n": 1}] * 3
    assert loader.calls == ["a"]
    counts = cache.metrics
    assert (counts.misses, counts.hits, counts.loads, counts.stores) == (1, 2, 1, 1)
    assert (counts.reads, counts.hit_ratio) == (3, 2 / 3)
    assert redis.keys() == [NAME.encode()]


def test_another_process_finds_it(make, loader):
    make().get("a")
    assert make().get("a") == {"n": 1}
    assert loader.calls == ["a"]


def test_redis_forgets_after_the_ttl(make, loader, redis):
    cache = make(ttl_s=60, jitter=0.5, stale_s=5)
    cache.get("a")
    assert 35_000 - 2_000 < redis.pttl(NAME) <= 65_000
    redis.delete(NAME)  # as it does in the end
    cache.get("a")
    assert loader.calls == ["a", "a"]


def test_what_does_not_exist_is_remembered_for_a_shorter_time(make, loader, redis):
    cache = make(ttl_s=600, negative_ttl_s=20)
    assert [cache.get("no") for _ in range(3)] == [None] * 3
    assert loader.calls == ["no"]
    assert cache.metrics.negative == 2
    assert 0 < redis.pttl("thing:v1:no") <= 20_000
    loader.rows["no"] = {"n": 5}
    cache.invalidate("no")
    assert cache.get("no") == {"n": 5}


def test_a_loaders_error_gets_out_and_is_not_remembered(make, loader):
    cache = make()
    loader.error = LookupError("the database is away")
    with pytest.raises(LookupError, match="the database is away"):
        cache.get("a")
    loader.error = None
    assert cache.get("a") == {"n": 1}
    assert cache.metrics.load_errors == 1


def test_what_is_too_large_is_served_and_not_stored(make, loader, redis):
    loader.rows["a"] = {"x" * 2_000: 1}
    cache = make(max_bytes=1_000)
    assert [len(cache.get("a")) for _ in range(3)] == [1, 1, 1]
    assert (cache.metrics.oversize, cache.metrics.stores) == (1, 0)
    assert redis.strlen(NAME) < 100
    assert redis.pttl(NAME) > 0


def test_what_cannot_be_written_is_served_and_not_stored(make, loader):
    loader.rows["a"] = odd = object()
    cache = make(value_type=Any)
    assert cache.get("a") is odd
    assert cache.metrics.oversize == 1


@pytest.mark.parametrize(
    "spoil",
    [
        lambda redis, raw: redis.set(NAME, b"rubbish that is longer than a marker"),
        lambda redis, raw: redis.set(NAME, raw[:-3]),
        lambda redis, raw: redis.set(NAME, raw.replace(b"[1,", b"[2,")),
        lambda redis, raw: redis.set(NAME, raw.replace(b'{"n":1}', b'{"n":"1"}')),
        lambda redis, raw: redis.set(NAME, redis.get("thing:v1:b")),
        lambda redis, raw: (redis.delete(NAME), redis.lpush(NAME, "a list")),
        lambda redis, raw: (redis.delete(NAME), redis.hset(NAME, "a", "hash")),
    ],
    ids=["rubbish", "truncated", "version", "type", "another key's", "list", "hash"],
)
@ALL
def test_a_poisoned_entry_is_a_miss_and_is_replaced(make, loader, redis, spoil, protection):
    loader.rows["b"] = {"n": 2}
    cache = make(protection=protection, load_many=loader.many)
    cache.get("a")
    cache.get("b")
    spoil(redis, redis.get(NAME))
    assert cache.get("a") == {"n": 1}
    assert (cache.metrics.poisoned, cache.metrics.misses) == (1, 3)
    assert cache.get("a") == {"n": 1}
    assert cache.metrics.hits == 1
    assert cache.metrics.breaker == "closed"


def test_a_version_has_keys_of_its_own(make, loader, redis):
    make().get("a")
    make(keys=KeySpace("thing", version=2), value_type=dict[str, float]).get("a")
    assert loader.calls == ["a", "a"]
    assert sorted(redis.keys()) == [b"thing:v1:a", b"thing:v2:a"]


@pytest.mark.parametrize("key", ["", "a\0b", 1.5])
def test_a_key_that_is_none_is_refused_before_anything_happens(make, loader, key):
    cache = make(load_many=loader.many)
    for ask in (cache.get, cache.invalidate, lambda key: cache.get_many(["a", key])):
        with pytest.raises(ConfigError):
            ask(key)
    assert loader.calls == []


@pytest.mark.parametrize("key", ["two words", "a:b", "Ünïcødé ✓", "x" * 1_000_000, "-7"])
def test_odd_keys_work(make, loader, key):
    loader.rows[key] = {"n": 3}
    cache = make()
    assert cache.get(key) == cache.get(key) == {"n": 3}
    assert (loader.calls, cache.metrics.hits) == ([key], 1)


# Several at once


def test_many_are_read_with_one_question_for_what_is_missing(make, loader, redis):
    loader.rows |= {"b": {"n": 2}, "c": {"n": 3}}
    cache = make(load_many=loader.many)
    cache.get("a")
    everything = {"a": {"n": 1}, "b": {"n": 2}, "no": None, "c": {"n": 3}}
    assert cache.get_many(["a", "b", "no", "c", "a"]) == everything
    assert loader.calls == ["a", ("b", "no", "c")]
    assert cache.get_many(everything) == everything
    assert cache.get("c") == {"n": 3}
    assert len(loader.calls) == 2
    counts = cache.metrics
    assert (counts.hits, counts.negative, counts.misses, counts.stores) == (1 + 3 + 1, 1, 4, 4)
    assert cache.get_many([]) == {}


def test_many_do_not_store_what_was_invalidated_meanwhile(make, loader, redis):
    loader.rows["b"] = {"n": 2}
    cache = make(load_many=loader.many)
    loader.meanwhile = lambda: cache.invalidate("b")
    cache.get_many(["a", "b"])
    assert redis.keys() == [NAME.encode()]
    assert cache.metrics.refused == 1


def test_many_give_their_leases_back_when_the_loader_fails(make, loader, redis):
    def fail():
        raise LookupError("away")

    loader.meanwhile = fail
    with pytest.raises(LookupError):
        make(load_many=loader.many).get_many(["a", "b"])
    assert redis.keys() == []


def test_many_without_a_loader_for_them_say_so(make):
    with pytest.raises(ConfigError, match="load_many"):
        make().get_many(["a"])


# Past its time, and before it


def test_what_is_past_its_time_is_served_while_one_refreshes_it(make, loader):
    cache = make(ttl_s=0.05, jitter=0, stale_s=60)
    cache.get("a")
    time.sleep(0.06)
    loader.rows["a"], loader.takes_s = {"n": 2}, 0.1
    assert [cache.get("a") for _ in range(10)] == [{"n": 1}] * 10
    wait_until("refreshed", lambda: cache.get("a") == {"n": 2})
    assert cache.metrics.stale >= 10
    assert loader.most == 1


def test_of_several_processes_one_refreshes(make, loader):
    caches = [make(ttl_s=0.05, jitter=0, stale_s=60) for _ in range(4)]
    caches[0].get("a")
    time.sleep(0.06)
    loader.takes_s = 0.3
    for cache in caches:
        cache.get("a")
    wait_until("begun", lambda: len(loader.calls) == 2)
    time.sleep(0.1)
    assert loader.calls == ["a", "a"]


def test_a_refresh_that_fails_leaves_the_stale_entry(make, loader):
    cache = make(ttl_s=0.05, jitter=0, stale_s=60)
    cache.get("a")
    time.sleep(0.06)
    loader.error = LookupError("the database is away")
    assert cache.get("a") == {"n": 1}
    wait_until("failed", lambda: cache.metrics.load_errors == 1)
    assert cache.get("a") == {"n": 1}


def test_an_invalidation_overtakes_a_refresh(make, loader, redis):
    cache = make(ttl_s=0.05, jitter=0, stale_s=60)
    cache.get("a")
    time.sleep(0.06)
    loader.meanwhile = lambda: cache.invalidate("a")
    assert cache.get("a") == {"n": 1}
    wait_until("refused", lambda: cache.metrics.refused == 1)
    assert redis.get(NAME) is None


def test_xfetch_refreshes_before_the_end(make, loader):
    cache = make(protection="early", ttl_s=1, jitter=0, beta=1e9)
    loader.takes_s = 0.002
    cache.get("a")
    loader.rows["a"] = {"n": 2}
    assert cache.get("a") == {"n": 2}
    assert (cache.metrics.hits, cache.metrics.early, cache.metrics.stores) == (1, 1, 2)
    calm = make(protection="early", ttl_s=1000, beta=1e-9)
    assert calm.get("a") == {"n": 2}
    assert calm.metrics.early == 0


def test_an_early_refresh_that_fails_leaves_the_entry(make, loader):
    cache = make(protection="early", ttl_s=1, jitter=0, beta=1e9)
    loader.takes_s = 0.002
    cache.get("a")
    loader.error = LookupError("the database is away")
    assert cache.get("a") == {"n": 1}
    assert cache.metrics.load_errors == 1


# Writing


@ALL
def test_after_an_invalidation_everybody_sees_the_change(make, loader, protection):
    here, there = make(protection=protection), make(protection=protection)
    assert here.get("a") == there.get("a") == {"n": 1}
    loader.rows["a"] = {"n": 2}
    assert here.invalidate("a") is True
    assert here.get("a") == there.get("a") == {"n": 2}
    assert here.metrics.invalidated == 1


@ALL
def test_who_read_before_the_write_does_not_store_after_it(make, loader, redis, protection):
    reader, writer = make(protection=protection), make()

    def write():
        loader.meanwhile = None
        loader.rows["a"] = {"n": 2}
        assert writer.invalidate("a")

    loader.meanwhile = write  # after the reader has seen the old row
    assert reader.get("a") == {"n": 1}  # it began before the write
    assert reader.metrics.refused == 1
    assert reader.get("a") == writer.get("a") == {"n": 2}


def test_without_leases_it_does(make, loader):
    """The race that leases are the remedy for."""
    reader, writer = make(protection="none", leases=False), make()

    def write():
        loader.meanwhile = None
        loader.rows["a"] = {"n": 2}
        assert writer.invalidate("a")

    loader.meanwhile = write
    assert reader.get("a") == {"n": 1}
    assert reader.get("a") == writer.get("a") == {"n": 1}  # for as long as the TTL lasts


@pytest.mark.parametrize("other", [False, True], ids=["this process", "another process"])
def test_who_comes_after_a_write_joins_no_load_from_before(make, loader, other):
    reader = make()
    writer = make() if other else reader
    begun, go_on = threading.Event(), threading.Event()

    def hold():
        loader.meanwhile = None
        begun.set()
        assert go_on.wait(30)

    loader.meanwhile = hold
    got = []
    first = threading.Thread(target=lambda: got.append(reader.get("a")))
    first.start()
    assert begun.wait(30)
    loader.rows["a"] = {"n": 2}
    assert writer.invalidate("a")
    assert reader.get("a") == {"n": 2}  # while the old load is still under way
    go_on.set()
    first.join()
    assert got == [{"n": 1}]
    assert reader.get("a") == {"n": 2}


def test_a_load_that_outlasts_its_lease_is_not_stored(make, loader, redis):
    cache = make(lease_s=0.05)
    loader.takes_s = 0.1
    assert cache.get("a") == {"n": 1}
    assert cache.metrics.refused == 1
    assert redis.get(NAME) is None


def test_a_refresh_that_outlasts_its_lease_is_not_stored(make, loader):
    """What it read may be older than an invalidation that Redis has not received."""
    cache = make(ttl_s=0.05, jitter=0, stale_s=60, lease_s=0.05)
    cache.get("a")
    time.sleep(0.06)
    loader.rows["a"], loader.takes_s = {"n": 2}, 0.1
    assert cache.get("a") == {"n": 1}
    wait_until("refused", lambda: cache.metrics.refused == 1)
    assert cache.metrics.stores == 1


# After the commit


@pytest.fixture
def connection(database):
    with psycopg.connect(database, autocommit=True) as connection:
        connection.execute("CREATE TABLE things (name text PRIMARY KEY, n integer)")
        connection.execute("INSERT INTO things VALUES ('a', 1)")
        yield connection


@pytest.fixture
def things(make, database):
    def load(name):
        with psycopg.connect(database) as connection:
            row = connection.execute("SELECT n FROM things WHERE name = %s", (name,)).fetchone()
        return None if row is None else {"n": row[0]}

    return make(load)


def test_keys_go_when_the_transaction_has_committed(connection, things):
    assert things.get("a") == {"n": 1}
    with invalidating(connection) as outdated:
        connection.execute("UPDATE things SET n = 2")
        outdated.add(things, "a")
        assert things.get("a") == {"n": 1}
        assert outdated.applied is None
    assert outdated.applied is True
    assert things.get("a") == {"n": 2}


def test_when_they_go_everybody_sees_the_commit(connection, make, database):
    seen = []

    def look(event):
        if event.step == "invalidate":
            with psycopg.connect(database) as other:
                seen.append(other.execute("SELECT n FROM things").fetchone())

    cache = make(on_event=look)
    with invalidating(connection) as outdated:
        connection.execute("UPDATE things SET n = 2")
        outdated.add(cache, "a")
    assert seen == [(2,)]


def test_a_rollback_invalidates_nothing(connection, things):
    things.get("a")
    with pytest.raises(LookupError), invalidating(connection) as outdated:  # noqa: PT012
        connection.execute("UPDATE things SET n = 2")
        outdated.add(things, "a")
        raise LookupError
    assert things.get("a") == {"n": 1}
    assert (things.metrics.invalidated, things.metrics.hits) == (0, 1)


def test_a_lost_connection_may_have_committed(connection, things, server_url):
    things.get("a")
    with (  # noqa: PT012
        pytest.raises(psycopg.OperationalError),
        invalidating(connection) as outdated,
    ):
        outdated.add(things, "a")
        with psycopg.connect(server_url) as admin:
            admin.execute("SELECT pg_terminate_backend(%s)", (connection.info.backend_pid,))
        wait_until("ended", lambda: not _alive(server_url, connection.info.backend_pid))
    assert things.metrics.invalidated == 1


def _alive(url, pid):
    with psycopg.connect(url) as admin:
        found = admin.execute("SELECT 1 FROM pg_stat_activity WHERE pid = %s", (pid,))
        return found.fetchone() is not None


def test_within_a_transaction_it_would_be_too_early(connection, things):
    with (
        connection.transaction(),
        pytest.raises(ConfigError, match="in a transaction already"),
        invalidating(connection),
    ):
        raise AssertionError


# Looking on


def test_each_step_can_be_seen(make, loader):
    events = []
    cache = make(on_event=events.append)
    cache.get("a")
    cache.get("a")
    cache.invalidate("a")
    assert [event.step for event in events] == ["miss", "load", "store", "hit", "invalidate"]
    assert {event.key for event in events} == {NAME}
    assert events[1].seconds >= 0
    assert {event.step for event in events} <= set(STEPS)


def test_a_hook_that_fails_is_told_and_breaks_no_read(make, caplog):
    def hook(event):
        raise ZeroDivisionError

    with caplog.at_level(logging.ERROR):
        assert make(on_event=hook).get("a") == {"n": 1}
    assert "on_event failed at miss" in caplog.text


def test_a_setting_that_cannot_be_used_is_named(make):
    for settings in ({"failures": 0}, {"reset_s": 0}, {"ttl_s": 0}, {"serialization": "pickle"}):
        with pytest.raises(ConfigError, match=next(iter(settings))):
            make(**settings)


def test_it_shows_no_secret(server):
    from redis import Redis

    client = Redis(unix_socket_path=str(server.socket), password="sesame")
    with CacheAside(client, Loader(), keys=KeySpace("thing"), value_type=int) as cache:
        assert "sesame" not in repr(cache) + repr(cache.metrics) + repr(cache.policy)
    client.close()
